//! Searches the memory of a daemon for every seed and every key that it ever had.
//!
//! ```text
//! mod, commands ─> load, failures (calls)
//!              └> places (memory, core dumps, files) ─> needles <─ keys (by name) ─> aes
//! ```
//!
//! The test needs root, because only root may read the daemon's memory, and gdb. Two kinds of secrets are in use and
//! are not looked for at that time: the working keys of a KEK during a call, and the last seeds of an open connection,
//! which its buffers hold.

#![allow(clippy::print_stdout, reason = "how much is found is worth seeing")]

mod aes;
mod commands;
mod failures;
mod keys;
mod load;
mod needles;
mod places;

use std::{
    fs::{self, File},
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{TryRecvError, channel},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::harness::{
    plugin::Plugin,
    processes::Run,
    progress::{say, skipped},
};

use self::{
    keys::Keys,
    load::{Client, Wrapped},
    needles::{Finds, Needles},
    places::{Dumped, Memory, core_dump, find_in_files},
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// The number of calls before the daemon is idle: as many Encrypts as Decrypts.
const CALLS: usize = 10_000;

/// The number of last calls that the buffers of a connection may still hold.
const LAST: usize = 2_000;

/// The number of failing calls of each kind.
const FAILURES: usize = 20;

/// The names of the secrets of a call. All other needles are keys.
const SEEDS: [&str; 3] = ["seed", "XAES key of a seed", "seed of a failed call"];

/// The time limit for the daemon to act on a signal.
const LIMIT: Duration = Duration::from_secs(20);

/// A daemon that logs as much as possible, and its keys.
struct Rig {
    run: Run,
    plugin: Plugin,
    address: SocketAddr,
    metrics: String,
    keys: Keys,
    /// Whether this kernel has secret memory. Without it, root finds the keys in their own memory.
    hidden: bool,
    answers: String,
}

impl Rig {
    /// Starts the daemon. If nobody can look into a process on this machine, prints that and returns `None`.
    fn start(binary: impl Into<PathBuf>) -> Option<Self> {
        Self::start_prepared(binary, |_| {})
    }

    /// Starts the daemon after `prepare` has changed what `init` made.
    fn start_prepared(binary: impl Into<PathBuf>, prepare: impl FnOnce(&mut Plugin)) -> Option<Self> {
        if !geteuid().is_root() {
            return missing("only root may look into a process");
        }
        if Command::new("gcore").output().is_err() {
            return missing("this machine has no gcore, which comes with gdb");
        }
        let run = Run::new().unwrap();
        let name = run.directory().file_name().unwrap().to_str().unwrap().to_owned();
        let metrics = run.path("metrics.sock").display().to_string();
        let mut plugin = Plugin::init(&run, binary, "claviger").unwrap();
        let keys = Keys::of(plugin.state_dir());
        prepare(&mut plugin);
        plugin.flag("--log-level=debug");
        plugin.flag(format!("--metrics-listen={metrics}"));
        // Other users reach an abstract socket, too.
        plugin.serve(format!("@{name}")).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        if File::open(format!("/proc/{}/mem", plugin.process().unwrap().id())).is_err() {
            return missing("this root may not look into a process: it has no CAP_SYS_PTRACE");
        }
        // Another test, beside the code, checks that the daemon uses secret memory if there is any.
        let hidden = Memory::of(plugin.process().unwrap().id()).hidden > 0;
        if !hidden {
            say("not looked for in memory: keys, as this kernel has no memfd_secret to hide them in");
        }
        Some(Self { run, plugin, address, metrics, keys, hidden, answers: String::new() })
    }

    fn pid(&mut self) -> u32 {
        self.plugin.process().unwrap().id()
    }

    /// Looks for `needles` in all memory of the daemon that root can read, and then in everything that it wrote.
    fn look(&mut self, needles: &Needles) -> Finds {
        let (mut finds, pid) = (Finds::default(), self.pid());
        Memory::of(pid).find(needles, &mut finds);
        needles.find(&core_dump(&self.run, pid, Dumped::All), "a dump of everything", &mut finds);
        if !self.hidden {
            finds.keep(&SEEDS);
        }
        self.answers += &crate::admin::scrape(&self.metrics);
        self.look_outside(needles, &mut finds);
        finds
    }

    /// Looks in everything that the daemon wrote: logs, files, metrics, answers. Only the key file of the slot has a
    /// secret.
    fn look_outside(&self, needles: &Needles, finds: &mut Finds) {
        let exempt = self.plugin.state_dir().join("slot-file.key");
        assert!(find_in_files(self.run.directory(), &exempt, needles, finds) >= 5, "root, keyring, mark, audit, log");
        needles.find(self.answers.as_bytes(), "metrics or an answer", finds);
    }

    /// Returns all keys, and the secrets of these calls.
    fn needles(&self, wrapped: &[Wrapped]) -> Needles {
        let (mut needles, message_keys) = (self.keys.all(), self.keys.message_keys());
        for wrapped in wrapped {
            needles.add(SEEDS[0], &wrapped.seed);
            needles.add_raw(SEEDS[1], &wrapped.message_key(&message_keys));
        }
        needles
    }

    /// Makes the daemon read its keyring again, so that it unseals once more.
    fn reload(&mut self) {
        let process = self.plugin.process().unwrap();
        kill_process(Pid::from_raw(process.id().cast_signed()).unwrap(), Signal::HUP).unwrap();
        let log = self.run.log_of("claviger");
        let looked = || fs::read_to_string(&log).unwrap().contains("the keyring is unchanged");
        self.plugin.process().unwrap().wait_until("unsealed again", LIMIT, looked).unwrap();
    }
}

fn missing(what: &str) -> Option<Rig> {
    skipped(what);
    None
}

#[track_caller]
fn assert_nothing(finds: &Finds, moment: &str) {
    assert!(finds.is_empty(), "{moment}:{finds:?}");
}

#[test]
fn no_seed_and_no_key_is_found_outside_of_secret_memory() {
    let Some(mut rig) = Rig::start(BINARY) else { return };
    let all = rig.needles(&[]);
    assert_nothing(&rig.look(&all), "after unsealing");

    let client = Client::connect(&rig.address);
    let mut wrapped = client.round_trips(CALLS / 2);
    let earlier = rig.needles(&wrapped[..wrapped.len() - LAST]);
    assert_nothing(&rig.look(&earlier), "after calls, the connection being open");
    drop(client);

    wrapped.extend(look_under_load(&mut rig));
    let mut needles = rig.needles(&wrapped);
    assert_nothing(&rig.look(&needles), "after calls");

    let client = Client::connect(&rig.address);
    let (seeds, answers) = failures::make(&rig.address, &client.round_trips(FAILURES * failures::KINDS));
    drop(client);
    for seed in &seeds {
        needles.add(SEEDS[2], seed);
    }
    rig.answers += &answers;
    assert_nothing(&rig.look(&needles), "after failed calls");

    rig.reload();
    assert_nothing(&rig.look(&needles), "after SIGHUP");
    rig.plugin.terminate().unwrap();
    let mut finds = Finds::default();
    rig.look_outside(&needles, &mut finds);
    assert_nothing(&finds, "after the end");
}

/// Looks, while there are calls, for the keys that no call needs. Returns the seeds of the calls.
fn look_under_load(rig: &mut Rig) -> Vec<Wrapped> {
    let address = rig.address.clone();
    let (stop, stopped) = channel::<()>();
    let load = thread::spawn(move || {
        let (client, mut wrapped) = (Client::connect(&address), Vec::new());
        while stopped.try_recv() != Err(TryRecvError::Disconnected) {
            wrapped.extend(client.round_trips(100));
        }
        wrapped
    });
    let at_rest = rig.keys.at_rest();
    for _ in 0..3 {
        assert_nothing(&rig.look(&at_rest), "in the middle of calls");
    }
    drop(stop);
    let wrapped = load.join().unwrap();
    assert!(wrapped.len() > 100);
    wrapped
}

/// Argon2id uses 256 MiB of memory, which must not keep the passphrase or the key either.
#[test]
fn a_passphrase_leaves_nothing_behind() {
    const PASSPHRASE: &str = "zjQ2xw7Lr0 vKd81Uqe fYb5GtN3 mHs9XcAo";
    // The file is not among the daemon's own files, because it must not be there.
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    fs::write(elsewhere.path(), PASSPHRASE).unwrap();
    let file = elsewhere.path().to_str().unwrap();
    let prepare = |plugin: &mut Plugin| {
        plugin.claviger(&["slot", "add", "passphrase", "--new-passphrase-file", file]).unwrap();
        plugin.claviger(&["slot", "remove", "file", "--passphrase-file", file]).unwrap();
        plugin.flag(format!("--passphrase-file={file}"));
    };
    let Some(mut rig) = Rig::start_prepared(BINARY, prepare) else { return };
    let mut needles = rig.needles(&[]);
    needles.add("passphrase", PASSPHRASE.as_bytes());
    keys::add_passphrase_slot(&mut needles, rig.plugin.state_dir(), PASSPHRASE);
    assert_nothing(&rig.look(&needles), "after unsealing");
    let client = Client::connect(&rig.address);
    drop(client.round_trips(FAILURES));
    assert_nothing(&rig.look(&needles), "after calls");
    rig.reload();
    assert_nothing(&rig.look(&needles), "after SIGHUP");
}

/// The test also runs without secret memory. Then the dump lacks the mappings that the process excluded.
#[test]
fn a_core_dump_has_no_key() {
    let Some(mut rig) = Rig::start(BINARY) else { return };
    let (mut finds, pid) = (Finds::default(), rig.pid());
    let all = rig.keys.all();
    for dumped in [Dumped::NotExcluded, Dumped::Usual] {
        all.find(&core_dump(&rig.run, pid, dumped), "a core dump", &mut finds);
        assert_nothing(&finds, "after unsealing");
    }
}

/// Without this test the search would prove nothing.
#[test]
fn seeds_are_found_where_memory_is_not_wiped() {
    // `cargo test` builds the example. Running these tests alone does not.
    let example = Path::new(BINARY).with_file_name("examples").join("unwiped");
    assert!(example.exists(), "build it first: cargo build --example unwiped");
    let Some(mut rig) = Rig::start(example) else { return };
    let client = Client::connect(&rig.address);
    let wrapped = client.round_trips(CALLS / 2);
    drop(client);
    let needles = rig.needles(&wrapped);
    let finds = rig.look(&needles);
    println!("found without the allocator that wipes: {} of {} seeds", finds.of(SEEDS[0]), wrapped.len());
    assert!(finds.of(SEEDS[0]) > 0, "no seed:{finds:?}");
}
