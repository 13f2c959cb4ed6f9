//! Durations and sizes as words: `250ms`, `15s`, `1h`, `64KiB`, `8MiB`.
//!
//! One number, one unit, nothing between; no fractions, no sums, no bare numbers. So a value has one meaning, and a
//! forgotten unit is an error instead of a guess. What is printed can be read back.

use std::time::Duration;

/// Why a text is not a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// No digits at the beginning, or something that is no unit after them.
    #[error("`{text}` is not {what}; write one whole number and one unit, for example {example}")]
    Shape {
        /// The text, as it was given (at most 32 characters of it).
        text: String,
        /// What was expected, in words.
        what: &'static str,
        /// What would have been accepted.
        example: &'static str,
    },
    /// The number does not fit.
    #[error("`{text}` is too large for {what}")]
    TooLarge {
        /// The text, as it was given.
        text: String,
        /// What was expected, in words.
        what: &'static str,
    },
}

/// Units of time, in milliseconds, largest first.
const TIME: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Units of size, in bytes, largest first.
const SIZE: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Parses a duration: a whole number of `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// [`WordsError`] names the text and shows an example.
pub fn parse_duration(text: &str) -> Result<Duration, WordsError> {
    parse(text, &TIME, "a duration", "250ms, 15s, 5m or 1h").map(Duration::from_millis)
}

/// Parses a size: a whole number of `B`, `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// [`WordsError`] names the text and shows an example.
pub fn parse_size(text: &str) -> Result<u64, WordsError> {
    parse(text, &SIZE, "a size", "512B, 64KiB or 8MiB")
}

/// A duration in the largest unit that divides it; parts of a millisecond are dropped.
pub fn duration_words(duration: Duration) -> String {
    print(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &TIME, "0s")
}

/// A size in the largest unit that divides it.
pub fn size_words(bytes: u64) -> String {
    print(bytes, &SIZE, "0B")
}

fn parse(text: &str, units: &[(&str, u64)], what: &'static str, example: &'static str) -> Result<u64, WordsError> {
    let shown = || text.chars().take(32).collect::<String>();
    let shape = || WordsError::Shape { text: shown(), what, example };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(shape)?;
    if number.is_empty() {
        return Err(shape());
    }
    let number: Option<u64> = number.parse().ok();
    number.and_then(|n| n.checked_mul(*factor)).ok_or_else(|| WordsError::TooLarge { text: shown(), what })
}

fn print(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return zero.to_owned();
    }
    let exact = units.iter().find(|(_, factor)| value.is_multiple_of(*factor));
    exact.map_or_else(|| value.to_string(), |(name, factor)| format!("{}{name}", value / factor))
}
