//! Data sets of any size in the import format.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use tokenscope::domain::Timestamp;
use tokenscope::samples;

/// What was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// Lines.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Writes the catalogue, the story and `tokens` tokens around it, made from `seed` for the moment `now`.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, seed: u64, tokens: u64, now: Timestamp) -> Result<Written, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut written = Written { lines: 0, bytes: 0 };
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::with_capacity(
        1 << 20,
        match path.to_str() {
            Some("-") => Box::new(std::io::stdout().lock()),
            _ => Box::new(File::create(path).map_err(failed)?),
        },
    );
    for line in samples::all(seed, tokens, now) {
        let json = line.to_json();
        out.write_all(json.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(failed)?;
        written.lines += 1;
        written.bytes += json.len() as u64 + 1;
    }
    out.flush().map_err(failed)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope::import::Lines;

    #[test]
    fn the_same_seed_writes_the_same_lines_and_they_can_be_imported() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::from_raw(1_790_000_000);
        let [a, b] = ["a", "b"].map(|name| directory.path().join(name));
        let written = write(&a, 9, 500, now).unwrap();
        assert_eq!(written, write(&b, 9, 500, now).unwrap());
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        let read = Lines::open(&a).unwrap().map(Result::unwrap).count() as u64;
        assert_eq!(read, written.lines);
    }
}
