//! Tests of the index: see below.
