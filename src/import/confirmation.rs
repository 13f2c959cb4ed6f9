//! The `cnf` member (RFC 7800) as JSON: `{"x5t#S256": …}`, `{"jkt": …}`, or another object, kept as it came.

use serde_json::Value;

use crate::domain::Confirmation;
use crate::domain::token::CONFIRMATION_BYTES_MAX;

/// The digits of base64url (RFC 4648, section 5).
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Reads a `cnf` object.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn from_json(value: &Value) -> Result<Confirmation, String> {
    let object = value.as_object().ok_or("\"cnf\" is not an object")?;
    let only = |name: &str| object.get(name).filter(|_| object.len() == 1);
    let thumbprint = |name: &str, value: &Value| {
        let bytes = value.as_str().and_then(decode);
        bytes.ok_or_else(|| format!("{name:?} in \"cnf\" is not a base64url SHA-256 of 43 characters"))
    };
    if let Some(value) = only("x5t#S256") {
        return thumbprint("x5t#S256", value).map(Confirmation::Certificate);
    }
    if let Some(value) = only("jkt") {
        return thumbprint("jkt", value).map(Confirmation::DpopKey);
    }
    let text = value.to_string();
    match (object.is_empty(), text.len()) {
        (true, _) => Err("\"cnf\" is empty; leave it out for a bearer token".into()),
        (_, bytes) if bytes > CONFIRMATION_BYTES_MAX => {
            Err(format!("\"cnf\" is {bytes} bytes long; at most {CONFIRMATION_BYTES_MAX} are allowed"))
        }
        _ => Ok(Confirmation::Other(text.into())),
    }
}

/// Writes a `cnf` object.
pub fn to_json(confirmation: &Confirmation) -> Value {
    match confirmation {
        Confirmation::Certificate(sha256) => serde_json::json!({ "x5t#S256": encode(sha256) }),
        Confirmation::DpopKey(sha256) => serde_json::json!({ "jkt": encode(sha256) }),
        Confirmation::Other(json) => serde_json::from_str(json).unwrap_or(Value::Null),
    }
}

/// base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(word >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

/// The reverse of [`encode`] for 32 bytes; `None` for anything that [`encode`] would not write.
pub fn decode(text: &str) -> Option<[u8; 32]> {
    if text.len() != 43 {
        return None;
    }
    let mut bytes = Vec::with_capacity(33);
    let (mut word, mut bits) = (0u32, 0u32);
    for digit in text.bytes() {
        let value = DIGITS.iter().position(|known| *known == digit)? as u32;
        word = word << 6 | value;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
        word &= (1 << bits) - 1;
    }
    // Bits left over must be zero: one value has one spelling.
    if word != 0 { None } else { bytes.try_into().ok() }
}
