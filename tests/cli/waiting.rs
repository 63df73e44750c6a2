//! Tests commands that wait for a secret or hold keys: no other process can read or dump them, their memory is locked
//! if the kernel allows it, and they read only what the shell passes to them.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{
    backup::{OURS, STATE, with_recovery},
    output::identity,
    sandbox::{NOBODY, Sandbox, root_for},
    slot::with_passphrase,
};
use crate::scan::forged::{FREE, Forged, LEAF, Record, leaf, revision};

/// Every command that reads a secret, from standard input. `RECIPIENT` is a recipient.
const WAITING: [&str; 12] = [
    "init --state-dir [DIR]/own/new --recovery-recipient RECIPIENT --recovery-identity -",
    "slot add passphrase --state-dir [DIR]/own/state --new-passphrase-file -",
    "slot add credential --state-dir [DIR]/own/state --credential-file -",
    "recovery add RECIPIENT --state-dir [DIR]/own/state --recovery-identity -",
    "recovery test --state-dir [DIR]/own/state --recovery-identity -",
    "recovery split --recovery-identity - --shares 3 --threshold 2 --directory [DIR]/own",
    "backup check [DIR]/own/backup.age --state-dir [DIR]/own/state --recovery-identity -",
    "backup restore [DIR]/own/backup.age --state-dir [DIR]/own/new --recovery-identity -",
    "backup restore [DIR]/own/backup.age --state-dir [DIR]/own/state --recovery-identity -",
    "key list --state-dir [DIR]/own/state --passphrase-file -",
    "status --state-dir [DIR]/own/state --passphrase-file -",
    "serve --state-dir [DIR]/own/state --passphrase-file -",
];

/// Commands that hold keys for a long time, because nobody reads their output, or because their input hardly ends: a
/// long snapshot, a server that never answers.
const HOLDING: [&str; 4] = [
    "decrypt --all --snapshot [DIR]/own/etcd.db --state-dir [DIR]/own/state",
    "decrypt --all --snapshot [DIR]/own/etcd.db --backup [DIR]/own/backup.age --recovery-identity [DIR]/own/identity.txt",
    "backup check [DIR]/own/backup.age --snapshot [DIR]/own/etcd.db --recovery-identity [DIR]/own/identity.txt",
    "verify --etcd-servers SERVER --encryption-config [DIR]/encryption.yaml --state-dir [DIR]/own/state",
];

/// The time limit for a command to read something.
const LIMIT: Duration = Duration::from_secs(20);

/// A command that has read a part of its secret, and waits for the rest, or that holds keys.
struct Waiting(Child);

impl Waiting {
    fn start(mut child: Child) -> Self {
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(b"a part of a secret").unwrap();
        let start = Instant::now();
        while rustix::io::ioctl_fionread(&pipe).unwrap() > 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended without reading");
            assert!(start.elapsed() < LIMIT, "nothing was read");
            thread::sleep(Duration::from_millis(5));
        }
        child.stdin = Some(pipe);
        Self(child)
    }

    /// Waits until the command holds its keys.
    fn until(mut child: Child, mut is_holding: impl FnMut(u32) -> bool) -> Self {
        let (start, id) = (Instant::now(), child.id());
        while !is_holding(id) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before: {:?}", child.wait_with_output());
            assert!(start.elapsed() < LIMIT, "it does not read");
            thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }

    /// Returns the line that begins with `name` in a file of the process below `/proc`.
    fn line(&self, file: &str, name: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // The command may have ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Returns a keyring and a backup of a user who is not root, the identity of the backup, and its recipient.
fn of_nobody() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    sandbox.make_dir("own", 0o700);
    let recipient = identity(&sandbox, "own/identity.txt");
    for path in ["own", "own/identity.txt"] {
        chown(sandbox.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    sandbox.call("init --state-dir [DIR]/own/state --without-recovery").by_nobody().run().ends_with(0);
    let backup = format!("backup create [DIR]/own/backup.age --state-dir [DIR]/own/state --recipient {recipient}");
    sandbox.call(&backup).by_nobody().run().ends_with(0);
    (sandbox, recipient)
}

/// Whether another process of the same user can read the environment of the process.
fn is_read(id: u32) -> bool {
    let mut cat = Command::new("cat");
    cat.arg(format!("/proc/{id}/environ")).uid(NOBODY).gid(NOBODY).stdout(Stdio::null()).stderr(Stdio::null());
    cat.status().unwrap().success()
}

/// Whether a debugger of its user can attach to the process. `None` if there is no debugger.
fn is_debugged(id: u32, directory: &Path) -> Option<bool> {
    let mut gcore = Command::new("gcore");
    gcore.arg("-o").arg(directory.join("core")).arg(id.to_string()).uid(NOBODY).gid(NOBODY).current_dir(directory);
    Some(gcore.stdin(Stdio::null()).output().ok()?.status.success())
}

/// Makes a snapshot with one object that is larger than a pipe. Computing its digest takes longer than the test,
/// because nearly all of the file is a hole.
fn endless(sandbox: &Sandbox) {
    let forged = Forged::new(sandbox.path("own/etcd.db"), 4096, 1 << 24);
    let value = format!("{{\"kind\":\"Secret\",\"data\":\"{}\"}}", "a".repeat(4 << 20));
    let secret = Record::first("/registry/secrets/default/a", 2, value.into_bytes());
    let body = leaf(&[(revision(2).as_slice(), secret)], 0);
    forged.page(FREE, LEAF, 1, forged.overflow(&body), &body);
    forged.tree(vec![(revision(2), FREE)], FREE + 4096);
}

#[test]
fn no_process_of_the_same_user_can_look_into_a_command_that_holds_keys() {
    if !root_for("processes of another user") {
        return;
    }
    let (sandbox, _) = of_nobody();
    let (own, snapshot) = (sandbox.path("own"), sandbox.path("own/etcd.db"));
    endless(&sandbox);
    fs::write(sandbox.path("encryption.yaml"), crate::verify::CONFIG).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    // Without this check the test would prove nothing: other processes of the user can be read, and a readable program
    // can be dumped.
    let mut sleep = Command::new("sleep");
    let sleep = Waiting(sleep.arg("600").uid(NOBODY).gid(NOBODY).spawn().unwrap());
    assert!(is_read(sleep.0.id()));
    let has_debugger = is_debugged(sleep.0.id(), &own) == Some(true);
    if !has_debugger {
        eprintln!("left out: this machine has no gcore, or lets nobody attach to a process");
    }
    for line in HOLDING {
        let child = sandbox.call(&line.replace("SERVER", &url)).by_nobody().start();
        let mut connections = Vec::new();
        let command = Waiting::until(child, |id| {
            connections.extend(server.accept());
            let mut open = fs::read_dir(format!("/proc/{id}/fd")).unwrap();
            !connections.is_empty()
                || open.any(|file| fs::read_link(file.unwrap().path()).is_ok_and(|path| path == snapshot))
        });
        assert!(!is_read(command.0.id()), "{line}");
        assert!(!has_debugger || is_debugged(command.0.id(), &own) == Some(false), "{line}");
        assert_eq!(command.line("limits", "Max core file size"), "0 0 bytes", "{line}");
        assert_eq!(command.line("coredump_filter", ""), "00000000", "{line}");
    }
    assert_eq!(fs::metadata(sandbox.path("claviger")).unwrap().mode() & 0o444, 0o444);
}

#[test]
fn no_command_can_be_dumped_while_it_waits_for_a_secret() {
    if !root_for("processes of another user") {
        return;
    }
    let (sandbox, recipient) = of_nobody();
    for line in WAITING {
        let line = line.replace("RECIPIENT", &recipient);
        let waiting = Waiting::start(sandbox.call(&line).by_nobody().start());
        // The kernel gives the files of a process that cannot be dumped to root.
        let owner = fs::metadata(format!("/proc/{}/environ", waiting.0.id())).unwrap().uid();
        assert_eq!(owner, 0, "another process of its user can look into `{line}`");
        assert_eq!(waiting.line("limits", "Max core file size"), "0 0 bytes", "{line}");
    }
}

#[test]
fn root_locks_its_memory_also_if_it_cannot_raise_the_limit() {
    if !root_for("capabilities") {
        return;
    }
    let sandbox = Sandbox::initialised();
    let locked = |capabilities: &str| {
        let wrapper = ["prlimit", "--memlock=1000000", "setpriv", "--bounding-set", capabilities];
        let line = "slot add passphrase --state-dir [DIR]/state --new-passphrase-file -";
        let waiting = Waiting::start(sandbox.call(line).under(wrapper, "").start());
        waiting.line("status", "VmLck:")
    };
    assert_ne!(locked("-sys_resource"), "0 kB");
    // Without this limit, a later allocation would fail.
    assert_eq!(locked("-sys_resource,-ipc_lock"), "0 kB");
}

#[test]
fn a_secret_comes_from_a_file_or_from_a_pipe_of_the_shell_and_no_fifo_is_waited_for() {
    let sandbox = with_recovery();
    mknodat(CWD, sandbox.path("fifo"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let test = format!("recovery test {STATE} --recovery-identity");
    for line in [
        format!("{test} [DIR]/fifo"),
        format!("slot add passphrase {STATE} --new-passphrase-file [DIR]/fifo"),
        format!("slot add credential {STATE} --credential-file [DIR]/fifo"),
        format!("backup check [DIR]/fifo {OURS} {STATE}"),
    ] {
        let refused = sandbox.run(&line);
        assert!(refused.code != 0 && refused.stderr.contains("it is a FIFO, expected a regular file"), "{refused}");
    }
    let needed = with_passphrase();
    mknodat(CWD, needed.path("fifo"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let refused = needed.run(&format!("key list {STATE} --passphrase-file [DIR]/fifo"));
    assert!(refused.code != 0 && refused.stderr.contains("it is a FIFO, expected a regular file"), "{refused}");
    let identity = fs::read(sandbox.path("ours.txt")).unwrap();
    for path in ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        sandbox.call(&format!("{test} {path}")).stdin(identity.clone()).run().ends_with(0);
    }
    let script = format!("exec \"$0\" \"$@\" <(cat {})", sandbox.path("ours.txt").display());
    sandbox.call(&test).under(["bash", "-c", &script], "<(cat ours.txt)").run().ends_with(0);
}
