//! The attacked daemon, and its health according to the kernel and its log.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::net::{SocketAddr, UnixStream},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::{plugin::Plugin, processes::Run};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// A time limit far longer than the daemon needs for anything. If it passes, the daemon hangs.
pub(super) const HANG: Duration = Duration::from_secs(20);

/// A plugin that serves. It is never started again: if it runs at the end, it has run all the time.
pub(super) struct Victim {
    run: Run,
    plugin: Plugin,
    pid: u32,
    address: SocketAddr,
}

/// The figures of the kernel about the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vitals {
    pub(super) resident_kib: u64,
    pub(super) locked_kib: u64,
    pub(super) descriptors: usize,
}

/// The numbers of lines in the log, by kind.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) lines: u64,
    pub(super) bytes: u64,
    pub(super) longest: String,
}

impl Victim {
    pub(super) fn on_path() -> Self {
        let run = Run::new().unwrap();
        let socket = run.socket("kms.sock").unwrap();
        let address = SocketAddr::from_pathname(&socket).unwrap();
        Self::serve(run, &socket.display().to_string(), address)
    }

    /// Starts a daemon on an abstract socket, from which no file permission keeps other users away.
    pub(super) fn on_abstract_name() -> Self {
        use std::os::linux::net::SocketAddrExt;
        let run = Run::new().unwrap();
        let name = run.directory().file_name().unwrap().to_str().unwrap().to_owned();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::serve(run, &format!("@{name}"), address)
    }

    fn serve(run: Run, socket: &str, address: SocketAddr) -> Self {
        let mut plugin = Plugin::init(&run, BINARY, "victim").unwrap();
        plugin.serve(socket).unwrap();
        let pid = plugin.process().unwrap().id();
        let victim = Self { run, plugin, pid, address };
        victim.settle(None);
        victim
    }

    pub(super) fn address(&self) -> &SocketAddr {
        &self.address
    }

    pub(super) fn vitals(&self) -> Vitals {
        let proc = format!("/proc/{}", self.pid);
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("{proc}/fd")).unwrap().count();
        Vitals { resident_kib: kib("VmRSS:"), locked_kib: kib("VmLck:"), descriptors }
    }

    /// Waits until at most `descriptors` are open, or, without a number, until their number does not change any more.
    fn settle(&self, descriptors: Option<usize>) -> usize {
        let start = Instant::now();
        loop {
            let open = self.vitals().descriptors;
            let goal = descriptors.unwrap_or_else(|| {
                thread::sleep(Duration::from_millis(300));
                self.vitals().descriptors
            });
            if open == goal || start.elapsed() > HANG {
                return open;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fails unless the daemon runs, never panicked, and has as many descriptors and as much locked memory as before.
    pub(super) fn assert_unharmed(&mut self, before: &Vitals) -> Vitals {
        let ended = self.plugin.process().unwrap().ended().unwrap();
        assert_eq!(ended, None, "{:?}", self.plugin.process().unwrap().failure("was ended by its peers"));
        assert_eq!(self.settle(Some(before.descriptors)), before.descriptors, "descriptors were not given back");
        let after = self.vitals();
        assert_eq!(after.locked_kib, before.locked_kib);
        assert!(!self.lines().any(|line| line.contains("panicked")), "the log tells of a panic");
        after
    }

    /// Limits the number of descriptors of the daemon from now on.
    pub(super) fn limit_descriptors(&self, count: u64) {
        let limit = Rlimit { current: Some(count), maximum: Some(count) };
        prlimit(Pid::from_raw(self.pid.cast_signed()), Resource::Nofile, limit).unwrap();
    }

    pub(super) fn wait_until_logged(&self, text: &str, times: usize) {
        let start = Instant::now();
        while self.logged(text) < times {
            assert!(start.elapsed() < HANG, "{text}: waited in vain");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the number of lines of the log with this text.
    pub(super) fn logged(&self, text: &str) -> usize {
        self.lines().filter(|line| line.contains(text)).count()
    }

    pub(super) fn log(&self) -> Log {
        let mut log = Log { lines: 0, bytes: 0, longest: String::new() };
        for line in self.lines() {
            log.lines += 1;
            log.bytes += u64::try_from(line.len()).unwrap() + 1;
            if line.len() > log.longest.len() {
                log.longest = line;
            }
        }
        log
    }

    /// Returns the lines of the log one after the other, because the log of a campaign has hundreds of megabytes.
    fn lines(&self) -> impl Iterator<Item = String> {
        let log = BufReader::new(File::open(self.run.log_of("victim")).unwrap());
        log.split(b'\n').map(|line| String::from_utf8_lossy(&line.unwrap()).into_owned())
    }
}

/// Connects, with a time limit for every operation that may hang.
pub(super) fn connect(address: &SocketAddr) -> UnixStream {
    let stream = UnixStream::connect_addr(address).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream.set_write_timeout(Some(HANG)).unwrap();
    stream
}
