//! The token strings we mint, and what can be said of a string without looking it up.
//!
//! ```text
//! tks_4RfX…30 random base62 characters (178 bits)…k9 0aB3xZ
//! └┬┘ └─────────────────────┬──────────────────────┘ └──┬──┘
//!  prefix, [a-z]{2,8}, "_"   random part                 CRC-32 (IEEE) of the random part, 6 base62 characters
//! ```
//!
//! The prefix lets secret scanners find leaked tokens; the checksum lets the door refuse a mistyped one without a
//! look-up. Neither is security: that is the 178 random bits. Strings without our prefix are other issuers' tokens and
//! are never judged here.

use super::digest::TokenDigest;

/// The digits of base62, in the order of their values.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random characters in a minted token: 62³⁰ > 2¹⁷⁸.
const RANDOM_CHARS: usize = 30;
/// Checksum characters: 62⁶ > 2³².
const CHECK_CHARS: usize = 6;
/// The longest token string that is looked at, in bytes; anything longer cannot be a token.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// What minted tokens of this deployment begin with: 2 to 8 letters `a` to `z`, without the underscore.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenPrefix(Box<str>);

impl TokenPrefix {
    /// The prefix `text`; `None` unless it is 2 to 8 lower-case letters.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (2..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase());
        fits.then(|| Self(text.into()))
    }

    /// The letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A new token from `random`, which is called for unbiased base62 digits (values 0 to 61).
    ///
    /// # Errors
    /// Whatever `random` fails with: a token without randomness is never made.
    pub fn mint<E>(&self, mut random: impl FnMut() -> Result<u8, E>) -> Result<String, E> {
        let mut token = String::with_capacity(self.0.len() + 1 + RANDOM_CHARS + CHECK_CHARS);
        token.push_str(&self.0);
        token.push('_');
        let start = token.len();
        for _ in 0..RANDOM_CHARS {
            token.push(char::from(BASE62[usize::from(random()? % 62)]));
        }
        let check = checksum(&token.as_bytes()[start..]);
        token.extend(check.map(char::from));
        Ok(token)
    }

    /// What the string alone tells.
    pub fn judge(&self, token: &[u8]) -> Plausibility {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Plausibility::Junk;
        }
        let ours = token.strip_prefix(self.0.as_bytes()).and_then(|rest| rest.strip_prefix(b"_"));
        match ours {
            None => Plausibility::Possible,
            Some(rest) if rest.len() == RANDOM_CHARS + CHECK_CHARS => {
                let (random, check) = rest.split_at(RANDOM_CHARS);
                if checksum(random) == check { Plausibility::Possible } else { Plausibility::Junk }
            }
            Some(_) => Plausibility::Junk,
        }
    }
}

/// What can be said of a token string without a look-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plausibility {
    /// It may be a token; ask the index about this digest.
    Possible,
    /// It cannot be one.
    Junk,
}

fn checksum(random: &[u8]) -> [u8; CHECK_CHARS] {
    let mut value = crc32fast::hash(random);
    let mut check = [b'0'; CHECK_CHARS];
    for place in check.iter_mut().rev() {
        *place = BASE62[(value % 62) as usize];
        value /= 62;
    }
    check
}

/// Hashes a token and wipes the caller's copy of it.
pub fn digest_and_wipe(mut token: Vec<u8>) -> TokenDigest {
    use zeroize::Zeroize;
    let digest = TokenDigest::of(&token);
    token.zeroize();
    digest
}
