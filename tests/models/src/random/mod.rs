//! Very many random schedules, by shuttle.
