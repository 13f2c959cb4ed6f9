//! A store that no server has open: imports, exports, snapshots made by hand.
//!
//! With nobody reading, the order of events may be another: a batch goes into the index first, which finds out whether
//! all of it can be, and then into the journal as one commit. If anything fails, this store takes nothing more, its
//! index is thrown away, and the data directory is as the last commit left it.

use std::collections::HashSet;
use std::sync::Arc;

use super::StartError;
use super::store::{NOBODY_FOLLOWS, Site, StoreParts, open_site, recover, run};
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::DataDir;
use crate::domain::{Audience, CallerId, Change, Entry, Pepper, ScopeCatalogue, Sequence, TokenDigest, TokenKey};
use crate::import::{ImportSink, Mark};
use crate::index::Admitted;
use crate::secrets::Secrets;
use crate::store::{Opened, SnapshotOutcome};

/// A data directory, opened alone.
pub struct Offline {
    dir: Arc<DataDir>,
    opened: Opened,
    clock: Clock,
    config: Config,
    secrets: Secrets,
    by: CallerId,
    /// Why nothing more is taken.
    broken: Option<String>,
}

impl Offline {
    /// Opens the data directory of a configuration; makes it if it is not there.
    ///
    /// # Errors
    /// A server has it open, or nothing sound is in it.
    pub fn open(config: Config) -> Result<Self, StartError> {
        std::fs::create_dir_all(&config.server.data_dir)
            .map_err(|source| StartError::DataDir { path: config.server.data_dir.clone(), source })?;
        restrict(&config)?;
        let secrets = Secrets::open_or_create(&config.secrets_path(), &config.server.data_dir)?;
        let (dir, opened) = recover(&config, &secrets)?;
        let clock = Clock::system(opened.clock_floor);
        let by = CallerId::parse("import").map_err(|error| StartError::Store(error.to_string()))?;
        Ok(Self { dir, opened, clock, config, secrets, by, broken: None })
    }

    /// What was recovered, for exports.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The pepper's name.
    pub fn pepper(&self) -> &Pepper {
        &self.secrets.pepper
    }

    /// The clock that never tells less than the data knows.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Writes a snapshot and closes the journal.
    ///
    /// # Errors
    /// In words; what was committed is durable all the same.
    pub fn finish(self) -> Result<SnapshotOutcome, String> {
        if let Some(why) = self.broken {
            return Err(why);
        }
        let Self { dir, opened, config, secrets, .. } = self;
        let StoreParts { held, .. } = run(dir, opened, &config, &secrets, NOBODY_FOLLOWS);
        let written = held.snapshot();
        super::StoreControl::close(&*held)?;
        written
    }

    fn take(&mut self, batch: Vec<Change>) -> Result<(), String> {
        let at = self.clock.now();
        let mut entries: Vec<Entry> = Vec::with_capacity(batch.len());
        let mut keys = HashSet::new();
        for mut change in batch {
            crate::journal::entry::fits(&change).map_err(|error| error.to_string())?;
            let writer = &mut self.opened.writer;
            if let Change::RegisterToken(token) = &change
                && !keys.insert(token.key)
            {
                return Err("a token stands twice in one batch".into());
            }
            match writer.admit(&change, at).map_err(|error| error.to_string())? {
                Admitted::Already => continue,
                Admitted::New => {}
            }
            if let Change::MakeGrant(grant) = &mut change {
                grant.id = writer.next_grant().ok_or("no more grants fit")?;
            }
            let sequence = Sequence(writer.applied().0 + 1);
            let entry = Entry { sequence, at, by: self.by.clone(), change };
            writer.apply(&entry);
            entries.push(entry);
        }
        if !entries.is_empty() {
            self.opened.journal.commit(&entries).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn restrict(config: &Config) -> Result<(), StartError> {
    use std::os::unix::fs::PermissionsExt;
    let path = &config.server.data_dir;
    let failed = |source| StartError::DataDir { path: path.clone(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    // A directory that was just made under a loose umask; one that was there and is loose is refused when it is opened.
    let empty = std::fs::read_dir(path).map_err(failed)?.next().is_none();
    if empty && mode & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

impl ImportSink for Offline {
    fn resume(&self, source: &[u8; 32]) -> Option<Mark> {
        let (lines, first_grant, grants) = self.opened.writer.import_mark(source)?;
        Some(Mark { lines, first_grant, grants })
    }

    fn next_grant(&self) -> u32 {
        self.opened.writer.next_grant().map_or(0, |id| id.number())
    }

    fn catalogue(&self) -> ScopeCatalogue {
        self.opened.index.pin().catalogue().clone()
    }

    fn knows_client(&self, client: &str) -> bool {
        let pin = self.opened.index.pin();
        let facts = pin.client_number(client).and_then(|number| pin.client_facts(number));
        facts.is_some_and(|(_, registered)| registered)
    }

    fn default_audience(&self) -> Vec<Audience> {
        self.config.server.default_audience.clone()
    }

    fn key(&self, digest: &TokenDigest) -> TokenKey {
        self.secrets.pepper.key(digest)
    }

    fn pepper(&self) -> u64 {
        self.secrets.pepper.fingerprint()
    }

    fn commit(&mut self, batch: Vec<Change>) -> Result<(), String> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        let taken = self.take(batch);
        if let Err(why) = &taken {
            self.broken = Some(why.clone());
        }
        taken
    }
}

/// A store opened and running without doors, for a snapshot made by hand.
///
/// # Errors
/// As [`Offline::open`].
pub fn site(config: &Config) -> Result<Site, StartError> {
    let secrets = Secrets::open(&config.secrets_path())?;
    open_site(config, &secrets)
}
