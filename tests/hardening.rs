//! Compares the system calls that the daemon allows itself with those that it makes, as strace shows them.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{
    commands::output,
    plugin::Plugin,
    processes::{Process, Run},
};
use crate::systemd::installed;

#[allow(dead_code, reason = "the product uses all of it")]
#[path = "../src/hardening/calls.rs"]
mod calls;

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
const LIMIT: Duration = Duration::from_secs(30);

/// A state directory, and the directory for the sockets of its daemons.
struct Rig {
    run: Run,
    plugin: Plugin,
    socket: PathBuf,
}

/// A daemon under strace.
struct Traced {
    process: Process,
    log: PathBuf,
    trace: PathBuf,
}

impl Rig {
    fn new() -> Self {
        let run = Run::new().unwrap();
        let plugin = Plugin::init(&run, BINARY, "claviger").unwrap();
        let socket = run.socket("kms.sock").unwrap();
        Self { run, plugin, socket }
    }

    fn serve(&self, name: &str, flags: &[&str]) -> Traced {
        let trace = self.run.path(format!("{name}.trace"));
        let daemon = self.plugin.command(&["serve", "--log-level", "debug"]);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(&trace).arg("--").arg(daemon.get_program()).args(daemon.get_args());
        command.arg("--socket").arg(&self.socket).args(flags);
        command.env("NOTIFY_SOCKET", self.run.path("notify")).env("WATCHDOG_USEC", "100000");
        let process = self.run.start(name, command).unwrap();
        Traced { process, log: self.run.log_of(name), trace }
    }

    /// Returns the report of `claviger status`, and whether it exits with 0.
    fn status(&self) -> (bool, Value) {
        let mut command = self.plugin.command(&["status", "--backups", "none", "--output", "json"]);
        command.arg("--socket").arg(&self.socket);
        let answer = output(command, &[], LIMIT).unwrap();
        (answer.status.success(), serde_json::from_slice(&answer.stdout).unwrap_or_default())
    }

    /// Sends bytes that are not HTTP/2, and waits for the end of the connection.
    fn talk_nonsense(&self) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(&[7; 100]).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

impl Traced {
    fn wait_until_logged(&mut self, text: &str) {
        let log = &self.log;
        self.process.wait_until(text, LIMIT, || fs::read_to_string(log).unwrap().contains(text)).unwrap();
    }

    /// Returns the PID of the daemon, which is the child of strace.
    fn pid(&self) -> Pid {
        let children = format!("/proc/{0}/task/{0}/children", self.process.id());
        Pid::from_raw(fs::read_to_string(children).unwrap().trim().parse().unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the daemon. Returns the lines after the first one with `text`.
    fn end(mut self) -> Life {
        let ended = self.process.wait_for_end("its end", LIMIT).unwrap();
        assert!(ended.success(), "{:?}", self.process.failure("ended badly"));
        Life(fs::read_to_string(&self.trace).unwrap().lines().map(str::to_owned).collect())
    }
}

/// The system calls of a daemon's life, one in each line.
struct Life(Vec<String>);

impl Life {
    fn after<'a>(&'a self, text: &str) -> impl Iterator<Item = &'a str> {
        let from = self.0.iter().position(|line| line.contains(text)).expect("it never confined itself");
        self.0[from + 1..].iter().map(String::as_str)
    }

    /// Returns the names of the calls that the daemon made after the filter was in force.
    fn confined_calls(&self) -> BTreeSet<&str> {
        let calls = self.after("seccomp(SECCOMP_SET_MODE_FILTER").filter_map(|line| {
            let (name, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
            Some(name).filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        });
        calls.collect()
    }
}

fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Returns the address in the log, with the port that the kernel chose.
fn metrics_address(log: &str) -> String {
    let line = log.lines().find(|line| line.contains("serving metrics")).unwrap();
    serde_json::from_str::<Value>(line).unwrap()["address"].as_str().unwrap().to_owned()
}

/// Makes the audit log as long as it can be before it is renamed.
fn fill_audit(state_dir: &Path) {
    let mut audit = fs::OpenOptions::new().append(true).create(true).open(state_dir.join("audit.jsonl")).unwrap();
    for _ in 0..64 {
        audit.write_all(format!("{}\n", "x".repeat(65_535)).as_bytes()).unwrap();
    }
}

/// Runs a daemon, and another one that takes over from it. Returns the system calls that they made.
fn lives() -> [Life; 3] {
    let rig = Rig::new();
    let _manager = UnixDatagram::bind(rig.run.path("notify")).unwrap();
    fill_audit(rig.plugin.state_dir());
    fs::remove_file(rig.plugin.state_dir().join("mark")).unwrap();

    let mut first = rig.serve("first", &["--metrics-listen", "127.0.0.1:0"]);
    first.wait_until_logged("unsealed");
    first.wait_until_logged("serving metrics");
    assert!(rig.status().0);
    rig.talk_nonsense();
    let page = scrape(&metrics_address(&first.process.log()));
    assert!(page.contains("process_resident_memory_bytes") && page.contains("process_open_fds"), "{page}");
    first.signal(Signal::HUP);
    first.wait_until_logged("the keyring is unchanged");
    fs::remove_file(&rig.socket).unwrap();
    first.wait_until_logged("socket was removed, made again");

    let metrics = rig.run.socket("metrics.sock").unwrap().display().to_string();
    let mut second = rig.serve("second", &["--take-over", "--metrics-listen", &metrics]);
    second.wait_until_logged("unsealed");
    let first = first.end();
    second.wait_until_logged("state directory locked");
    // The daemon takes the lock of the socket at its next look.
    thread::sleep(Duration::from_millis(1500));
    assert!(rig.status().0);
    second.signal(Signal::TERM);
    let second = second.end();

    let mut third = rig.serve("third", &["--without", "memfd-secret"]);
    third.wait_until_logged("unsealed");
    assert!(rig.status().0);
    third.signal(Signal::INT);
    [first, second, third.end()]
}

#[test]
fn what_a_daemon_does_is_what_it_may_do() {
    if installed("strace").is_none() {
        return;
    }
    let lives = lives();
    let mut called = BTreeSet::new();
    for life in &lives {
        called.append(&mut life.confined_calls());
        for (layer, refusal) in [("landlock_restrict_self(", "EACCES"), ("seccomp(SECCOMP_SET_MODE_FILTER", "EPERM")] {
            let refused: Vec<&str> = life.after(layer).filter(|line| line.contains(refusal)).collect();
            assert!(refused.is_empty(), "refused to itself: {refused:#?}");
        }
    }
    let name = |call: &calls::SystemCall| call.0.strip_prefix("SYS_").unwrap();
    let usual: BTreeSet<&str> = calls::USUAL.iter().map(name).collect();
    let narrowed = calls::narrowed(calls::OwnFacts {
        pid: 1,
        is_root: true,
        group: 1,
        socket_group: Some(1),
        owner: Some((1, 1)),
    });
    let allowed: BTreeSet<&str> = [calls::USUAL, calls::OLDER, calls::RARE]
        .into_iter()
        .flatten()
        .chain(narrowed.iter().map(|narrowed| &narrowed.call))
        .map(name)
        .collect();
    let surprising: Vec<_> = called.difference(&allowed).collect();
    assert!(surprising.is_empty(), "called, and not in the list: {surprising:?}");
    let unused: Vec<_> = usual.difference(&called).collect();
    assert!(unused.is_empty(), "in the list of what is usual, and never called: {unused:?}");
}

/// The daemon may read the file on another disk, and no other file in its directory.
#[test]
fn a_slot_file_outside_of_the_state_directory_is_read_from_inside() {
    let run = Run::new().unwrap();
    let (state_dir, disk, socket) = (run.path("state"), run.path("disk"), run.socket("kms.sock").unwrap());
    fs::create_dir(&disk).unwrap();
    let claviger = |verb: &str| {
        let mut command = Command::new(BINARY);
        command.arg(verb).arg("--state-dir").arg(&state_dir);
        command
    };
    let mut init = claviger("init");
    init.args(["--without-recovery", "--slot-file"]).arg(disk.join("root.key"));
    let initialized = output(init, &[], LIMIT);
    assert!(initialized.unwrap().status.success());
    let mut serve = claviger("serve");
    serve.arg("--socket").arg(&socket);
    let mut process = run.start("elsewhere", serve).unwrap();
    let log = run.log_of("elsewhere");
    let unsealed = || fs::read_to_string(&log).unwrap().contains(r#""message":"unsealed""#);
    process.wait_until("unsealed", LIMIT, unsealed).unwrap();
    process.terminate(LIMIT).unwrap();
}

#[test]
fn status_and_the_log_say_what_is_in_force() {
    let rig = Rig::new();
    let mut command = rig.plugin.command(&["serve"]);
    command.arg("--socket").arg(&rig.socket);
    let mut plain = rig.run.start("plain", command).unwrap();
    plain.wait_until("serving", LIMIT, || rig.status().0).unwrap();
    let layers = rig.status().1["plugin"]["layers"].clone();
    let logged = |log: &str| -> Value {
        let line = log.lines().find(|line| line.contains(r#""message":"protected""#)).unwrap();
        serde_json::from_str(line).unwrap()
    };
    for layer in ["memory", "landlock", "seccomp"] {
        assert_eq!(logged(&plain.log())[layer], layers[layer]);
    }
    // The kernel itself shows the mode of seccomp. 2 means a filter.
    let kernel = fs::read_to_string(format!("/proc/{}/status", plain.id())).unwrap();
    assert_eq!(kernel.contains("\nSeccomp:\t2\n"), layers["seccomp"] == "on");
    plain.terminate(LIMIT).unwrap();

    let mut command = rig.plugin.command(&["serve"]);
    command.args(["memfd-secret", "landlock", "seccomp"].map(|layer| format!("--without={layer}")));
    let mut bare = rig
        .run
        .start("bare", {
            command.arg("--socket").arg(&rig.socket);
            command
        })
        .unwrap();
    bare.wait_until("serving", LIMIT, || rig.status().0).unwrap();
    let layers = rig.status().1["plugin"]["layers"].clone();
    assert_eq!(layers, serde_json::json!({"memory": "mlock", "landlock": "off", "seccomp": "off"}));
    let kernel = fs::read_to_string(format!("/proc/{}/status", bare.id())).unwrap();
    assert!(kernel.contains("\nSeccomp:\t0\n") || kernel.contains("\nNoNewPrivs:\t0\n"), "{kernel}");
}

/// Returns the system calls of one of systemd's groups. A single call is its own only member.
fn members(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return BTreeSet::from([name.to_owned()]);
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["syscall-filter", name]);
    let text = String::from_utf8(output(command, &[], LIMIT).unwrap().stdout).unwrap();
    let lines = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(members).collect()
}

/// The unit's list of system calls must allow all calls of the daemon. systemd's filter comes first, so a forbidden
/// call fails before the daemon's own filter sees it.
#[test]
fn the_unit_allows_what_a_daemon_calls() {
    if installed("systemd-analyze").is_none() {
        return;
    }
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/claviger.service")).unwrap();
    // systemd itself adds these calls to every list.
    let mut allowed = members("@default");
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (names, allow) = line.strip_prefix('~').map_or((line, true), |names| (names, false));
        for name in names.split(' ') {
            let calls = members(name);
            if allow {
                allowed.extend(calls);
            } else {
                allowed.retain(|call| !calls.contains(call));
            }
        }
    }
    let needed = calls::USUAL.iter().chain(calls::OLDER).map(|call| call.0.strip_prefix("SYS_").unwrap());
    let own = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"];
    let refused: Vec<&str> = needed.chain(own).filter(|call| !allowed.contains(*call)).collect();
    assert!(refused.is_empty(), "{refused:?}");
}
