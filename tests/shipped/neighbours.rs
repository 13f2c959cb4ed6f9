//! More callers than `dev` knows, each with a certificate of its own.

use std::path::{Path, PathBuf};

use tokenscope::certs::Authority;

use super::house::{House, now};

/// A caller that was added to a house.
pub struct Neighbour {
    certificate: PathBuf,
    key: PathBuf,
}

impl Neighbour {
    /// A house with `more` in its configuration, and callers of these names and rights.
    pub fn all(more: &str, callers: &[(&str, &str)]) -> (House, Vec<Self>) {
        let added: String = callers
            .iter()
            .map(|(name, rights)| format!("\n[[caller]]\nname = \"{name}\"\ncertificate_name = \"{name}\"\n{rights}\n"))
            .collect();
        let house = House::with(&format!("{more}{added}"));
        let authority = Authority::open_or_create(&house.certs, "tokenscope development CA", now()).unwrap();
        let neighbour = |(name, _): &(&str, &str)| {
            authority.client(name, now()).unwrap().write(house.dir.path(), name).unwrap();
            let file = |end: &str| house.dir.path().join(format!("{name}.{end}"));
            Self { certificate: file("pem"), key: file("key") }
        };
        let neighbours = callers.iter().map(neighbour).collect();
        (house, neighbours)
    }

    /// Certificate and key.
    pub fn paths(&self) -> (&Path, &Path) {
        (&self.certificate, &self.key)
    }
}
