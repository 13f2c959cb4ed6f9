//! A question, what its answer has to be, and the comparison of the two.
//!
//! Everything the other parts exchange is here, so that none of them has to know another: the workload makes
//! questions, a driver turns them into bytes and bytes into [`Said`], and [`judge`] decides whether that was right.

use std::fmt;

/// What is asked, of which token, and what has to come back.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// SHA-256 of the token.
    pub digest: [u8; 32],
    /// Where the token's string comes from, for drivers that send strings.
    pub origin: Origin,
    /// What is asked of it.
    pub ask: Ask,
    /// What has to come back.
    pub expect: Expect,
}

#[cfg(test)]
impl Question {
    /// What a token with this digest of one byte, repeated, is, when nobody knows it: for the tests of drivers.
    pub fn of_unknown(byte: u8) -> Self {
        let digest = [byte; 32];
        Self { digest, origin: Origin { owner: 0, number: 0 }, ask: Ask::Introspect, expect: Expect::inactive(&digest) }
    }
}

/// The number of a token string: see `tokenscope::samples::token_string`. It is computed only by who needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whose token.
    pub owner: u64,
    /// Which one.
    pub number: u64,
}

/// What is asked of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What is it?
    Introspect,
    /// May it do this there? Scope and place by their numbers in the population; what they are called on the wire is
    /// the driver's to know.
    Check {
        /// Index into the population's scopes.
        scope: u8,
        /// Index into the population's places.
        place: u32,
    },
}

/// What has to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The verdict.
    pub verdict: Verdict,
    /// When an active token ends, in seconds since 1970; `u32::MAX`: never.
    pub expiry: u32,
    /// The number of the user an active token belongs to; [`ANYBODY`]: not compared.
    pub owner: u32,
    /// The first bytes of the digest: what a peer that only keeps values has to give back.
    pub mark: u64,
}

/// The owner of whom nothing is expected.
pub const ANYBODY: u32 = u32::MAX;

/// The outcome that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An introspection of an active token.
    Active,
    /// Any question about a token that is not.
    Inactive,
    /// A check.
    Allowed,
    /// A check of an active token for what it may not do.
    Denied,
}

/// What an answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Active, until then, of this user ([`ANYBODY`] if the form of the answer does not tell).
    Active {
        /// `exp`; `u32::MAX`: never.
        expiry: u32,
        /// The user's number.
        owner: u32,
    },
    /// Not active.
    Inactive,
    /// It may.
    Allowed,
    /// It may not.
    Denied,
    /// A peer that keeps values found this one.
    Found {
        /// Its first bytes.
        mark: u64,
    },
    /// A peer that keeps values has none.
    Missing,
    /// A peer that always says the same said it.
    Same,
    /// No verdict, and why.
    Refused(Refused),
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// The native protocol's error code.
    Code(u8),
    /// An HTTP status other than 200.
    Status(u16),
    /// The client library's deadline passed.
    Deadline,
    /// Another failure of the peer or of the library.
    Other,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => {
                let known = tokenscope::wire::ErrorCode::from_code(*code);
                write!(f, "error {code} ({})", known.map_or("unknown", tokenscope::wire::ErrorCode::as_str))
            }
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::Deadline => f.write_str("deadline passed"),
            Self::Other => f.write_str("failed"),
        }
    }
}

impl Expect {
    /// What a question about a token that is not active has to bring.
    pub fn inactive(digest: &[u8; 32]) -> Self {
        Self { verdict: Verdict::Inactive, expiry: 0, owner: ANYBODY, mark: mark(digest) }
    }
}

/// The first bytes of a digest.
pub fn mark(digest: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// How an answer compares with what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is right.
    Right,
    /// It is a verdict, and not the right one.
    Wrong,
    /// It is no verdict.
    NoVerdict(Refused),
}

/// Whether an answer is right.
///
/// A peer that keeps values is right if it finds what was put there and nothing else: that a token has ended is not
/// its business, so the tokens that are not active were never put there.
pub fn judge(expect: &Expect, said: Said) -> Judgement {
    let right = match (said, expect.verdict) {
        (Said::Refused(why), _) => return Judgement::NoVerdict(why),
        (Said::Active { expiry, owner }, Verdict::Active) => {
            expiry == expect.expiry && (owner == expect.owner || owner == ANYBODY || expect.owner == ANYBODY)
        }
        (Said::Inactive | Said::Missing, Verdict::Inactive) => true,
        (Said::Allowed, Verdict::Allowed) | (Said::Denied, Verdict::Denied) => true,
        (Said::Found { mark }, Verdict::Active | Verdict::Allowed | Verdict::Denied) => mark == expect.mark,
        (Said::Same, _) => true,
        _ => false,
    };
    if right { Judgement::Right } else { Judgement::Wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(verdict: Verdict) -> Expect {
        Expect { verdict, expiry: 100, owner: 7, mark: 9 }
    }

    #[test]
    fn only_the_right_answer_is_right() {
        use Judgement::{Right, Wrong};
        let active = Said::Active { expiry: 100, owner: 7 };
        let rows = [
            (Verdict::Active, active, Right),
            (Verdict::Active, Said::Active { expiry: 101, owner: 7 }, Wrong),
            (Verdict::Active, Said::Active { expiry: 100, owner: 8 }, Wrong),
            (Verdict::Active, Said::Active { expiry: 100, owner: ANYBODY }, Right),
            (Verdict::Active, Said::Inactive, Wrong),
            (Verdict::Active, Said::Found { mark: 9 }, Right),
            (Verdict::Active, Said::Found { mark: 8 }, Wrong),
            (Verdict::Inactive, Said::Inactive, Right),
            (Verdict::Inactive, Said::Missing, Right),
            (Verdict::Inactive, active, Wrong),
            (Verdict::Inactive, Said::Found { mark: 9 }, Wrong),
            (Verdict::Allowed, Said::Allowed, Right),
            (Verdict::Allowed, Said::Denied, Wrong),
            (Verdict::Allowed, Said::Inactive, Wrong),
            (Verdict::Denied, Said::Denied, Right),
            (Verdict::Denied, Said::Allowed, Wrong),
            (Verdict::Active, Said::Refused(Refused::Code(8)), Judgement::NoVerdict(Refused::Code(8))),
        ];
        for (verdict, said, wanted) in rows {
            assert_eq!(judge(&expect(verdict), said), wanted, "{verdict:?} {said:?}");
        }
    }
}
