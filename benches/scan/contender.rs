//! The contenders of the benchmark: how each is started, and whether its counts are right.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    database::{Database, Expected},
    harness::{
        binaries::{EtcdVersion, Program},
        error::{Context, Error, Result},
        etcd::Etcd,
        processes::Run,
    },
    measured::{self, Sample, measure},
};

/// The prefix of all keys of kube-apiserver.
const PREFIX: &str = "/registry/";

/// A contender of the benchmark, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    Cat,
    Claviger,
    /// `claviger scan` on a file with a digest, which it checks.
    ClavigerDigest,
    GoScan,
    Etcdutl,
    ClavigerLive,
    KeysOnly,
    WithValues,
}

/// The files and servers that the contenders read.
pub(crate) struct Target<'a> {
    pub(crate) database: &'a Database,
    pub(crate) etcd: Option<&'a mut Etcd>,
}

impl Contender {
    pub(crate) const OF_FILES: [Self; 5] =
        [Self::Cat, Self::Claviger, Self::ClavigerDigest, Self::GoScan, Self::Etcdutl];
    pub(crate) const OF_ETCD: [Self; 3] = [Self::ClavigerLive, Self::KeysOnly, Self::WithValues];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cat => "cat",
            Self::Claviger => "claviger",
            Self::ClavigerDigest => "claviger, and SHA-256",
            Self::GoScan => "go-scan",
            Self::Etcdutl => "etcdutl snapshot status",
            Self::ClavigerLive => "claviger, live",
            Self::KeysOnly => "etcdctl get --keys-only",
            Self::WithValues => "etcdctl get",
        }
    }

    pub(crate) fn is_live(self) -> bool {
        Self::OF_ETCD.contains(&self)
    }

    /// Runs the contender once, and checks its counts.
    pub(crate) fn measure(self, run: &Run, target: &mut Target<'_>, watch: bool) -> Result<Sample> {
        let stdout = if self.is_checked() { run.path("stdout") } else { PathBuf::from(measured::NOWHERE) };
        let line = self.line(target)?;
        let before = target.server_seconds()?;
        let mut sample = measure(run, self.name(), &line, &stdout, watch)?;
        sample.server_seconds = target.server_seconds()?.zip(before).map(|(after, before)| after - before);
        let shape = target.database.shape;
        self.check(sample, &stdout, target).map_err(|error| error.during(&format!("{}, {shape}", self.name())))?;
        Ok(sample)
    }

    fn line(self, target: &Target<'_>) -> Result<Vec<OsString>> {
        let Database { plain, with_digest, .. } = target.database;
        let endpoints = target.etcd.as_ref().map(|etcd| etcd.endpoints()).unwrap_or_default();
        let claviger = |from: &str, place: &Path| {
            let mut line = words(Path::new(env!("CARGO_BIN_EXE_claviger")), &["scan", from]);
            line.push(place.into());
            line.extend(["--output", "json", "--quiet"].map(OsString::from));
            line
        };
        let on_file = |program: &Path, words_before: &[&str]| {
            let mut line = words(program, words_before);
            line.push(plain.into());
            line
        };
        let etcdctl = |arguments: &[&str]| -> Result<Vec<OsString>> {
            let endpoints = format!("--endpoints={endpoints}");
            let first = [&endpoints, "--command-timeout=10m", "get", "--prefix", PREFIX];
            Ok(words(&Program::Etcdctl(EtcdVersion::V3_7).path()?, &[&first, arguments].concat()))
        };
        Ok(match self {
            Self::Cat => on_file(Path::new("cat"), &[]),
            Self::Claviger => claviger("--snapshot", plain),
            Self::ClavigerDigest => claviger("--snapshot", with_digest),
            Self::GoScan => on_file(&Program::GoScan.path()?, &[]),
            Self::Etcdutl => {
                on_file(&Program::Etcdutl(EtcdVersion::V3_7).path()?, &["snapshot", "status", "--write-out=json"])
            }
            Self::ClavigerLive => claviger("--etcd-servers", Path::new(&endpoints)),
            Self::KeysOnly => etcdctl(&["--keys-only"])?,
            Self::WithValues => etcdctl(&["--write-out=simple"])?,
        })
    }

    /// Whether the output is kept and checked. The output of `cat` and of `etcdctl get` is the whole database.
    fn is_checked(self) -> bool {
        !matches!(self, Self::Cat | Self::WithValues)
    }

    fn check(self, sample: Sample, stdout: &Path, target: &Target<'_>) -> Result<()> {
        let expected = &target.database.expected;
        let is_claviger = matches!(self, Self::Claviger | Self::ClavigerDigest | Self::ClavigerLive);
        if !is_claviger {
            equal("exit code", &sample.exit, &Some(0))?;
        }
        match self {
            Self::Cat => Ok(()),
            Self::Claviger | Self::ClavigerDigest | Self::ClavigerLive => self.check_claviger(&read(stdout)?, expected),
            Self::GoScan => {
                let counted: GoReport = parse(&read(stdout)?)?;
                equal("objects", &counted.objects, &expected.objects)?;
                equal("revisions", &counted.revisions, &expected.revisions)?;
                equal("providers", &counted.providers, &expected.providers)
            }
            Self::Etcdutl => equal("objects", &number(&read(stdout)?, "totalKey")?, &expected.objects),
            Self::KeysOnly => {
                let prefix = PREFIX.as_bytes();
                let keys = read(stdout)?.split(|byte| *byte == b'\n').filter(|line| line.starts_with(prefix)).count();
                equal("objects", &(keys as u64), &expected.objects)
            }
            Self::WithValues => {
                let Some(etcd) = &target.etcd else { return Ok(()) };
                let printed = etcd.run_etcdctl(&["get", "--prefix", PREFIX, "--count-only", "--write-out=fields"])?;
                let count = printed.lines().find_map(|line| line.strip_prefix("\"Count\" : ")?.parse().ok());
                equal("objects", &count, &Some(expected.objects))
            }
        }
    }

    fn check_claviger(self, output: &[u8], expected: &Expected) -> Result<()> {
        let report: ScanReport = parse(output)?;
        equal("format", &report.format.as_str(), &"claviger/scan/v1")?;
        equal("incomplete", &report.incomplete, &Vec::new())?;
        let (mut live, mut stored, mut seeds) = (BTreeMap::new(), BTreeMap::new(), 0);
        for group in &report.groups {
            *live.entry(group.class()).or_default() += group.objects;
            *stored.entry(group.class()).or_default() += group.objects + group.older_values.unwrap_or(0);
            seeds += group.seeds;
        }
        live.retain(|_, objects: &mut u64| *objects > 0);
        equal("live objects", &live, &expected.providers)?;
        equal("seeds", &seeds, &expected.seeds)?;
        // The report about a live etcd has no counts of older values.
        let has_older = report.groups.iter().all(|group| group.older_values.is_some());
        equal("whether older revisions were counted", &has_older, &!self.is_live())?;
        if has_older {
            equal("revisions", &stored, &expected.stored)?;
        }
        let matches = &report.source["digest"]["matches"];
        equal("whether the digest matches", &matches.as_bool(), &(self == Self::ClavigerDigest).then_some(true))
    }
}

impl Target<'_> {
    fn server_seconds(&mut self) -> Result<Option<f64>> {
        let process = self.etcd.as_mut().map(|etcd| etcd.process(0)).transpose()?;
        Ok(process.map(|process| measured::seconds_of_process(process.id())))
    }
}

/// The checked part of the public interface of `claviger scan --output json`.
#[derive(Deserialize)]
struct ScanReport {
    format: String,
    source: Value,
    groups: Vec<Group>,
    incomplete: Vec<String>,
}

#[derive(Deserialize)]
struct Group {
    provider: String,
    key_id: Option<String>,
    objects: u64,
    older_values: Option<u64>,
    seeds: u64,
}

impl Group {
    /// Returns the name of the group in go-generate and go-scan.
    fn class(&self) -> String {
        match (self.provider.as_str(), &self.key_id) {
            ("identity", _) => "k8s\0".to_owned(),
            (provider, Some(key_id)) => format!("k8s:enc:{provider}:{key_id}"),
            (provider, None) => format!("k8s:enc:{provider}:"),
        }
    }
}

#[derive(Deserialize)]
struct GoReport {
    objects: u64,
    revisions: u64,
    providers: BTreeMap<String, u64>,
}

fn words(program: &Path, rest: &[&str]) -> Vec<OsString> {
    let program = std::iter::once(OsString::from(program));
    program.chain(rest.iter().map(OsString::from)).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).during(|| format!("reading {}", path.display()))
}

fn parse<T: for<'de> Deserialize<'de>>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).during(|| format!("reading {}", String::from_utf8_lossy(json)))
}

fn number(json: &[u8], field: &str) -> Result<u64> {
    let value: Value = parse(json)?;
    value[field].as_u64().ok_or_else(|| Error::new(format!("no {field} in {value}")))
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(format!("{what}: {found:?}, expected {expected:?}")))
}
