// Included beside a text of the near-cache: what stands around it.

/// What the client answers.
pub mod answer {
    /// As in the client.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Decision {
        Allowed,
        Denied(tokenscope::domain::Denial),
        Inactive,
    }
}

/// Nobody counts here.
pub mod counters {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Count {
        Hit,
        NotHeld,
        Touched,
        Aged,
        TimeOver,
        NoLease,
        OtherScope,
        NotKept,
        DrivenOut,
        BeyondLease,
    }

    pub struct Tallies;

    impl Tallies {
        pub fn new() -> Self {
            Self
        }

        pub fn bump(&self, _: Count) {}
    }
}
