//! What an issuer tells us of a token, beside its grant: its times, its audience, its binding.

use super::time::{Expiry, Timestamp};

/// The longest confirmation value of a method we do not know, in bytes of JSON.
pub const CONFIRMATION_BYTES_MAX: usize = 1_024;

/// When a token is good: `iat`, `nbf`, `exp` of RFC 7662, section 2.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TokenTimes {
    /// When it was issued; "issued before T" marks compare with this.
    pub issued: Timestamp,
    /// Not active before this moment; usually the moment of issue.
    pub not_before: Timestamp,
    /// Not active from this moment on.
    pub expiry: Expiry,
}

/// What a token is bound to: the `cnf` member (RFC 7800). A binding is kept and always shown, never dropped, because
/// the API server has to check it.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Confirmation {
    /// `x5t#S256`: SHA-256 of the DER form of the caller's certificate (RFC 8705, section 3.1).
    Certificate([u8; 32]),
    /// `jkt`: SHA-256 thumbprint of the DPoP key (RFC 9449, section 6.1).
    DpopKey([u8; 32]),
    /// A method we do not know, as the JSON object the issuer sent; kept and returned (house row R9449-04).
    Other(Box<str>),
}
