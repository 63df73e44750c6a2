//! A directory for one case, the commands that run in it, and their answers.
//!
//! Commands are written as people type them, with `[DIR]` for the sandbox: `key list --state-dir [DIR]/state`. The
//! snapshot shows them in the same form.

use std::{
    ffi::OsString,
    fmt, fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{secrets, tree::Tree};

/// The path of the program.
pub(crate) const CLAVIGER: &str = env!("CARGO_BIN_EXE_claviger");

/// The time limit for a command. A command that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// The exit codes that this version uses; `claviger --help` documents them.
const DOCUMENTED: [i32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 130, 141];

/// The uid of a user who is not root and owns nothing on this machine.
pub(crate) const NOBODY: u32 = 65534;

/// Patterns of text that depends on chance, time or the machine, and the words that snapshots have instead.
const FILTERS: [(&str, &str); 18] = [
    // The tests may run on any file system. A disk that a test mounts is deeper.
    (r"(?m)^--- stderr\nwarning: (\[DIR\]|/\S*claviger-cli-\w+)/\w+ is on (tmpfs|ramfs|overlay): .*\n", ""),
    (r" -o \d+ ", " -o [UID] "),
    (r"\.[0-9a-f]{16}\.new\b", ".[RANDOM].new"),
    (r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b", "[IDENTITY]"),
    (r"\bk(\d+)-[0-9a-f]{32}\b", "k$1-[HEX]"),
    (r"\b[0-9a-f]{64}\b", "[SHA256]"),
    (r"\b[0-9a-f]{32}\b", "[UUID]"),
    (r"\bage1[0-9a-z]{58}\b", "[RECIPIENT]"),
    (r"[A-Za-z0-9+/]{43}=", "[BASE64]"),
    // The id of a listed backup.
    (r"\b[0-9a-f]{12}\b", "[ID]"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
    (r#""peer_pid":\d+"#, r#""peer_pid":[PID]"#),
    (r"@claviger-test-\d+-\d+", "@claviger-test"),
    (r"claviger \d+\.\d+\.\d+", "claviger [VERSION]"),
    (r"\b\d+[smhd] ago\b", "[AGO]"),
    // The protection of memory that the kernel of this machine has.
    (r"\b(memfd_secret|mlock)\b", "[MEMORY]"),
    (r"\b(landlock|seccomp) (on|partial|unsupported)\b", "$1 [STATE]"),
    (r#""(landlock|seccomp)": "(on|partial|unsupported)""#, r#""$1": "[STATE]""#),
];

/// A temporary directory, private at first, with a directory `run` for sockets.
pub(crate) struct Sandbox {
    directory: tempfile::TempDir,
}

impl Sandbox {
    /// Returns an empty sandbox.
    pub(crate) fn new() -> Self {
        Self::inside(&std::env::temp_dir())
    }

    /// Returns an empty sandbox below `parent`.
    pub(crate) fn inside(parent: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("claviger-cli-").tempdir_in(parent).unwrap();
        let sandbox = Self { directory };
        sandbox.make_dir("run", 0o750);
        sandbox
    }

    /// Returns a sandbox whose directory `state` has a keyring.
    pub(crate) fn initialised() -> Self {
        let sandbox = Self::new();
        sandbox.init("state");
        sandbox
    }

    /// Makes a keyring in the directory `name`, without recovery.
    pub(crate) fn init(&self, name: &str) {
        self.run(&format!("init --state-dir [DIR]/{name} --without-recovery")).ends_with(0);
    }

    /// Returns the path of the sandbox.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the path of `name` in the sandbox.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Makes the directory `name`.
    pub(crate) fn make_dir(&self, name: &str, mode: u32) {
        fs::create_dir(self.path(name)).unwrap();
        self.chmod(name, mode);
    }

    /// Copies the directory `from` with all its contents, as cloning a machine does.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let copied = Command::new("cp").arg("-a").arg(self.path(from)).arg(self.path(to)).status();
        assert!(copied.unwrap().success(), "{from} to {to}");
    }

    /// Returns another sandbox with a copy of all files.
    pub(crate) fn twin(&self) -> Self {
        let twin = Self { directory: tempfile::Builder::new().prefix("claviger-cli-").tempdir().unwrap() };
        let copied = Command::new("cp").arg("-a").arg(self.path(".")).arg(twin.root()).status();
        assert!(copied.unwrap().success());
        twin
    }

    /// Gives `name` other permissions.
    pub(crate) fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Returns the contents of the sandbox.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(self.root())
    }

    /// Returns a command of claviger that has not run yet.
    pub(crate) fn call(&self, line: &str) -> Call<'_> {
        Call {
            sandbox: self,
            line: line.to_owned(),
            before: Vec::new(),
            note: "",
            stdin: None,
            stdout: None,
            user: None,
            program: CLAVIGER.into(),
            limit: LIMIT,
        }
    }

    /// Runs a command of claviger.
    pub(crate) fn run(&self, line: &str) -> Answer {
        self.call(line).run()
    }

    /// Runs a command that must be refused, as [`Call::refused`] does.
    pub(crate) fn refused(&self, exit: i32, line: &str) -> Answer {
        self.call(line).refused(exit)
    }

    /// Runs every command that reads the state directory `name`. Checks that each is refused in the same words, and
    /// returns the answer of the first.
    pub(crate) fn unopened(&self, exit: i32, name: &str) -> Answer {
        let answer = self.refused(exit, &format!("key list --state-dir [DIR]/{name}"));
        for verb in ["status", "serve"] {
            let line = format!("{verb} --state-dir [DIR]/{name} --socket [DIR]/run/kms.sock");
            // A hint repeats the flags of its command, and `key list` was given no socket.
            let complaint = self.refused(exit, &line).complaint().replace(" --socket [DIR]/run/kms.sock", "");
            assert_eq!(complaint, answer.complaint(), "{verb}");
        }
        answer
    }

    /// Starts the daemon, and waits until it serves.
    pub(crate) fn serve(&self, flags: &str) -> Daemon {
        self.call(&format!("serve {flags}")).serve()
    }

    /// Replaces the path of the sandbox by `[DIR]`.
    pub(crate) fn mask(&self, text: &str) -> String {
        text.replace(&*self.root().to_string_lossy(), "[DIR]")
    }

    /// Replaces `[DIR]` by the path of the sandbox.
    pub(crate) fn unmask(&self, text: &str) -> String {
        text.replace("[DIR]", &self.root().to_string_lossy())
    }
}

/// A command that has not run yet.
pub(crate) struct Call<'a> {
    sandbox: &'a Sandbox,
    line: String,
    before: Vec<OsString>,
    note: &'static str,
    stdin: Option<Vec<u8>>,
    stdout: Option<PathBuf>,
    user: Option<u32>,
    program: PathBuf,
    limit: Duration,
}

impl Call<'_> {
    /// Feeds `bytes` to the command. Otherwise it reads from /dev/null.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Runs another program instead of claviger, with the time limit `limit`.
    pub(crate) fn by(mut self, program: &Path, limit: Duration) -> Self {
        (self.program, self.limit) = (program.to_owned(), limit);
        self
    }

    /// Writes the standard output of the command to `path`.
    pub(crate) fn stdout(mut self, path: &str) -> Self {
        self.stdout = Some(path.into());
        self
    }

    /// Runs the command through another one, which the snapshot shows as `note`.
    pub(crate) fn under<S: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = S>, note: &'static str) -> Self {
        self.before = wrapper.into_iter().map(Into::into).collect();
        self.note = note;
        self
    }

    /// Runs the command as [`NOBODY`]. That user may enter the sandbox, and has a copy of the program in it.
    pub(crate) fn by_nobody(mut self) -> Self {
        self.sandbox.chmod("", 0o755);
        let program = self.sandbox.path("claviger");
        if !program.exists() {
            // Another process makes the copy. A program that this process, or a fork of it in another test, has open
            // for writing cannot run.
            assert!(Command::new("cp").args([&self.program, &program]).status().unwrap().success());
        }
        self.program = program;
        self.user = Some(NOBODY);
        self
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    /// When it hangs, dies of a signal, panics, prints a secret, or ends with an exit code that is not documented.
    pub(crate) fn run(mut self) -> Answer {
        let stdin = self.stdin.take();
        let child = self.spawn(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        self.answer(&complete(child, stdin, self.limit))
    }

    /// Starts the command as a daemon, and waits until it serves.
    pub(crate) fn serve(self) -> Daemon {
        let daemon = Daemon::start(&self);
        daemon.wait_for("\"unsealed\"");
        daemon
    }

    /// Runs the command. It must end with `exit`, say why in one line, print nothing else and change nothing.
    pub(crate) fn refused(self, exit: i32) -> Answer {
        let sandbox = self.sandbox;
        let before = sandbox.tree();
        let answer = self.run();
        answer.ends_with(exit);
        assert_eq!(answer.stdout, "", "{answer}");
        assert_eq!(answer.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{answer}");
        let changes = before.changes(&sandbox.tree());
        assert!(changes.is_empty(), "{answer}changed {changes:#?}");
        answer
    }

    /// Starts the command with a pipe as its standard input.
    pub(crate) fn start(&self) -> Child {
        self.spawn(Stdio::piped())
    }

    fn spawn(&self, stdin: Stdio) -> Child {
        let program = self.before.iter().cloned().chain([self.program.clone().into_os_string()]);
        let line = self.sandbox.unmask(&self.line);
        let words: Vec<OsString> = program.chain(line.split_whitespace().map(Into::into)).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(stdin).stderr(Stdio::piped()).current_dir(self.sandbox.root());
        command.env("COLUMNS", "80").env_remove("CLICOLOR_FORCE").env_remove("RUST_LOG");
        let stdout = self.stdout.as_ref().map(|path| fs::OpenOptions::new().write(true).open(path).unwrap());
        command.stdout(stdout.map_or_else(Stdio::piped, Stdio::from));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.spawn().unwrap()
    }

    fn answer(&self, output: &Output) -> Answer {
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let redirected = self.stdout.iter().map(|path| format!(" > {}", path.display()));
        let user = self.user.iter().map(|user| format!(" # as uid {user}"));
        let note = Some(self.note).filter(|note| !note.is_empty()).map(|note| format!(" {note}"));
        let rest: String = redirected.chain(note).chain(user).collect();
        let answer = Answer {
            line: format!("claviger {}{rest}", self.line).trim().replace("claviger  ", "claviger "),
            code: output.status.code().unwrap_or(-output.status.signal().unwrap_or(0)),
            stdout: self.sandbox.mask(&stdout),
            stderr: self.sandbox.mask(&stderr),
        };
        assert!(DOCUMENTED.contains(&answer.code), "not a documented exit code: {answer}");
        assert!(!answer.stderr.contains("panicked"), "{answer}");
        let leaked = secrets::found_in(&[&output.stdout[..], &output.stderr[..]].concat(), self.sandbox.root());
        assert_eq!(leaked, Vec::<String>::new(), "printed by {}", answer.line);
        crate::docs::check_json(&stdout);
        stderr.lines().for_each(crate::docs::check_json);
        answer
    }
}

/// Waits for the end of `child`, at most for `limit`.
fn complete(mut child: Child, stdin: Option<Vec<u8>>, limit: Duration) -> Output {
    let id = rustix::process::Pid::from_child(&child);
    if let Some((mut pipe, bytes)) = child.stdin.take().zip(stdin) {
        // The command may end without reading.
        thread::spawn(move || _ = pipe.write_all(&bytes));
    }
    let (done, output) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    output.recv_timeout(limit).map_or_else(
        |_| {
            _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            panic!("it did not end within {limit:?}")
        },
        |output| output.unwrap(),
    )
}

/// The outcome of a command.
#[derive(Debug)]
pub(crate) struct Answer {
    line: String,
    /// The exit code, or the negative number of the signal that ended the command.
    pub(crate) code: i32,
    /// The standard output, with `[DIR]` for the sandbox.
    pub(crate) stdout: String,
    /// The standard error, with `[DIR]` for the sandbox.
    pub(crate) stderr: String,
}

impl Answer {
    /// Checks the exit code.
    pub(crate) fn ends_with(&self, exit: i32) -> &Self {
        assert_eq!(self.code, exit, "{self}");
        self
    }

    /// Replaces the names of sets of shares by `[SET]`.
    pub(crate) fn hide(&mut self, sets: &[String]) {
        for set in sets {
            for text in [&mut self.line, &mut self.stdout, &mut self.stderr] {
                *text = text.replace(set, "[SET]");
            }
        }
    }

    /// Returns standard error without the lines of the log.
    pub(crate) fn complaint(&self) -> String {
        self.stderr.lines().filter(|line| !line.starts_with('{')).map(|line| format!("{line}\n")).collect()
    }

    /// Returns standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Compares the answer with the snapshot `name`, a `theme/case`.
    pub(crate) fn matches(&self, name: &str) {
        snapshot(name, &[self]);
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}\nexit {}", self.line, self.code)?;
        for (stream, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(f, "--- {stream}\n{}", text.trim_end_matches('\n'))?;
            }
        }
        Ok(())
    }
}

/// Compares answers, one after the other, with the snapshot `name`, a `theme/case`.
pub(crate) fn snapshot(name: &str, answers: &[&Answer]) {
    let (theme, case) = name.split_once('/').expect("theme/case");
    let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("snapshots/{theme}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (pattern, replacement) in FILTERS {
        settings.add_filter(pattern, replacement);
    }
    settings.bind(|| insta::assert_snapshot!(case, answers.join("\n")));
}

/// Compares a whole report with the snapshot `name`. Numbers, hashes and the widths of columns differ from run to run,
/// so the snapshot has `#`, `[HEX]` and two blanks. `[RUN]` is a directory of the tests.
pub(crate) fn report_snapshot(name: &str, answer: &Answer) {
    let Answer { line, code, stdout, stderr } = answer;
    let verb = line.split_whitespace().nth(1).unwrap_or_default();
    let (line, stdout, stderr) = (format!("claviger {verb} …"), masked(stdout), masked(stderr));
    snapshot(name, &[&Answer { line, code: *code, stdout, stderr }]);
}

fn masked(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = |is_part: fn(char) -> bool| rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (hex, number, blanks) = (
            length(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)),
            length(|c| c.is_ascii_digit()),
            length(|c| c == ' '),
        );
        let has = |is_part: fn(char) -> bool| rest[..hex].contains(is_part);
        let is_hash = hex >= 8 && has(|c| c.is_ascii_digit()) && has(|c| c.is_ascii_lowercase());
        let run = rest.strip_prefix("/tmp/claviger-").and_then(|name| Some(name.find('/')? + "/tmp/claviger-".len()));
        let (taken, put) = match first {
            '/' if run.is_some() => (run.unwrap_or(1), "[RUN]"),
            _ if is_hash => (hex, "[HEX]"),
            '0'..='9' => (number, "#"),
            ' ' if blanks > 2 => (blanks, "  "),
            c => (c.len_utf8(), &rest[..c.len_utf8()]),
        };
        masked.push_str(put);
        rest = &rest[taken..];
    }
    masked.replace("#,#", "#").replace("#.#", "#")
}

#[test]
fn a_masked_report_has_the_same_words_in_every_run() {
    let text = "key k2-0123abcd   1,234 of 50.1 s, face off 2026-11-28T13:00:00.123456789Z /tmp/claviger-Ab1/x";
    assert_eq!(masked(text), "key k#-[HEX]  # of # s, face off #-#-#T#:#:#Z [RUN]/x");
}

/// A running daemon. It is killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    sandbox: PathBuf,
    log: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Daemon {
    fn start(call: &Call<'_>) -> Self {
        let mut child = call.spawn(Stdio::null());
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, sink) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                sink.lock().unwrap().push_str(&(line.unwrap() + "\n"));
            }
        });
        Self { child, sandbox: call.sandbox.root().to_owned(), log, reader: Some(reader) }
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until `text` is in the log.
    pub(crate) fn wait_for(&self, text: &str) {
        let start = Instant::now();
        while !self.log().contains(text) {
            assert!(start.elapsed() < LIMIT, "no {text} in the log: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM to the daemon. Returns its exit code and the whole log.
    pub(crate) fn terminate(&mut self) -> (Option<i32>, String) {
        self.end(rustix::process::Signal::TERM)
    }

    /// Sends a signal to the daemon, for example to stop it for a while.
    pub(crate) fn send(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends the daemon by SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.end(rustix::process::Signal::KILL);
    }

    fn end(&mut self, signal: rustix::process::Signal) -> (Option<i32>, String) {
        // The daemon may have ended by itself.
        _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < LIMIT, "the daemon did not end: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let log = self.log();
        assert_eq!(secrets::found_in(log.as_bytes(), &self.sandbox), Vec::<String>::new(), "logged by the daemon");
        (status.code(), log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The daemon may have ended before.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Whether the tests run as root. If not, prints what is left out.
pub(crate) fn root_for(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("left out, as it takes root: {what}");
    }
    root
}
