//! The platform's own names for things: subjects, clients, workspaces, projects, callers, and our numbers for grants.
//!
//! Ids are the platform's strings, kept byte for byte and compared byte for byte: no trimming, no case folding, no
//! Unicode normalisation. What may stand in one is decided here, once, when it is parsed; past that point an invalid
//! id cannot exist. This file does not know what an id refers to, nor whether it exists.

use std::fmt;

/// The longest id, in bytes. Long enough for a URI or an e-mail address, short enough to answer from a packet.
pub const ID_BYTES_MAX: usize = 128;

/// Why a text is not an id (or a place, or a scope name).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{kind} is empty; give 1 to {ID_BYTES_MAX} visible ASCII characters")]
    Empty {
        /// What was being parsed, in words.
        kind: &'static str,
    },
    /// The text is longer than [`ID_BYTES_MAX`] bytes.
    #[error("{kind} is {bytes} bytes long; at most {ID_BYTES_MAX} are allowed")]
    TooLong {
        /// What was being parsed, in words.
        kind: &'static str,
        /// Its length, in bytes.
        bytes: usize,
    },
    /// A byte that cannot stand in this kind of id.
    #[error("{kind} has the byte 0x{byte:02x} at offset {offset}; {allowed}")]
    BadByte {
        /// What was being parsed, in words.
        kind: &'static str,
        /// The offending byte.
        byte: u8,
        /// Where it stands, from 0.
        offset: usize,
        /// What would have been accepted.
        allowed: &'static str,
    },
}

/// Visible ASCII without the two characters that would have to be escaped in a header or in JSON.
fn is_id_byte(byte: u8) -> bool {
    (0x21..=0x7e).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// Checks `text` as one id; `slash` says whether `/` may stand in it (it may not in the parts of a place).
pub(crate) fn check_id(text: &str, kind: &'static str, slash: Slash) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong { kind, bytes: text.len() });
    }
    let bad = |byte: u8| !is_id_byte(byte) || (byte == b'/' && slash == Slash::Refused);
    if let Some(offset) = text.bytes().position(bad) {
        let byte = text.as_bytes()[offset];
        let allowed = match slash {
            Slash::Allowed => "visible ASCII without \" and \\ is allowed",
            Slash::Refused => "visible ASCII without \" \\ and / is allowed",
        };
        return Err(IdError::BadByte { kind, byte, offset, allowed });
    }
    Ok(())
}

/// Whether `/` may stand in an id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slash {
    Allowed,
    Refused,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $slash:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses the id; nothing is trimmed or folded.
            ///
            /// # Errors
            /// [`IdError`] says which byte is wrong, and where.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_id(text, $kind, Slash::$slash)?;
                Ok(Self(text.into()))
            }

            /// The id as the platform wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &self.0)
            }
        }
    };
}

text_id!(
    /// A user or a service account of the platform; RFC 7662's `sub`.
    SubjectId, "the subject", Allowed
);
text_id!(
    /// An OAuth client: the registered app a token was issued to. [`ClientId::personal`] stands for personal tokens.
    ClientId, "the client", Allowed
);
text_id!(
    /// A workspace, the platform's tenant.
    WorkspaceId, "the workspace", Refused
);
text_id!(
    /// A resource server a token is meant for; RFC 7662's `aud`.
    Audience, "the audience", Allowed
);
text_id!(
    /// Who speaks to us: an API server, an issuer, an administrator. Named in the journal beside each change.
    CallerId, "the caller", Allowed
);

/// The text of [`ClientId::personal`].
pub const PERSONAL: &str = "personal";

impl ClientId {
    /// The built-in client of personal access tokens. It is always registered and cannot be disabled, only kept out
    /// of a workspace by that workspace's policy.
    pub fn personal() -> Self {
        Self(PERSONAL.into())
    }
}

/// A grant, by the number the writer gave it: 1, 2, 3, … in the order of the list, never used twice.
///
/// Written `g17` wherever a person or JSON sees it, so that it cannot be mistaken for another number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantId(u32);

impl GrantId {
    /// The largest number a grant can have; the index keeps one bit beside it.
    pub const MAX: u32 = (1 << 31) - 1;

    /// The grant with this number; `None` for 0 and beyond [`GrantId::MAX`].
    pub fn new(number: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Parses `g17`. `None` for anything else, leading zeros included: one grant has one spelling.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('g')?;
        if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Self::new(digits.parse().ok()?)
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}
