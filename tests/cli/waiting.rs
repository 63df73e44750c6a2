//! Commands that wait for a secret: nobody can look into them or dump them meanwhile, their memory is locked if the kernel allows it,
//! and they wait only for what a shell passes on.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, chown},
    process::Child,
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

/// A command that has read a part of its secret, and waits for the rest.
struct Waiting(Child);

impl Waiting {
    fn start(mut child: Child) -> Self {
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(b"a part of a secret").unwrap();
        let start = Instant::now();
        while rustix::io::ioctl_fionread(&pipe).unwrap() > 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended without reading");
            assert!(start.elapsed() < Duration::from_secs(20), "nothing was read");
            thread::sleep(Duration::from_millis(5));
        }
        child.stdin = Some(pipe);
        Self(child)
    }

    /// The line of a file of its process that begins with `name`.
    fn line(&self, file: &str, name: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn no_command_can_be_dumped_while_it_waits_for_a_secret() {
    if !root_for("processes of another user") {
        return;
    }
    let sandbox = Sandbox::new();
    let recipient = identity(&sandbox, "identity.txt");
    sandbox.make_dir("own", 0o700);
    chown(sandbox.path("own"), Some(NOBODY), Some(NOBODY)).unwrap();
    sandbox.call("init --state-dir [DIR]/own/state --without-recovery").by_nobody().run().ends_with(0);
    let backup = format!("backup create [DIR]/own/backup.age --state-dir [DIR]/own/state --recipient {recipient}");
    sandbox.call(&backup).by_nobody().run().ends_with(0);
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
    // Otherwise a later allocation would fail.
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
