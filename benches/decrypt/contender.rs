//! The contenders of the benchmark, and how each is started.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{
    harness::{
        binaries::Program,
        error::{Context, Result},
        processes::Run,
    },
    measured::{self, Sample, measure},
    secrets::{Keys, Secrets},
};

/// A contender of the benchmark, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Limit,
    Claviger,
    /// `claviger decrypt`, which writes the objects as YAML.
    ClavigerYaml,
    GoDecrypt,
}

impl Contender {
    pub(crate) const ALL: [Self; 4] = [Self::Limit, Self::Claviger, Self::ClavigerYaml, Self::GoDecrypt];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Limit => "read and AES-GCM",
            Self::Claviger => "claviger",
            Self::ClavigerYaml => "claviger, as YAML",
            Self::GoDecrypt => "go-decrypt",
        }
    }

    /// Runs the contender once. Its output is discarded.
    pub(crate) fn measure(self, run: &Run, keys: &Keys, secrets: &Secrets, watch: bool) -> Result<Sample> {
        self.run_to(run, keys, secrets, Path::new(measured::NOWHERE), watch)
    }

    pub(crate) fn run_to(
        self,
        run: &Run,
        keys: &Keys,
        secrets: &Secrets,
        stdout: &Path,
        watch: bool,
    ) -> Result<Sample> {
        let file = &secrets.file;
        let claviger = |flags: &[&str]| {
            let program = PathBuf::from(env!("CARGO_BIN_EXE_claviger"));
            let mut line = words(&program, &["decrypt", "--all", "--quiet", "--snapshot"]);
            line.extend([file.into(), "--state-dir".into(), (&keys.state_dir).into()]);
            line.extend(flags.iter().map(OsString::from));
            line
        };
        let line = match self {
            Self::Limit => {
                let this = env::current_exe().during(|| "finding this program".to_owned())?;
                [words(&this, &["--limit"]), vec![file.into()]].concat()
            }
            Self::Claviger => claviger(&["--raw"]),
            Self::ClavigerYaml => claviger(&[]),
            Self::GoDecrypt => {
                [words(&Program::GoDecrypt.path()?, &[]), vec![(&keys.seeds).into(), file.into()]].concat()
            }
        };
        measure(run, self.name(), &line, stdout, watch)
    }
}

fn words(program: &Path, rest: &[&str]) -> Vec<OsString> {
    std::iter::once(OsString::from(program)).chain(rest.iter().map(OsString::from)).collect()
}
