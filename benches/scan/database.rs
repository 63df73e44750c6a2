//! Makes the databases that are scanned, as files with known contents.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    time::Duration,
};

use serde::Deserialize;

use crate::harness::{
    binaries::Program,
    commands::output_of_success,
    error::{Context, Error, Result},
    processes::Run,
};

/// The time limit for writing a database. Ten million revisions take two minutes.
const WRITTEN_WITHIN: Duration = Duration::from_mins(10);

/// The length in bytes of the SHA-256 at the end of a snapshot.
const DIGEST: u64 = 32;

/// The number of objects, and of revisions of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    revisions_of_each: u32,
    pub(crate) objects: u32,
}

impl Shape {
    pub(crate) const fn without_history(objects: u32) -> Self {
        Self { revisions_of_each: 1, objects }
    }

    pub(crate) const fn has_history(self) -> bool {
        self.revisions_of_each > 1
    }

    pub(crate) const fn revisions(self) -> u32 {
        self.objects.saturating_mul(self.revisions_of_each)
    }
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('x').and_then(|(objects, revisions)| {
            let (objects, revisions) = (objects.parse().ok()?, revisions.parse().ok()?);
            (objects > 0 && revisions > 0).then_some((objects, revisions))
        });
        let (objects, revisions_of_each) =
            numbers.ok_or_else(|| Error::new(format!("{text}: expected OBJECTSxREVISIONS, as in 250000x4")))?;
        Ok(Self { revisions_of_each, objects })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revisions_of_each {
            1 => write!(formatter, "{} objects", self.objects),
            revisions => write!(formatter, "{} objects x {revisions} revisions", self.objects),
        }
    }
}

/// The contents of a database according to go-generate: the number of objects and of revisions under each provider and
/// key.
#[derive(Debug, Deserialize)]
pub(crate) struct Expected {
    pub(crate) objects: u64,
    pub(crate) revisions: u64,
    pub(crate) providers: BTreeMap<String, u64>,
    pub(crate) stored: BTreeMap<String, u64>,
    pub(crate) seeds: u64,
}

/// One database in two files. One of them has a digest at its end. Both are removed when the value is dropped.
pub(crate) struct Database {
    pub(crate) shape: Shape,
    pub(crate) plain: PathBuf,
    pub(crate) with_digest: PathBuf,
    pub(crate) expected: Expected,
}

impl Database {
    pub(crate) fn generate(run: &Run, shape: Shape) -> Result<Self> {
        let name = run.unique_name("database");
        let (plain, with_digest) = (run.path(format!("{name}.db")), run.path(format!("{name}.snapshot")));
        let mut command = Command::new(Program::GoGenerate.path()?);
        command.arg("--objects").arg(shape.objects.to_string());
        command.arg("--history").arg((shape.revisions_of_each - 1).to_string());
        command.arg("--digest").arg("--out").arg(&with_digest);
        let printed = output_of_success(command, &[], WRITTEN_WITHIN)?;
        let expected = serde_json::from_slice(&printed).during(|| "reading what go-generate wrote".to_owned())?;
        copy_without_digest(&with_digest, &plain).during(|| format!("copying {}", with_digest.display()))?;
        Ok(Self { shape, plain, with_digest, expected })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // If this fails, the file is removed with the directory of the run.
        let _ = fs::remove_file(&self.plain);
        let _ = fs::remove_file(&self.with_digest);
    }
}

/// Copies a file without its digest, and syncs both. Otherwise the disk would be busy during a measurement.
fn copy_without_digest(from: &Path, to: &Path) -> std::io::Result<()> {
    let length = fs::copy(from, to)?;
    let copy = fs::File::options().write(true).open(to)?;
    copy.set_len(length.saturating_sub(DIGEST))?;
    copy.sync_all()?;
    fs::File::open(from)?.sync_all()
}
