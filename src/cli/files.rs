//! Verbs that work on files: configurations, imports, exports, snapshots, the journal.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::progress::shown;
use super::rooms::{Depth, Voids};
use super::{Desk, Failure, Outcome, show, words};
use crate::import::{self, ImportError};

/// Which configuration.
#[derive(Args, Debug)]
pub(super) struct ConfigFile {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/tokenscope/tokenscope.toml")]
    pub(super) config: PathBuf,
}

pub(super) fn check_config(config: &Path, desk: &mut Desk<'_>) -> Outcome {
    let warnings = desk.rooms.check_config(config)?;
    let answer = json!({ "file": config.display().to_string(), "sound": true, "warnings": warnings });
    desk.answer(&answer, |_| {
        let warnings = warnings.iter().map(|warning| format!("warning: {warning}\n"));
        format!("{}{} is sound", warnings.collect::<String>(), config.display())
    })
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:\n  tokenscope config print-default > tokenscope.toml\n  tokenscope config limits")]
pub(super) enum Config {
    /// Print a configuration with every key, its default and what it is for.
    PrintDefault,
    /// Print every limit, its default, its bounds and its reason.
    Limits,
}

impl Config {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        match self {
            Self::PrintDefault => {
                let text = desk.rooms.default_config();
                desk.line(text.trim_end())
            }
            Self::Limits => {
                let limits = desk.rooms.limits();
                let answer = json!({ "limits": limits });
                desk.answer(&answer, |answer| {
                    show::rows(answer, "limits", &["key", "default", "least", "most", "why"], |row| {
                        ["key", "default", "least", "most", "reason"].map(|name| show::text(row, name)).to_vec()
                    })
                })
            }
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tokenscope import --config tokenscope.toml grants.jsonl
  tokenscope import --config tokenscope.toml --check-only grants.jsonl

One JSON object a line; docs/IMPORT.md describes it. The server must not be running. An interrupted import goes on where \
it stopped when the same file is imported again.")]
pub(super) struct Import {
    #[command(flatten)]
    config: ConfigFile,
    /// Read the file through and say what is in it, but change nothing.
    #[arg(long)]
    check_only: bool,
    /// The file. Not a pipe: it is read twice, and has to be there for a repetition.
    file: PathBuf,
}

impl Import {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        let failed = |error: ImportError| Failure::run_time(format!("{}: {error}", self.file.display()));
        let mut store = desk.rooms.open_for_import(&self.config.config)?;
        if self.check_only {
            let checked = import::check(&self.file, store.sink()).map_err(failed)?;
            let answer =
                json!({ "lines": checked.lines, "grants": checked.grants, "tokens": checked.tokens, "sound": true });
            return desk.answer(&answer, |_| {
                let [lines, grants, tokens] = [checked.lines, checked.grants, checked.tokens].map(show::count);
                format!("sound: {lines} lines, {grants} grants, {tokens} tokens")
            });
        }
        let draw = desk.can_draw;
        let started = std::time::Instant::now();
        let imported = import::import_file(&self.file, store.sink(), |checked| shown("import", checked.lines, draw));
        let (_, tally) = imported.map_err(failed)?;
        store.finish().map_err(Failure::run_time)?;
        let seconds = started.elapsed().as_secs_f64();
        let answer = json!({
            "lines": tally.lines, "skipped": tally.skipped, "grants": tally.grants, "tokens": tally.tokens,
            "changes": tally.changes, "seconds": seconds,
        });
        desk.answer(&answer, |_| {
            let skipped = if tally.skipped > 0 {
                format!(" ({} lines were in already)", show::count(tally.skipped))
            } else {
                String::new()
            };
            let [grants, tokens] = [tally.grants, tally.tokens].map(show::count);
            format!("imported {grants} grants and {tokens} tokens in {seconds:.1} s{skipped}")
        })
    }
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tokenscope export --config tokenscope.toml --output backup.jsonl
  tokenscope export --config tokenscope.toml | zstd > backup.jsonl.zst
Tokens are written by their handles, which mean something only under the same secrets file: keep a copy of that too.")]
pub(super) struct Export {
    #[command(flatten)]
    config: ConfigFile,
    /// Write to this new file instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        let Some(path) = self.output else {
            return desk.rooms.export(&self.config.config, &mut desk.out);
        };
        let failed = |error: std::io::Error| Failure::run_time(format!("{}: {error}", path.display()));
        let file = std::fs::File::create_new(&path).map_err(failed)?;
        let mut out = std::io::BufWriter::with_capacity(1 << 20, &file);
        desk.rooms.export(&self.config.config, &mut out)?;
        out.flush().map_err(failed)?;
        drop(out);
        file.sync_all().map_err(failed)
    }
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope snapshot create --config tokenscope.toml
  tokenscope snapshot verify --config tokenscope.toml data/snapshot-000000000812.tks")]
pub(super) enum Snapshot {
    /// Write a snapshot of a data directory that no server has open.
    Create(ConfigFile),
    /// Show what a snapshot's header says.
    Inspect(SnapshotFile),
    /// Check every byte of a snapshot.
    Verify(SnapshotFile),
}

/// Which snapshot.
#[derive(Args, Debug)]
pub(super) struct SnapshotFile {
    #[command(flatten)]
    config: ConfigFile,
    /// The snapshot.
    file: PathBuf,
}

impl Snapshot {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        let answer = match self {
            Self::Create(file) => desk.rooms.snapshot_create(&file.config)?,
            Self::Inspect(it) => desk.rooms.snapshot_look(&it.config.config, &it.file, Depth::Header)?,
            Self::Verify(it) => desk.rooms.snapshot_look(&it.config.config, &it.file, Depth::Whole)?,
        };
        desk.answer(&answer, show::object)
    }
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tokenscope new-epoch --config tokenscope.toml --void-issued-before now --dry-run
  tokenscope new-epoch --config tokenscope.toml --void-issued-before now
  tokenscope new-epoch --config tokenscope.toml --nothing-was-revoked
The server must not be running. What was revoked after the backup is not in it: either every token that could have been is \
made void, or you say that there was nothing. Removed memberships, blocked apps and narrowed grants of the lost stretch have \
to be repeated from your own records in either case: docs/OPERATIONS.md, Restore.")]
#[command(group(clap::ArgGroup::new("lost").required(true).args(["void_issued_before", "nothing_was_revoked"])))]
pub(super) struct NewEpoch {
    #[command(flatten)]
    config: ConfigFile,
    /// Make every token void that was issued before this moment: now, seconds since 1970, or 2026-11-23T15:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = words::moment_or_now)]
    void_issued_before: Option<words::MomentOrNow>,
    /// You know that nothing was revoked after the backup, or will repeat it all.
    #[arg(long)]
    nothing_was_revoked: bool,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl NewEpoch {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        let voids = match self.void_issued_before {
            Some(words::MomentOrNow::Now) => Voids::IssuedBeforeNow,
            Some(words::MomentOrNow::Moment(seconds)) => Voids::IssuedBefore(seconds),
            // The group makes sure that one of the two is said.
            None => Voids::Nothing,
        };
        let answer = desk.rooms.new_epoch(&self.config.config, voids, self.dry_run)?;
        desk.answer(&answer, show::object)
    }
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope keys rotate
  tokenscope keys rotate --offline --config tokenscope.toml
  tokenscope keys show --config tokenscope.toml
The keys are those that seal journal and snapshots. The pepper, under which tokens are kept, stays: docs/OPERATIONS.md says \
what to do about it. Copy the secrets file to its safe place again after a rotation.")]
pub(super) enum Keys {
    /// Have a running server make new keys; nothing is refused meanwhile.
    Rotate {
        /// No server runs: do it in the data directory of the configuration.
        #[arg(long)]
        offline: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Show which generations the secrets file holds, and from where on each is in force; never a key.
    Show(ConfigFile),
}

impl Keys {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        match self {
            Self::Rotate { offline, config } => {
                let answer = if offline {
                    desk.rooms.keys_rotate(&config.config)?
                } else {
                    desk.api()?.ask("POST", "/v1/keys/rotate", None)?
                };
                desk.answer(&answer, show::object)
            }
            Self::Show(file) => {
                let answer = desk.rooms.keys_show(&file.config)?;
                desk.answer(&answer, |answer| {
                    show::rows(answer, "generations", &["generation", "after"], |row| {
                        ["generation", "after"].map(|name| show::text(row, name)).to_vec()
                    })
                })
            }
        }
    }
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope journal inspect --config tokenscope.toml
  tokenscope journal verify --config tokenscope.toml --json")]
pub(super) enum Journal {
    /// Show where the journal begins and ends.
    Inspect(ConfigFile),
    /// Check every entry and its place in the chain.
    Verify(ConfigFile),
}

impl Journal {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        let answer = match self {
            Self::Inspect(file) => desk.rooms.journal_look(&file.config, Depth::Header)?,
            Self::Verify(file) => desk.rooms.journal_look(&file.config, Depth::Whole)?,
        };
        desk.answer(&answer, show::object)
    }
}
