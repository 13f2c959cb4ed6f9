//! What was touched lately, in the order of the list; bounded, and certain about what it does not know any more.

use std::collections::VecDeque;

use super::tags::{Tag, Touch};
use crate::domain::Sequence;

/// The last touches, and where the list is.
pub(super) struct Ring {
    /// Ascending; a change touches one thing, so no sequence stands here twice.
    touches: VecDeque<(Sequence, Touch)>,
    most: usize,
    /// Everything that was touched after this stands in `touches`.
    floor: Sequence,
    head: Sequence,
    /// How often everybody was told to start over.
    generation: u64,
    /// Where the list was when that happened last: whoever stood there or before may not have heard of it.
    forgotten: Option<Sequence>,
}

/// What stands in the ring after some place.
pub(super) enum After {
    /// Nothing.
    Nothing,
    /// It is not known any more.
    Lost,
    /// These tags were touched up to this place; `None`: everything was.
    Touched { up_to: Sequence, everything: bool },
}

impl Ring {
    pub(super) fn new(head: Sequence, most: usize) -> Self {
        Self { touches: VecDeque::new(), most, floor: head, head, generation: 0, forgotten: None }
    }

    pub(super) fn head(&self) -> Sequence {
        self.head
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Adds what the change at `sequence` touched; sequences come in ascending order.
    pub(super) fn push(&mut self, sequence: Sequence, touch: Touch) {
        if touch == Touch::Nothing {
            return;
        }
        if self.touches.len() >= self.most
            && let Some((lost, _)) = self.touches.pop_front()
        {
            self.floor = lost;
        }
        self.touches.push_back((sequence, touch));
    }

    /// Everything up to here was pushed.
    pub(super) fn advance(&mut self, head: Sequence) {
        self.head = self.head.max(head);
    }

    /// Everybody starts over, and nobody resumes from here or before.
    pub(super) fn forget(&mut self) {
        self.generation += 1;
        self.forgotten = Some(self.head);
    }

    /// Whether a follower that stood at `sequence` can go on there.
    pub(super) fn has_all_after(&self, sequence: Sequence) -> bool {
        let since_forgotten = self.forgotten.is_none_or(|forgotten| sequence > forgotten);
        since_forgotten && sequence >= self.floor && sequence <= self.head
    }

    /// The last place up to `sequence` at which anything was touched, or at which nobody knows.
    pub(super) fn last_touch_up_to(&self, sequence: Sequence) -> Sequence {
        let before = self.touches.partition_point(|(at, _)| *at <= sequence);
        let last = before.checked_sub(1).and_then(|last| self.touches.get(last));
        last.map_or(self.floor.min(sequence), |(at, _)| *at)
    }

    /// The tags touched after `told`, at most `most` of them, into `tags`.
    pub(super) fn after(&self, told: Sequence, most: usize, tags: &mut Vec<Tag>) -> After {
        tags.clear();
        if told < self.floor {
            return After::Lost;
        }
        let first = self.touches.partition_point(|(at, _)| *at <= told);
        let untold = self.touches.len() - first;
        if untold == 0 {
            return After::Nothing;
        }
        let (mut up_to, mut everything) = (self.head, false);
        for (at, touch) in self.touches.range(first..).take(most) {
            match touch {
                Touch::Tag(tag) => tags.push(*tag),
                Touch::Everything => everything = true,
                Touch::Nothing => {}
            }
            if untold > most {
                up_to = *at;
            }
        }
        if everything {
            tags.clear();
        }
        After::Touched { up_to, everything }
    }
}
