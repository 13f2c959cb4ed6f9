//! Numbers from words and words from numbers: rates, durations, counts.

use std::time::Duration;

/// The highest rate that may be asked for, per second.
pub const RATE_MAX: f64 = 1e9;

/// The longest duration that may be asked for: nothing here runs for ever.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3_600);

/// `50`, `20k`, `1.5M`, each with or without `/s`.
///
/// # Errors
/// Not a number, not more than 0, or beyond [`RATE_MAX`].
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = parse_number(text.strip_suffix("/s").unwrap_or(text))?;
    if rate > 0.0 && rate <= RATE_MAX {
        Ok(rate)
    } else {
        Err(format!("{text} is no rate between 0 and 1G per second"))
    }
}

/// `50`, `20k`, `1.5M`.
///
/// # Errors
/// Not a whole number of at least 1.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let count = parse_number(text)?;
    let whole = (1.0..=1e12).contains(&count) && count.fract() == 0.0;
    if whole { Ok(count as u64) } else { Err(format!("{text} is no whole number of at least 1")) }
}

fn parse_number(text: &str) -> Result<f64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1e6),
        Some(b'G') => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let number: f64 = digits.parse().map_err(|_| format!("{text} is no number; write 500, 20k or 1.5M"))?;
    if number.is_finite() { Ok(number * factor) } else { Err(format!("{text} is no number")) }
}

/// `250ms`, `5s`, `2m`.
///
/// # Errors
/// Not a duration, none at all, or more than a day.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no duration; write 250ms, 5s or 2m, up to 24h");
    let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (digits, unit) = text.split_at(split);
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    let duration = Duration::try_from_secs_f64(number * factor).map_err(|_| wrong())?;
    if duration.is_zero() || duration > DURATION_MAX { Err(wrong()) } else { Ok(duration) }
}

/// `0s` is meant where it may be.
///
/// # Errors
/// As [`parse_duration`].
pub fn parse_duration_or_none(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s" | "0ms") { Ok(Duration::ZERO) } else { parse_duration(text) }
}

/// Nanoseconds in three digits: `812 ns`, `45.2 µs`, `1.31 ms`, `2.00 s`.
pub fn nanos(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{} µs", digits(ns / 1e3)),
        ns if ns < 1e9 => format!("{} ms", digits(ns / 1e6)),
        ns => format!("{} s", digits(ns / 1e9)),
    }
}

/// A number in three digits: `950`, `12.3k`, `1.04M`.
pub fn short(number: f64) -> String {
    match number.abs() {
        it if it < 1e3 => digits(number),
        it if it < 1e6 => format!("{}k", digits(number / 1e3)),
        it if it < 1e9 => format!("{}M", digits(number / 1e6)),
        _ => format!("{}G", digits(number / 1e9)),
    }
}

fn digits(number: f64) -> String {
    match number.abs() {
        it if it >= 100.0 || it == 0.0 => format!("{number:.0}"),
        it if it >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Bytes as people write them: `1.2 GiB`.
pub fn bytes(count: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut left, mut unit) = (count, 0);
    while left >= 1024.0 && unit + 1 < units.len() {
        left /= 1024.0;
        unit += 1;
    }
    format!("{} {}", digits(left), units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, wanted) in [("500", 500.0), ("20k", 20_000.0), ("1.5M/s", 1.5e6), ("1e3", 1_000.0)] {
            assert_eq!(parse_rate(text), Ok(wanted));
        }
        for wrong in ["", "k", "0", "-5", "2G", "inf", "NaN", "1.5.1"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_count("10M"), Ok(10_000_000));
        assert!(parse_count("1.5").is_err());
        assert_eq!(parse_duration("1.5ms"), Ok(Duration::from_micros(1_500)));
        for wrong in ["5", "5 s", "0s", "25h", "-1s", "s", "5d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_written_in_three_digits() {
        let rows = [(812.0, "812 ns"), (45_230.0, "45.2 µs"), (1_310_000.0, "1.31 ms"), (2e9, "2.00 s")];
        for (ns, wanted) in rows {
            assert_eq!(nanos(ns), wanted);
        }
        let rows = [(950.0, "950"), (12_345.0, "12.3k"), (1_040_000.0, "1.04M"), (0.0, "0")];
        for (number, wanted) in rows {
            assert_eq!(short(number), wanted);
        }
        assert_eq!(bytes(1_288_490_188.8), "1.20 GiB");
    }
}
