//! Where a run keeps what it makes: the directory that was asked for, which stays, or one of its own, which ends with it.

use std::path::{Path, PathBuf};

/// A directory that is there as long as this value.
pub struct Scratch {
    path: PathBuf,
    is_own: bool,
}

impl Scratch {
    /// `wanted` if there is one, else a directory of its own named after `word` and this process.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(wanted: Option<&Path>, word: &str) -> Result<Self, String> {
        let own = || std::env::temp_dir().join(format!("tokenscope-{word}-{}", std::process::id()));
        let path = wanted.map_or_else(own, Path::to_owned);
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, is_own: wanted.is_none() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_own {
            // It was made for this run alone; what cannot be removed is left to the system.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_its_own_ends_with_the_run_and_one_that_was_asked_for_stays() {
        let outer = tempfile::tempdir().unwrap();
        let wanted = outer.path().join("a/b");
        drop(Scratch::new(Some(&wanted), "unused").unwrap());
        assert!(wanted.is_dir());
        let own = Scratch::new(None, "scratch-test").unwrap();
        let path = own.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(own);
        assert!(!path.exists());
    }
}
