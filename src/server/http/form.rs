//! `application/x-www-form-urlencoded` bodies and query strings, read strictly and within bounds.
//!
//! R6749-01: no parameter twice, credentials included, not even one we do not know. R6749-02: an unknown parameter is
//! ignored, an empty one is as good as absent. What is not exactly the encoding is refused. Values are wiped when the
//! form is dropped: one of them may be a token or a secret.

use zeroize::Zeroize;

use crate::server::api::text::{Plus, percent_decode};

/// The most parameters in one form.
pub(super) const PARAMETERS_MAX: usize = 64;

/// Why a body is not a form. Never repeats what was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FormError {
    /// A `%` without two hex digits.
    Encoding,
    /// A parameter stands there twice.
    Repeated,
    /// More than [`PARAMETERS_MAX`].
    TooMany,
}

impl FormError {
    /// The sentence for the error's description.
    pub(super) const fn explanation(self) -> &'static str {
        match self {
            Self::Encoding => "the body is not well-formed: a % must be followed by two hex digits",
            Self::Repeated => "a parameter stands in the request twice; each may stand there once",
            Self::TooMany => "the body has more than 64 parameters",
        }
    }
}

/// A form: names and values, decoded.
#[derive(Default)]
pub(super) struct Form(Vec<(Vec<u8>, Vec<u8>)>);

impl Form {
    /// Reads a body or a query string that has been bounded already.
    pub(super) fn parse(text: &[u8]) -> Result<Self, FormError> {
        let mut form = Self::default();
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if form.0.len() == PARAMETERS_MAX {
                return Err(FormError::TooMany);
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
            let name = percent_decode(name, Plus::Space).ok_or(FormError::Encoding)?;
            let value = percent_decode(value, Plus::Space).ok_or(FormError::Encoding)?;
            if form.0.iter().any(|(taken, _)| *taken == name) {
                return Err(FormError::Repeated);
            }
            form.0.push((name, value));
        }
        Ok(form)
    }

    /// The bytes of a parameter; `None` when it is absent or empty.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(known, _)| known == name.as_bytes());
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    /// The text of a parameter; `None` when it is absent or empty.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, FormError> {
        self.bytes(name).map(std::str::from_utf8).transpose().map_err(|_| FormError::Encoding)
    }

    /// Takes the bytes of a parameter out, for whoever wipes them.
    pub(super) fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let (_, value) = self.0.iter_mut().find(|(known, _)| known == name.as_bytes())?;
        Some(std::mem::take(value)).filter(|value| !value.is_empty())
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            value.zeroize();
        }
    }
}
