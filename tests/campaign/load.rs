//! Clients that run during a campaign. Each reports its figures when the campaign stops it.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};

use crate::harness::{
    binaries::Program,
    processes::{Process, Run},
};

/// The time limit for a client to end the calls that it has begun, and to unwrap all seeds that it kept.
const LIMIT: Duration = Duration::from_mins(1);

/// A client that calls until the campaign stops it.
pub(crate) struct Load {
    process: Process,
    log: PathBuf,
}

impl Load {
    pub(crate) fn start(run: &Run, program: Program, arguments: &[&str]) -> Self {
        let mut command = Command::new(program.path().unwrap());
        command.args(arguments);
        let name = run.unique_name("client");
        Self { process: run.start(&name, command).unwrap(), log: run.log_of(&name) }
    }

    /// Waits until a `kms-client` has had a seed wrapped.
    pub(crate) fn wait_until_wrapping(&mut self) {
        let log = &self.log;
        let wrapped = || fs::read_to_string(log).unwrap().contains("wrapped the first seed");
        self.process.wait_until("wrapping", LIMIT, wrapped).unwrap();
    }

    /// Ends the client, and reads its report.
    pub(crate) fn finish<Report: DeserializeOwned>(mut self) -> Report {
        let status = self.process.terminate(LIMIT).unwrap();
        let log = self.process.log();
        assert!(status.success(), "{log}");
        println!("{}", log.trim_end());
        serde_json::from_str(log.lines().last().expect("a report")).unwrap()
    }
}

/// The report of `kms-client`. Its source explains each number.
#[derive(Deserialize)]
pub(crate) struct Kms {
    methods: BTreeMap<String, Calls>,
    pub(crate) failures: BTreeMap<String, u64>,
    dials: BTreeMap<String, u64>,
    wrong: u64,
    mismatches: u64,
    kept: u64,
    reopened: u64,
}

#[derive(Deserialize)]
struct Calls {
    calls: u64,
}

impl Kms {
    /// Returns the number of calls that succeeded.
    pub(crate) fn calls(&self) -> u64 {
        self.methods.values().map(|method| method.calls).sum()
    }

    /// Returns the number of attempts to connect that the kernel refused.
    pub(crate) fn refused(&self) -> u64 {
        self.dials.iter().filter(|(outcome, _)| *outcome != "connected").map(|(_, count)| count).sum()
    }

    /// Checks that every answer was right, and that everything that was wrapped still opens.
    pub(crate) fn assert_nothing_is_wrong_or_lost(&self) {
        assert_eq!((self.wrong, self.mismatches), (0, 0));
        assert!(self.kept > 0, "the client wrapped nothing");
        assert_eq!(self.reopened, self.kept);
    }

    /// Checks that calls failed only with a code that says that the plugin does not run or is not open yet.
    pub(crate) fn assert_failures_are_honest(&self) {
        for failure in self.failures.keys() {
            let honest =
                ["Unavailable", "DeadlineExceeded"].iter().any(|code| failure.contains(&format!(": {code}: ")));
            assert!(honest, "{failure}");
        }
    }
}

/// The report of `api-client`.
#[derive(Deserialize)]
pub(crate) struct Api {
    requests: BTreeMap<String, u64>,
    failures: BTreeMap<String, u64>,
    events: u64,
    disordered: u64,
    lost: u64,
}

impl Api {
    /// Checks that every request got the expected answer, and that every watcher saw every write in order.
    pub(crate) fn assert_nothing_failed(&self) {
        assert_eq!(self.failures, BTreeMap::new());
        assert_eq!((self.disordered, self.lost), (0, 0));
        let verbs: Vec<&str> = self.requests.keys().map(String::as_str).collect();
        assert_eq!(verbs, ["create", "delete", "get", "list", "update"]);
        assert!(self.events > 0, "nothing was watched");
    }
}
