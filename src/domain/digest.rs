//! What stands for a token: the digest callers send, the keyed form that is kept, the handle that may be printed.
//!
//! The token string itself is never stored, logged, or sent on the native protocol. Three forms stand for it:
//!
//! ```text
//! token string ──SHA-256──► TokenDigest (32 bytes) ──SipHash-2-4-128, keyed by the pepper──► TokenKey (16 bytes)
//!  never kept                as sent by callers                                              as kept and compared
//! ```
//!
//! **Why a keyed hash.** A caller chooses digests freely. Without a key it could choose where they land in the table
//! (hash flooding), learn by timing how much of a stored prefix it guessed, and anybody who stole a snapshot could
//! confirm guesses against it. With a secret 128-bit pepper the kept form is unpredictable to all of them.
//!
//! **Why SipHash-2-4 with 128 bits of output.** It is a pseudo-random function made for short inputs under a secret
//! key, which is all that is asked of it: one-wayness already comes from SHA-256, which callers (or the HTTPS door)
//! apply first. It costs a fifth of HMAC-SHA-256 here. Its limit, stated: whoever holds the pepper *and* a caller's
//! credential *and* a snapshot could compute a digest that matches a kept key, because SipHash is not collision
//! resistant against its own key holder. That is somebody who has already read the server's memory or its key file.
//! The pepper file names its algorithm, so another can take its place.
//!
//! **Why 128 bits, all compared.** A false match is a false accept. With 10⁸ tokens a guess hits one with 2⁻¹⁰¹.

use std::fmt;

use siphasher::sip128::SipHasher24;

/// SHA-256 of a token string: what callers send instead of the token. Its `Debug` shows eight hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token string, byte for byte as the client sent it: nothing is trimmed, folded or decoded.
    pub fn of(token: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, token);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// The digest with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 lower-case hex digits, as `sha256sum` prints them.
    pub fn parse_hex(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({}…)", to_hex(&self.0[..4]))
    }
}

/// The secret key under which digests become [`TokenKey`]s: 16 random bytes, made once for a data directory.
///
/// `Debug` shows nothing of it; it is wiped when dropped.
#[derive(Clone)]
pub struct Pepper {
    low: u64,
    high: u64,
}

impl Pepper {
    /// The pepper with these 16 bytes.
    pub fn from_bytes(bytes: &[u8; 16]) -> Self {
        let (low, high) = bytes.split_at(8);
        let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap_or_default());
        Self { low: word(low), high: word(high) }
    }

    /// The 16 bytes again, for whoever writes the secrets file anew; to be wiped after use.
    pub fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (low, high) = bytes.split_at_mut(8);
        low.copy_from_slice(&self.low.to_le_bytes());
        high.copy_from_slice(&self.high.to_le_bytes());
        bytes
    }

    /// The kept form of a digest.
    #[inline]
    pub fn key(&self, digest: &TokenDigest) -> TokenKey {
        let hash = SipHasher24::new_with_keys(self.low, self.high).hash(&digest.0);
        let mut key = [0; 16];
        key[..8].copy_from_slice(&hash.h1.to_le_bytes());
        key[8..].copy_from_slice(&hash.h2.to_le_bytes());
        TokenKey(key)
    }

    /// Eight bytes that name this pepper without revealing it: a snapshot says which pepper its keys were made with.
    pub fn fingerprint(&self) -> u64 {
        let hash = SipHasher24::new_with_keys(self.low, self.high).hash(b"tokenscope pepper fingerprint v1");
        hash.h1
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

impl Drop for Pepper {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.low.zeroize();
        self.high.zeroize();
    }
}

/// The kept identity of a token: 128 bits of keyed hash, compared whole. Not a secret, and not a credential: no door
/// accepts one where a token or digest is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenKey([u8; 16]);

impl TokenKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The key as four little-endian words, as the index keeps it.
    #[inline]
    pub fn words(&self) -> [u32; 4] {
        let b = &self.0;
        [
            u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_le_bytes([b[12], b[13], b[14], b[15]]),
        ]
    }

    /// The reverse of [`TokenKey::words`].
    #[inline]
    pub fn from_words(words: [u32; 4]) -> Self {
        let mut bytes = [0; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Self(bytes)
    }

    /// The public name of the token, RFC 7662's `jti`: safe to print, finds the token again, opens nothing.
    pub fn handle(&self) -> TokenHandle {
        TokenHandle(*self)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({}…)", to_hex(&self.0[..4]))
    }
}

/// A token's public handle: `t` and 32 hex digits. It may stand in logs, lists and answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHandle(TokenKey);

impl TokenHandle {
    /// Parses `t` and 32 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text.strip_prefix('t')?).map(|bytes| Self(TokenKey(bytes)))
    }

    /// The kept identity this handle names.
    pub fn key(&self) -> TokenKey {
        self.0
    }
}

impl fmt::Display for TokenHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("t")?;
        self.0.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower-case hex digits of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parses exactly `2 * N` lower-case hex digits; upper case is refused, so that one value has one spelling.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
