//! Tests the daemon under systemd, as far as that is possible without systemd: its messages, its sockets, its units.
//!
//! If a program of systemd is missing, the test prints that and passes. The CI has all of them.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    commands::{output, output_of_success},
    plugin::Plugin,
    processes::{Process, Run},
    progress::skipped,
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
const LIMIT: Duration = Duration::from_secs(20);

/// The socket of the service manager.
struct Manager {
    run: Run,
    line: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new() -> Self {
        let run = Run::new().unwrap();
        let path = run.socket("notify").unwrap();
        let line = UnixDatagram::bind(&path).unwrap();
        line.set_read_timeout(Some(LIMIT)).unwrap();
        Self { run, line, path }
    }

    /// Starts the daemon as a service of type notify.
    fn start(&self, plugin: &Plugin, settings: &[(&str, &str)]) -> Process {
        let mut command = plugin.command(&["serve"]);
        command.arg("--socket").arg(self.run.socket("kms.sock").unwrap()).env("NOTIFY_SOCKET", &self.path);
        command.envs(settings.iter().copied());
        self.run.start("service", command).unwrap()
    }

    /// Returns the lines of the next message. Skips heartbeats.
    fn received(&self) -> Vec<String> {
        loop {
            let message = self.received_any();
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }

    fn received_any(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.line.recv(&mut message).expect("the daemon says something");
        String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned).collect()
    }
}

fn signal(process: &Process, signal: Signal) {
    kill_process(Pid::from_raw(process.id().cast_signed()).unwrap(), signal).unwrap();
}

/// Returns the program. If it is missing, prints that and returns `None`.
pub(crate) fn installed(program: &str) -> Option<Command> {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skipped(&format!("this machine has no {program}"));
    }
    found.then(|| Command::new(program))
}

#[test]
fn a_service_manager_hears_of_every_change() {
    let manager = Manager::new();
    let plugin = Plugin::init(&manager.run, BINARY, "state").unwrap();
    let mut service = manager.start(&plugin, &[("WATCHDOG_USEC", "100000")]);
    let ready = manager.received();
    assert_eq!(ready[0], "READY=1");
    assert!(ready[1].starts_with("STATUS=serving generation 1, primary k1-"), "{ready:?}");
    for _ in 0..5 {
        assert_eq!(manager.received_any(), ["WATCHDOG=1"]);
    }
    signal(&service, Signal::HUP);
    let reloading = manager.received();
    assert_eq!(reloading[0], "RELOADING=1");
    assert!(reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().is_ok(), "{reloading:?}");
    assert_eq!(manager.received(), ready);
    signal(&service, Signal::TERM);
    assert_eq!(manager.received()[0], "STOPPING=1");
    service.wait_until("gone", LIMIT, || false).unwrap_err();
    assert!(service.ended().unwrap().unwrap().success());
}

#[test]
fn a_keyring_that_opens_late_does_not_hold_the_boot_up() {
    let manager = Manager::new();
    let plugin = Plugin::init(&manager.run, BINARY, "state").unwrap();
    // Without a mark, unsealing has to write one, and waits for the lock.
    fs::remove_file(plugin.state_dir().join("mark")).unwrap();
    let lock = fs::File::open(plugin.state_dir().join("lock")).unwrap();
    lock.lock().unwrap();
    let _service = manager.start(&plugin, &[]);
    assert_eq!(manager.received(), ["READY=1", "STATUS=sealed: the keyring is not open yet"]);
    drop(lock);
    let ready = manager.received();
    assert!(ready[1].starts_with("STATUS=serving generation 1"), "{ready:?}");
}

#[test]
fn a_keyring_that_does_not_open_is_never_ready() {
    let manager = Manager::new();
    let plugin = Plugin::init(&manager.run, BINARY, "state").unwrap();
    fs::remove_file(plugin.state_dir().join("keyring")).unwrap();
    let mut service = manager.start(&plugin, &[]);
    service.wait_until("gone", LIMIT, || false).unwrap_err();
    assert_eq!(service.ended().unwrap().unwrap().code(), Some(7));
    manager.line.set_nonblocking(true).unwrap();
    assert!(manager.line.recv(&mut [0; 64]).is_err());
}

#[test]
fn without_the_socket_of_the_service_manager_the_daemon_refuses_to_start() {
    let run = Run::new().unwrap();
    let plugin = Plugin::init(&run, BINARY, "state").unwrap();
    let socket = run.socket("kms.sock").unwrap();
    let mut serve = plugin.command(&["serve"]);
    serve.arg("--socket").arg(&socket).env("NOTIFY_SOCKET", run.path("missing"));
    let refused = output(serve, &[], LIMIT).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    let expected = "connecting to systemd's notification socket: No such file or directory (os error 2)";
    assert!(said.contains(expected), "{said}");
    assert!(!refused.status.success() && !socket.exists());
}

#[test]
fn the_first_call_starts_it_and_is_answered() {
    let Some(mut activate) = installed("systemd-socket-activate") else { return };
    let run = Run::new().unwrap();
    let plugin = Plugin::init(&run, BINARY, "state").unwrap();
    let socket = run.socket("kms.sock").unwrap();
    activate.arg("--listen").arg(&socket).args([BINARY, "serve", "--state-dir"]).arg(plugin.state_dir());
    let mut service = run.start("activated", activate).unwrap();
    service.wait_until("listening", LIMIT, || socket.exists()).unwrap();
    assert!(!service.log().contains("unsealed"), "nobody has called yet");
    let mut status = plugin.command(&["status", "--backups", "none"]);
    status.arg("--socket").arg(&socket);
    // The call that starts the daemon waits in the backlog, and is not refused.
    let answer = output(status, &[], LIMIT).unwrap();
    assert_eq!(answer.status.code(), Some(0), "{}{}", String::from_utf8_lossy(&answer.stdout), service.log());
    assert!(service.log().contains("from systemd"));
}

/// Returns the unit files unchanged, except for the path of the program.
fn units(run: &Run) -> [PathBuf; 2] {
    ["claviger.service", "claviger.socket"].map(|name| {
        let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap();
        let path = run.path(name);
        fs::write(&path, shipped.replace("/usr/local/bin/claviger", BINARY)).unwrap();
        path
    })
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some(mut verify) = installed("systemd-analyze") else { return };
    let run = Run::new().unwrap();
    let [service, socket] = units(&run);
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).args([&service, &socket]);
    let answer = output(verify, &[], LIMIT).unwrap();
    assert!(answer.status.success() && answer.stderr.is_empty(), "{}", String::from_utf8_lossy(&answer.stderr));
    // A unit with a wrong setting is refused, so the check above can fail.
    let broken = fs::read_to_string(&service).unwrap().replace("WatchdogSec=", "WatchdogSeconds=");
    fs::write(&service, broken).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&service);
    assert!(String::from_utf8_lossy(&output(verify, &[], LIMIT).unwrap().stderr).contains("WatchdogSeconds"));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_timer_and_knows_when_it_runs() {
    let Some(mut verify) = installed("systemd-analyze") else { return };
    let run = Run::new().unwrap();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let [service, timer] = ["claviger-rotate.service", "claviger-rotate.timer"].map(|name| {
        let shipped = fs::read_to_string(deploy.join(name)).unwrap();
        let path = run.path(name);
        fs::write(&path, shipped.replace("/usr/local/bin/claviger", BINARY)).unwrap();
        path
    });
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).args([&service, &timer]);
    let answer = output(verify, &[], LIMIT).unwrap();
    assert!(answer.status.success() && answer.stderr.is_empty(), "{}", String::from_utf8_lossy(&answer.stderr));
    let timer = fs::read_to_string(timer).unwrap();
    let when = timer.lines().find_map(|line| line.strip_prefix("OnCalendar=")).unwrap();
    let mut calendar = Command::new("systemd-analyze");
    calendar.args(["calendar", "--iterations=5", "--base-time=2027-01-01 12:00:00", when]).env("TZ", "UTC");
    let answer = output_of_success(calendar, &[], LIMIT).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    for day in ["2027-04-01 03:00", "2027-07-01 03:00", "2027-10-01 03:00", "2028-01-01 03:00", "2028-04-01 03:00"] {
        assert!(answer.contains(day), "{answer}");
    }
}

/// Without a running systemd, its programs make the credential and verify the unit. Where systemd puts the credential
/// is not tested.
#[test]
fn a_credential_of_systemds_opens_a_slot() {
    let Some(mut encrypt) = installed("systemd-creds") else { return };
    let run = Run::new().unwrap();
    let plugin = Plugin::init(&run, BINARY, "state").unwrap();
    let encrypted = run.path("claviger-root");
    // The null key is used, because the test is about the bytes, and must not use the TPM or the host's key.
    encrypt.args(["encrypt", "--with-key=tpm2-absent", "--name=claviger-root", "-"]).arg(&encrypted);
    output_of_success(encrypt, &[8; 32], LIMIT).unwrap();
    let mut decrypt = Command::new("systemd-creds");
    decrypt.arg("decrypt").arg(&encrypted).arg("-");
    let credential = output_of_success(decrypt, &[], LIMIT).unwrap();
    let add = plugin.command(&["slot", "add", "credential", "--credential-file", "-"]);
    output_of_success(add, &credential, LIMIT).unwrap();
    let given = run.path("given");
    fs::create_dir(&given).unwrap();
    fs::write(given.join("claviger-root"), &credential).unwrap();
    let mut test = plugin.command(&["slot", "test", "credential"]);
    test.env("CREDENTIALS_DIRECTORY", &given);
    output_of_success(test, &[], LIMIT).unwrap();
}

#[test]
fn the_lines_for_a_credential_are_systemds() {
    let Some(mut verify) = installed("systemd-analyze") else { return };
    let run = Run::new().unwrap();
    let [service, _] = units(&run);
    let mut generate = Command::new(BINARY);
    generate.args(["generate", "systemd-credential"]);
    let lines = output_of_success(generate, &[], LIMIT).unwrap();
    let with = |lines: &str| {
        let unit = fs::read_to_string(&service).unwrap();
        fs::write(&service, unit.replacen("[Service]\n", lines, 1)).unwrap();
    };
    with(&String::from_utf8(lines).unwrap());
    assert!(fs::read_to_string(&service).unwrap().contains("\nLoadCredentialEncrypted=claviger-root:/etc/credstore"));
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&service);
    let answer = output(verify, &[], LIMIT).unwrap();
    assert!(answer.status.success() && answer.stderr.is_empty(), "{}", String::from_utf8_lossy(&answer.stderr));
}

#[test]
fn the_unit_exposes_next_to_nothing() {
    let Some(mut security) = installed("systemd-analyze") else { return };
    let run = Run::new().unwrap();
    let [service, _] = units(&run);
    // The threshold is in tenths: the command fails above 1.5.
    security.args(["security", "--offline=true", "--threshold=15"]).arg(&service);
    output_of_success(security, &[], LIMIT).unwrap();
}

#[test]
fn a_file_that_is_no_socket_is_not_taken_for_one() {
    let run = Run::new().unwrap();
    let plugin = Plugin::init(&run, BINARY, "state").unwrap();
    let mut serve = Command::new("sh");
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve --state-dir \"$1\" 3</dev/null";
    serve.args(["-c", script, BINARY]).arg(plugin.state_dir());
    let answer = output(serve, &[], LIMIT).unwrap();
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(!answer.status.success() && said.contains("taking systemd's socket: "), "{said}");
}
