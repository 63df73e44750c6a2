//! The commands that change something, and the allowed states of a state directory after a fault in one of them.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use crate::cli::sandbox::{CLAVIGER, Sandbox};

const STATE: &str = "--state-dir [DIR]/state";
const OURS: &str = "--recovery-identity [DIR]/ours.txt";

/// A command, and the commands before it. `[K1]` stands for the key_id of the first key, `[RECIPIENT]` for a recipient
/// whose identity is in `others.txt`, `[EXPECT]` for the line `expect` of the backup.
pub(super) struct Case {
    pub(super) name: &'static str,
    before: &'static [&'static str],
    line: &'static str,
    /// The state directory that the command changes, below the sandbox.
    pub(super) target: &'static str,
    /// The exit codes that the repeated command may have.
    again: &'static [i32],
}

const fn case(name: &'static str, before: &'static [&'static str], line: &'static str, again: &'static [i32]) -> Case {
    Case { name, before, line, target: "state", again }
}

const fn new(name: &'static str, line: &'static str) -> Case {
    // If a restore was killed after it wrote the record, a merge finishes it. The merge is shown before it is carried
    // out.
    Case { name, before: &[], line, target: "new", again: &[3, 1] }
}

const DISABLE: &str = "key disable [K1] --risk-unreadable-secrets --state-dir [DIR]/state";
const DESTROY: &str = "key destroy [K1] --risk-losing-secrets --state-dir [DIR]/state";
const ADD_RECIPIENT: &str = "recovery add [RECIPIENT] --recovery-identity [DIR]/others.txt --state-dir [DIR]/state";
const ADD_PASSPHRASE: &str =
    "slot add passphrase --new-passphrase-file [DIR]/phrase --lanes 1 --memory 64 --passes 1 --state-dir [DIR]/state";
const CHECK: &str = "backup check [DIR]/backup.age --recovery-identity [DIR]/ours.txt --state-dir [DIR]/state";

/// Every command that changes something on a disk.
pub(super) const CASES: &[Case] = &[
    new("init", "init --state-dir [DIR]/new --without-recovery"),
    new(
        "init, recovery",
        "init --state-dir [DIR]/new --recovery-recipient [RECIPIENT] --recovery-identity [DIR]/others.txt",
    ),
    new(
        "backup restore",
        "backup restore [DIR]/backup.age --recovery-identity [DIR]/ours.txt --state-dir [DIR]/new --expect [EXPECT]",
    ),
    case("key add", &[], "key add --state-dir [DIR]/state", &[0]),
    case("key promote", &[CHECK], "key promote k3 --state-dir [DIR]/state", &[3]),
    case("key disable", &[], DISABLE, &[3]),
    case("key enable", &[DISABLE], "key enable k1 --state-dir [DIR]/state", &[3]),
    case("key destroy", &[DISABLE], DESTROY, &[3]),
    case("recovery add", &[], ADD_RECIPIENT, &[3]),
    case("recovery remove", &[ADD_RECIPIENT], "recovery remove [RECIPIENT] --state-dir [DIR]/state", &[3]),
    case("slot add file", &[], "slot add file --name second --state-dir [DIR]/state", &[3]),
    case("slot add passphrase", &[], ADD_PASSPHRASE, &[3]),
    case(
        "slot remove",
        &["slot add file --name second --state-dir [DIR]/state"],
        "slot remove file --state-dir [DIR]/state",
        &[7, 3],
    ),
    case("rekey", &[CHECK], "rekey --state-dir [DIR]/state", &[0]),
    case("backup create", &[], "backup create [DIR]/out.age --state-dir [DIR]/state", &[3]),
    case("backup check", &[], CHECK, &[0]),
    case(
        "recovery split",
        &[],
        "recovery split --recovery-identity [DIR]/ours.txt --shares 3 --threshold 2 --directory [DIR]",
        &[0],
    ),
    case(
        "backup restore, merging",
        &[CHECK, DISABLE, DESTROY],
        "backup restore [DIR]/backup.age --recovery-identity [DIR]/ours.txt --state-dir [DIR]/state --accept",
        &[0],
    ),
];

/// A keyring in the form of `key list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) generation: u64,
    pub(super) keys: BTreeMap<String, String>,
}

/// The state in which a directory was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no keyring, or only an init that did not finish.
    NotSetUp,
    Keyring(Listed),
}

/// A case with the state of the directory before it and after it.
pub(super) struct Prepared {
    pub(super) case: &'static Case,
    pub(super) template: Sandbox,
    line: String,
    before: Found,
    after: Found,
}

impl Prepared {
    /// Prepares `case` in a copy of `base`, and runs it once, undisturbed.
    pub(super) fn of(case: &'static Case, base: &Base) -> Self {
        let template = base.sandbox.twin();
        for line in case.before {
            template.run(&base.fill(line)).ends_with(0);
        }
        let line = base.fill(case.line);
        let before = found(&template, case.target);
        let done = template.twin();
        done.run(&line).ends_with(0);
        let after = found(&done, case.target);
        Self { case, template, line, before, after }
    }

    /// Returns a sandbox with the state before the command.
    pub(super) fn sandbox(&self) -> Sandbox {
        self.template.twin()
    }

    /// Returns the command, in `sandbox`, with `wrapper` before it.
    pub(super) fn command(&self, sandbox: &Sandbox, wrapper: &[String]) -> Command {
        let line = sandbox.unmask(&self.line);
        let words: Vec<&str> = wrapper.iter().map(String::as_str).chain([CLAVIGER]).chain(line.split(' ')).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(sandbox.root());
        command
    }

    /// Whether the directory is in the state before or after the command. `Err` describes any other state.
    pub(super) fn check(&self, sandbox: &Sandbox) -> Result<Side, String> {
        let now = found_or(sandbox, self.case.target)?;
        let side = if self.is_like(&now, &self.after) && self.before != self.after && now != self.before {
            Side::After
        } else if now == self.before {
            Side::Before
        } else {
            return Err(format!("neither {:?} nor like {:?}: {now:?}", self.before, self.after));
        };
        self.check_rest(sandbox, &now)?;
        Ok(side)
    }

    /// Whether the command changes the keys.
    pub(super) fn changes_keyring(&self) -> bool {
        self.before != self.after
    }

    /// Whether both keyrings are the same, except for the names of keys that are made anew each time.
    fn is_like(&self, now: &Found, wanted: &Found) -> bool {
        let (Found::Keyring(now), Found::Keyring(wanted)) = (now, wanted) else { return now == wanted };
        let states = |listed: &Listed| {
            let mut states: Vec<String> = listed.keys.values().cloned().collect();
            states.sort();
            states
        };
        let kept = match &self.before {
            Found::Keyring(before) => before.keys.keys().all(|key_id| now.keys.contains_key(key_id)),
            Found::NotSetUp => true,
        };
        kept && now.generation == wanted.generation && states(now) == states(wanted)
    }

    /// Checks everything else that belongs to a keyring: its slots open, and the ledger and the backup are accepted.
    fn check_rest(&self, sandbox: &Sandbox, now: &Found) -> Result<(), String> {
        let target = format!("--state-dir [DIR]/{}", self.case.target);
        if *now != Found::NotSetUp {
            let slots = sandbox.run(&format!("slot test {target} --passphrase-file [DIR]/phrase"));
            let status = sandbox.run(&format!("status {target} --backups none"));
            let is_bad = |line: &&str| {
                line.starts_with("! ")
                    && !line.contains("does not answer")
                    && !line.contains("the mark")
                    && !line.contains("this node has no mark")
                    && !line.contains("was restored or merged")
            };
            if slots.code != 0 || status.code > 1 || status.stdout.lines().any(|line| is_bad(&line)) {
                return Err(format!("{slots}{status}"));
            }
        }
        if sandbox.path("out.age").exists() {
            let check = sandbox.run(&format!("backup check [DIR]/out.age {OURS} --state-dir [DIR]/none"));
            if check.code != 0 {
                return Err(check.to_string());
            }
        }
        Ok(())
    }

    /// Runs the command once more. It must succeed, or refuse because its work is done. After that, nothing may be
    /// unfinished.
    pub(super) fn again(&self, sandbox: &Sandbox) -> Result<(), String> {
        let mut again = sandbox.run(&self.line);
        if again.stderr.contains("--restart") {
            again = sandbox.run(&format!("{} --restart", self.line));
        }
        if again.stderr.contains("claviger slot add") || again.stderr.contains("is in the way") {
            // The refusal names the key file of a slot that was not made. Such a file is never overwritten.
        } else if again.code != 0 && !self.case.again.contains(&again.code) {
            return Err(format!("again: {again}"));
        }
        self.works(sandbox)
    }

    /// Checks that an ordinary change works, and that it removes all temporary files.
    fn works(&self, sandbox: &Sandbox) -> Result<(), String> {
        let target = format!("--state-dir [DIR]/{}", self.case.target);
        if sandbox.run(&format!("key list {target}")).stdout.is_empty() {
            return Ok(());
        }
        self.mark(sandbox, &target);
        let added = sandbox.run(&format!("key add {target}"));
        let names: Vec<String> = fs::read_dir(sandbox.path(self.case.target))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| is_temporary(name))
            .collect();
        if added.code == 0 && names.is_empty() { Ok(()) } else { Err(format!("{added}left {names:?}")) }
    }

    /// Lets a daemon mark a keyring that has no mark.
    fn mark(&self, sandbox: &Sandbox, target: &str) {
        if !sandbox.path(self.case.target).join("mark").exists() {
            sandbox.serve(&format!("{target} --socket [DIR]/run/kms.sock")).kill();
        }
    }
}

/// The side of the command that the state of a directory is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

fn found(sandbox: &Sandbox, target: &str) -> Found {
    found_or(sandbox, target).unwrap()
}

/// Reads the state of `target`.
fn found_or(sandbox: &Sandbox, target: &str) -> Result<Found, String> {
    let list = sandbox.run(&format!("key list --state-dir [DIR]/{target} --output json"));
    let is_unfinished = || list.stderr.contains("unfinished set-up") || list.stderr.contains("holds no keyring");
    match list.code {
        0 => {}
        3 | 7 if target == "new" && (is_unfinished() || !sandbox.path(target).exists()) => return Ok(Found::NotSetUp),
        _ => return Err(list.to_string()),
    }
    let json = list.json();
    let key = |key: &serde_json::Value| {
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        (text("key_id"), text("state"))
    };
    let keys = json["keys"].as_array().unwrap().iter().map(key).collect();
    Ok(Found::Keyring(Listed { generation: json["generation"].as_u64().unwrap(), keys }))
}

/// The state before every case: a keyring with recovery, a primary, a decrypt-only and a pending key, and a backup of
/// it.
pub(super) struct Base {
    pub(super) sandbox: Sandbox,
    first: String,
    recipient: String,
    expect: String,
}

impl Base {
    pub(super) fn new() -> Self {
        let sandbox = Sandbox::new();
        let ours = crate::cli::identity(&sandbox, "ours.txt");
        let recipient = crate::cli::identity(&sandbox, "others.txt");
        fs::write(sandbox.path("phrase"), "correct horse battery staple\n").unwrap();
        sandbox.chmod("phrase", 0o600);
        sandbox.run(&format!("init {STATE} --recovery-recipient {ours} {OURS}")).ends_with(0);
        sandbox.run(&format!("key add {STATE}")).ends_with(0);
        sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
        sandbox.run(&format!("key add {STATE}")).ends_with(0);
        sandbox.run(&format!("backup create [DIR]/backup.age {STATE}")).ends_with(0);
        let list = sandbox.run(&format!("key list {STATE} --output json")).json();
        let first = list["keys"][0]["key_id"].as_str().unwrap().to_owned();
        let status = sandbox.run(&format!("status {STATE} --output json")).json();
        let expect = status["keyring"]["expect"].as_str().unwrap().to_owned();
        Self { sandbox, first, recipient, expect }
    }

    fn fill(&self, line: &str) -> String {
        line.replace("[K1]", &self.first).replace("[RECIPIENT]", &self.recipient).replace("[EXPECT]", &self.expect)
    }
}

/// Whether `name` is that of a temporary file.
pub(super) fn is_temporary(name: &str) -> bool {
    name.rsplit('.').next() == Some("new")
}

/// Whether a case writes `path`: in a state directory, the backup, or a share.
pub(super) fn is_ours(path: &str, sandbox: &Path) -> bool {
    Path::new(path).strip_prefix(sandbox).is_ok_and(|path| {
        let is_export = ["out.age", "claviger-share-"].iter().any(|name| path.to_string_lossy().starts_with(name));
        path.starts_with("state") || path.starts_with("new") || is_export
    })
}
