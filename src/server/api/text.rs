//! The two text encodings that requests and answers need: percent-encoding and base64.
//!
//! Strict on purpose: what is not exactly the encoding is refused, never repaired, so that one value has one spelling
//! and two programs cannot read the same bytes differently. Lengths are bounded by whoever read the bytes.

/// What a `+` stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::server) enum Plus {
    /// A space, as in forms and query strings.
    Space,
    /// Itself, as in paths.
    Itself,
}

/// Takes `%41` for `A`, and nothing else for anything. `None` when a `%` is not followed by two hex digits.
pub(in crate::server) fn percent_decode(text: &[u8], plus: Plus) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            b'+' if plus == Plus::Space => b' ',
            other => other,
        });
    }
    Some(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Which 64 characters, and whether `=` fills the last group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::server) enum Base64 {
    /// RFC 4648, section 4, with padding: HTTP Basic.
    Standard,
    /// RFC 4648, section 5, without padding: thumbprints (R8705-03).
    Url,
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Base64 {
    fn digits(self) -> &'static [u8; 64] {
        match self {
            Self::Standard => STANDARD,
            Self::Url => URL,
        }
    }

    /// Writes `bytes` in this alphabet.
    pub(in crate::server) fn encode(self, bytes: &[u8]) -> String {
        let digits = self.digits();
        let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for group in bytes.chunks(3) {
            let word = group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for place in 0..=group.len() {
                let digit = word >> (18 - 6 * place) & 63;
                text.push(char::from(digits[digit as usize]));
            }
            if self == Self::Standard {
                text.extend(std::iter::repeat_n('=', 3 - group.len()));
            }
        }
        text
    }

    /// Reads `text`. `None` for a foreign character, wrong padding, white space, or bits left over that are not zero.
    pub(in crate::server) fn decode(self, text: &str) -> Option<Vec<u8>> {
        let digits = self.digits();
        let text = match self {
            Self::Url => text,
            Self::Standard if !text.len().is_multiple_of(4) => return None,
            Self::Standard => match text.strip_suffix("==") {
                Some(short) => short,
                None => text.strip_suffix('=').unwrap_or(text),
            },
        };
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
        for group in text.as_bytes().chunks(4) {
            let mut word = 0_u32;
            for byte in group {
                let digit = digits.iter().position(|digit| digit == byte)?;
                word = word << 6 | u32::try_from(digit).ok()?;
            }
            let whole = match group.len() {
                4 => 3,
                3 => 2,
                2 => 1,
                _ => return None,
            };
            word <<= 6 * (4 - group.len());
            let [_, a, b, c] = word.to_be_bytes();
            let (kept, left) = ([a, b, c], 24 - 8 * whole);
            if word & ((1 << left) - 1) != 0 {
                return None;
            }
            bytes.extend(kept.into_iter().take(whole));
        }
        Some(bytes)
    }

    /// Reads exactly 32 bytes.
    pub(in crate::server) fn decode_32(self, text: &str) -> Option<[u8; 32]> {
        self.decode(text)?.try_into().ok()
    }
}
