//! P16: our server beside the same server, built to count nothing.
//!
//! What is compiled to nothing is the counting of questions, by a constant (`tokenscope::tally::COUNTED`) that is false where
//! `TOKENSCOPE_UNCOUNTED` is set while it is built. Both builds are made here if that is asked for, of the same text and
//! with the same profile, or given as files. Afterwards both are scraped: ours has to have counted, and what the other one has counted
//! nevertheless is named in the row.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokenscope::dev::file::DevFile;

use super::goals::Row;
use super::ourselves::{Beside, OF, SHAPES, ratio};
use super::{Measured, forget};
use crate::admin;
use crate::server::{Server, Start};

/// How long the admin listener may take to answer.
const SCRAPE: Duration = Duration::from_secs(5);

/// What compiles counting to nothing, if it is set to anything.
const SWITCH: &str = "TOKENSCOPE_UNCOUNTED";

/// The two builds.
#[derive(Clone, Debug)]
pub struct Builds {
    /// The ordinary one; nothing: this very executable.
    pub counted: Option<PathBuf>,
    /// The one that counts nothing.
    pub uncounted: PathBuf,
}

/// What was found about ours beside a build that counts nothing.
#[derive(Debug)]
pub struct Uncounted {
    /// What it counts nevertheless.
    still: Vec<&'static str>,
}

/// Builds both in `directory`, which is kept: a second time takes a moment.
///
/// # Errors
/// There is no cargo, the source is not where it was when this was built, or it does not build.
pub fn build(directory: &Path) -> Result<Builds, String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    if !manifest.is_file() {
        return Err(format!("{}: the source is not there any more; give --uncounted FILE", manifest.display()));
    }
    let target = directory.join("target");
    let one = |name: &str, is_counted: bool| -> Result<PathBuf, String> {
        eprintln!("building {name}");
        let mut command = Command::new("cargo");
        command.args(["build", "--release", "--package", "tokenscope", "--bin", "tokenscope", "--manifest-path"]);
        command.arg(&manifest).arg("--target-dir").arg(&target).env_remove(SWITCH);
        if !is_counted {
            command.env(SWITCH, "1");
        }
        let status = command.status().map_err(|error| format!("cannot start cargo: {error}"))?;
        if !status.success() {
            return Err(format!("cargo could not build {name} ({status})"));
        }
        let built = directory.join(name);
        std::fs::copy(target.join("release/tokenscope"), &built)
            .map_err(|error| format!("{}: {error}", built.display()))?;
        Ok(built)
    };
    std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(Builds { counted: Some(one("tokenscope-counted", true)?), uncounted: one("tokenscope-uncounted", false)? })
}

/// Runs both in turn; their cells are added to `measured`.
///
/// # Errors
/// There are no builds, one does not run, or they are not what they are said to be.
pub fn measure(
    beside: &Beside<'_>,
    builds: &Result<Builds, String>,
    measured: &mut BTreeMap<String, Measured>,
) -> Result<Uncounted, String> {
    let Builds { counted, uncounted } = builds.as_ref().map_err(Clone::clone)?;
    eprintln!("starting {} that counts nothing", uncounted.display());
    let start = |name: &str, binary: Option<PathBuf>| Start {
        directory: beside.start.directory.with_file_name(name),
        binary,
        ..beside.start.clone()
    };
    let starts = [start("ours-counted", counted.clone()), start("ours-uncounted", Some(uncounted.clone()))];
    let found = (|| {
        let [ours, theirs] = [Server::start(&starts[0])?, Server::start(&starts[1])?];
        beside.take_turns([(&ours, "counted"), (&theirs, "uncounted")], measured)?;
        let [ours, theirs] = [scrape(&starts[0].directory)?, scrape(&starts[1].directory)?];
        if let Some((what, _)) = ours.iter().find(|(_, counted)| *counted == 0.0) {
            return Err(format!("our own server shows no {what}, so there is nothing to compare with"));
        }
        let still: Vec<&str> = theirs.iter().filter(|(_, counted)| *counted > 0.0).map(|(what, _)| *what).collect();
        if still.len() == theirs.len() {
            return Err(format!("{} counts everything that ours counts: it is no such build", uncounted.display()));
        }
        Ok(Uncounted { still })
    })();
    starts.iter().for_each(|it| forget(&it.directory));
    found
}

/// What the server in this directory has counted of questions on the native protocol, by what is counted.
fn scrape(directory: &Path) -> Result<[(&'static str, f64); 2], String> {
    let file = DevFile::read(&directory.join("dev.json")).map_err(|failure| failure.message)?;
    let page = admin::get(file.admin, "/metrics", SCRAPE).map_err(|error| format!("{}: {error}", file.admin))?;
    Ok([
        ("verdicts", sum(&page, "tokenscope_introspections_total{door=\"quic\"")),
        ("times", sum(&page, "tokenscope_introspection_duration_seconds_count{door=\"quic\"")),
    ])
}

/// The sum of all series that begin so.
fn sum(page: &str, series: &str) -> f64 {
    let of = |line: &str| line.rsplit_once(' ').and_then(|(_, number)| number.trim().parse::<f64>().ok());
    page.lines().filter(|line| line.starts_with(series)).filter_map(of).sum()
}

/// Rows P16.
pub fn rows(uncounted: &Result<Uncounted, String>, cells: &BTreeMap<String, Measured>) -> Vec<Row> {
    let mut rows = Vec::new();
    for of in &OF {
        for (connections, in_flight) in SHAPES {
            let found = uncounted.as_ref().map_err(Clone::clone).and_then(|uncounted| {
                let mut found = ratio(cells, (connections, in_flight), ["counted", "uncounted"], of)?;
                if !uncounted.still.is_empty() {
                    found.detail += &format!("; it still counts {}", uncounted.still.join(" and "));
                }
                Ok(found)
            });
            // What is wanted is a throughput; the other stands beside it.
            let goals = (of.name == OF[0].name).then_some((0.97, 0.99));
            let what = format!("{}, {connections}×{in_flight}", of.name);
            rows.push(Row::new(("P16", "itself, built to count nothing", &what), goals, found));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_metrics_is_added_up() {
        let page = "# HELP a\na_total{door=\"quic\",result=\"active\"} 5\na_total{door=\"quic\",result=\"inactive\"} 2\n\
                    a_total{door=\"https\",result=\"active\"} 9\n";
        assert_eq!(sum(page, "a_total{door=\"quic\""), 7.0);
        assert_eq!(sum(page, "b_total"), 0.0);
    }

    #[test]
    fn without_builds_the_rows_say_how_to_have_them() {
        let rows = rows(&Err("--build-uncounted DIRECTORY".to_owned()), &BTreeMap::new());
        assert_eq!(rows.len(), 4);
        assert!(rows.iter().all(|row| row.found.as_ref().unwrap_err().contains("--build-uncounted")));
    }
}
