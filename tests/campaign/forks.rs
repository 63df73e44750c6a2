//! Twins: a state directory is copied, both copies are changed, and then files of the twin are put over those of the
//! original.
//!
//! A daemon of the original never follows the twin. Without a daemon, every command refuses, unless the mark was
//! exchanged, too: then nothing on this node can tell. When the right files are back, everything works, and a merge
//! keeps every key of both. The second test is about records that are far ahead of the mark. Only the operator can say
//! whether they are successors.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{disk::in_parallel, seed, size};
use crate::cli::{
    identity,
    kms::Kms,
    sandbox::{Answer, Daemon, Sandbox},
    tree::Tree,
};

/// The files that a story exchanges.
const FILES: [&str; 4] = ["keyring", "ledger", "root", "mark"];

/// The exchanged files in each way. In the last way the mark is removed.
const WAYS: [(&str, &[&str]); 7] = [
    ("the record", &["keyring"]),
    ("record and ledger", &["keyring", "ledger"]),
    ("record and root", &["keyring", "root"]),
    ("record, root and ledger", &["keyring", "root", "ledger"]),
    ("record and mark", &["keyring", "mark"]),
    ("all files", &FILES),
    ("all but the mark, which is gone", &["keyring", "root", "ledger"]),
];

/// A time in which the daemon has looked for changes at least once: it looks four times a second.
const LOOK: Duration = Duration::from_millis(400);

/// The way that removes the mark.
const WITHOUT_MARK: usize = 6;

const OURS: &str = "--recovery-identity [DIR]/ours.txt";

/// The number of generations that the past of a record reaches back.
const REACH: usize = 256;

/// The existing files of a state directory.
type Files = BTreeMap<&'static str, Vec<u8>>;

fn files(sandbox: &Sandbox, state: &str) -> Files {
    let read = |name: &'static str| Some((name, fs::read(sandbox.path(state).join(name)).ok()?));
    FILES.into_iter().filter_map(read).collect()
}

/// Makes the files `names` in `state` equal to those in `files`. A file that is not in `files` is removed.
fn put(sandbox: &Sandbox, state: &str, names: &[&str], files: &Files) {
    for name in names {
        let path = sandbox.path(state).join(name);
        match files.get(name) {
            Some(bytes) => write(&path, bytes),
            None => _ = fs::remove_file(path),
        }
    }
}

/// Replaces a file by rename, as a restore does, so that the daemon sees a new inode.
fn write(path: &std::path::Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    let next = path.with_extension("copied");
    fs::write(&next, bytes).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(next, path).unwrap();
}

/// A state directory that commands change, and the seeds that were wrapped under its keys.
struct Side<'a> {
    sandbox: &'a Sandbox,
    name: &'static str,
    generations: usize,
}

impl Side<'_> {
    fn state(&self) -> String {
        format!("--state-dir [DIR]/{}", self.name)
    }

    fn run(&self, line: &str) -> Answer {
        self.sandbox.run(&format!("{line} {}", self.state()))
    }

    fn change(&mut self, line: &str) {
        self.run(line).ends_with(0);
        self.generations += 1;
    }

    /// Returns the keys with their states.
    fn keys(&self) -> BTreeMap<String, String> {
        let list = self.run("key list --output json").json();
        let text = |key: &serde_json::Value, name: &str| key[name].as_str().unwrap().to_owned();
        list["keys"].as_array().unwrap().iter().map(|key| (text(key, "key_id"), text(key, "state"))).collect()
    }

    fn expect(&self) -> String {
        let status = self.run("status --output json").json();
        status["keyring"]["expect"].as_str().unwrap().to_owned()
    }

    fn serve(&self) -> Daemon {
        self.sandbox.serve(&format!("{} --socket [DIR]/run/{}.sock", self.state(), self.name))
    }

    /// Returns a new connection. The daemon closes a connection that is not used for a minute.
    fn kms(&self) -> Kms {
        Kms::connect(&self.sandbox.path(&format!("run/{}.sock", self.name)))
    }

    fn status(&self) -> Answer {
        self.run(&format!("status --socket [DIR]/run/{}.sock --backups none", self.name))
    }

    /// Makes one to three further generations, by changes that this keyring allows.
    fn step(&mut self, random: &mut SmallRng) {
        let keys = self.keys();
        let mut of = |state: &str| {
            let keys: Vec<&String> = keys.iter().filter(|(_, found)| *found == state).map(|(key, _)| key).collect();
            (!keys.is_empty()).then(|| keys[random.random_range(0..keys.len())].clone())
        };
        let (pending, old, disabled) = (of("pending"), of("decrypt-only"), of("disabled"));
        match (random.random_range(0..10), pending, old, disabled) {
            (0..=2, Some(key), ..) => self.change(&format!("key promote {key} --without-backup")),
            (3..=4, _, Some(key), _) => self.change(&format!("key disable {key} --risk-unreadable-secrets")),
            (5, .., Some(key)) => self.change(&format!("key enable {key}")),
            (5..=6, .., Some(key)) => self.change(&format!("key destroy {key} --risk-losing-secrets")),
            (7, ..) => self.change("rekey"),
            (8, ..) => {
                let file = format!("{}-{}.txt", self.name, self.generations);
                let recipient = identity(self.sandbox, &file);
                self.change(&format!("recovery add {recipient} --recovery-identity [DIR]/{file}"));
            }
            _ => self.change("key add"),
        }
    }

    /// Promotes a new key.
    fn rotate(&mut self) {
        let before = self.keys();
        self.change("key add");
        let added = self.keys().into_keys().find(|key| !before.contains_key(key)).unwrap();
        self.change(&format!("key promote {added} --without-backup"));
    }

    /// Destroys the key `key`, which is not the primary one.
    fn lose(&mut self, key: &str) {
        if self.keys()[key] != "disabled" {
            self.change(&format!("key disable {key} --risk-unreadable-secrets"));
        }
        self.change(&format!("key destroy {key} --risk-losing-secrets"));
    }

    /// Makes `count` further generations by cheap changes.
    fn go_on(&mut self, count: usize, random: &mut SmallRng) {
        let end = self.generations + count;
        let toggled = self.keys().into_iter().find(|(_, state)| state == "decrypt-only").map(|(key, _)| key);
        while self.generations < end {
            match &toggled {
                Some(key) if end - self.generations > 1 && random.random_ratio(4, 5) => {
                    self.change(&format!("key disable {key} --risk-unreadable-secrets"));
                    self.change(&format!("key enable {key}"));
                }
                _ => self.change("key add"),
            }
        }
    }
}

/// A seed that a side has wrapped.
struct Wrapped {
    key_id: String,
    bytes: Vec<u8>,
    seed: [u8; 32],
}

fn wrap(kms: &Kms, seed: u8) -> Wrapped {
    let (key_id, bytes) = kms.encrypt(&[seed; 32]);
    Wrapped { key_id, bytes, seed: [seed; 32] }
}

/// The numbers of what a campaign has done.
#[derive(Debug, Default)]
struct Figures {
    further: usize,
    under_daemon: usize,
    without_daemon: usize,
    refused: usize,
    lost_there: usize,
    merged_keys: usize,
    unwrapped: usize,
}

/// The properties in which stories differ.
#[derive(Debug, Clone, Copy)]
struct Story {
    number: u64,
    seed: u64,
    /// The least number of changes of the twin.
    further: usize,
}

/// Chooses the stories. One of fifty goes the whole way, and four of fifty a long one, because these take time.
fn stories(count: u64, seed: u64) -> Vec<Story> {
    let story = |number: u64| {
        let mut random = SmallRng::seed_from_u64(seed.wrapping_add(number));
        let further = match number % 50 {
            49 => 300,
            9 | 19 | 29 | 39 => random.random_range(40..300),
            _ => random.random_range(1..12),
        };
        Story { number, seed: random.random(), further }
    };
    (0..count).map(story).collect()
}

/// A keyring, its twin, and the files of both.
struct Scene<'a> {
    ours: Side<'a>,
    twin: Side<'a>,
    recipient: String,
    wrapped: Vec<Wrapped>,
    copied: Files,
    daemon: Daemon,
}

fn run(story: Story) -> Figures {
    let mut random = SmallRng::seed_from_u64(story.seed);
    let sandbox = Sandbox::new();
    let mut figures = Figures::default();
    let mut scene = begin(&sandbox, story, &mut random);
    go_apart(&mut scene, story, &mut random, &mut figures);
    let Scene { mut ours, twin, recipient, wrapped, copied, mut daemon } = scene;
    let states = ours.keys();
    let is_readable = |wrapped: &Wrapped| matches!(&*states[&wrapped.key_id], "primary" | "decrypt-only");
    let (wrapped, unread): (Vec<_>, Vec<_>) = wrapped.into_iter().partition(is_readable);
    let (right, theirs) = (files(&sandbox, "state"), files(&sandbox, "twin"));
    let context = format!("story {} of seed {}", story.number, story.seed);
    figures.under_daemon = under_daemon(&ours, [&right, &copied, &theirs], &wrapped, &context);
    put(&sandbox, "state", &FILES, &right);
    is_well(&ours, &wrapped, &context);
    daemon.kill();
    for (what, names) in &WAYS[..5] {
        if is_seen(names, &right, &theirs) {
            put(&sandbox, "state", names, &theirs);
            figures.refused += refuses(&ours, &format!("{context}: {what} of the twin"));
            figures.without_daemon += 1;
            put(&sandbox, "state", &FILES, &right);
        }
    }
    let _daemon = ours.serve();
    is_well(&ours, &wrapped, &context);
    bring_in(&mut ours, &twin, &recipient, wrapped.into_iter().chain(unread).collect(), &mut figures);
    figures
}

/// Makes a keyring with a daemon, and a copy of it.
fn begin<'a>(sandbox: &'a Sandbox, Story { number, .. }: Story, random: &mut SmallRng) -> Scene<'a> {
    let recipient = identity(sandbox, "ours.txt");
    let recovery = match number % 2 {
        0 => format!("--recovery-recipient {recipient} {OURS}"),
        _ => "--without-recovery".to_owned(),
    };
    let mut ours = Side { sandbox, name: "state", generations: 1 };
    ours.run(&format!("init {recovery}")).ends_with(0);
    ours.rotate();
    (0..random.random_range(0..4)).for_each(|_| ours.step(random));
    let daemon = ours.serve();
    let wrapped = vec![wrap(&ours.kms(), 1)];
    if number % 3 == 0 {
        prove(&ours, &recipient);
    }
    sandbox.copy("state", "twin");
    let twin = Side { sandbox, name: "twin", generations: ours.generations };
    Scene { ours, twin, recipient, wrapped, copied: files(sandbox, "state"), daemon }
}

/// Changes both keyrings. The original has a daemon, which follows its changes.
fn go_apart(scene: &mut Scene<'_>, Story { number, further, .. }: Story, random: &mut SmallRng, figures: &mut Figures) {
    let Scene { ours, twin, wrapped, .. } = scene;
    match number % 4 {
        // In these stories the twin lacks no key of the original, so only the past of its record shows that it is a
        // fork.
        0 | 3 => {
            let recipient = identity(ours.sandbox, "fork.txt");
            ours.change(&format!("recovery add {recipient} --recovery-identity [DIR]/fork.txt"));
        }
        1 => ours.rotate(),
        _ => ours.change("key add"),
    }
    if matches!(number % 4, 1 | 2) {
        (0..random.random_range(0..3)).for_each(|_| ours.step(random));
    }
    let (begin, end) = (twin.generations, twin.generations + further);
    if further > 1 {
        twin.rotate();
    }
    for _ in 0..random.random_range(0..4) {
        if twin.generations < end {
            twin.step(random);
        }
    }
    let is_old = |(key, state): (String, String)| {
        (matches!(&*state, "decrypt-only" | "disabled") && key == wrapped[0].key_id).then_some(key)
    };
    let needed = twin.keys().into_iter().find_map(is_old).filter(|_| further > 4 && random.random_ratio(1, 2));
    if let Some(key) = &needed {
        twin.lose(key);
    }
    twin.go_on(end.saturating_sub(twin.generations), random);
    if number % 3 == 0 {
        prove(twin, &scene.recipient);
    }
    figures.further = twin.generations - begin;
    figures.lost_there = usize::from(needed.is_some());
    await_latest(ours);
    wrapped.push(wrap(&ours.kms(), 2));
}

/// Puts the twin's files over those of the original, and over those that were copied, in each way. Returns the number
/// of exchanges.
fn under_daemon(ours: &Side<'_>, [right, copied, theirs]: [&Files; 3], wrapped: &[Wrapped], context: &str) -> usize {
    let (sandbox, primary) = (ours.sandbox, ours.keys().into_iter().find(|(_, state)| state == "primary").unwrap().0);
    let all = WAYS.iter().enumerate();
    let over_ours = all.clone().map(|way| ("ours", right, way));
    // On top of the files that were copied, the twin's record looks like a successor. Only a running daemon knows that
    // it is a fork.
    let over_copied =
        all.filter(|(way, _)| [0, WITHOUT_MARK].contains(way)).map(|way| ("the copied ones", copied, way));
    let exchanges = over_ours.chain(over_copied);
    for (over, base, (way, (what, names))) in exchanges.clone() {
        let context = format!("{context}: {what} of the twin, over {over}");
        put(sandbox, "state", &FILES, base);
        put(sandbox, "state", names, theirs);
        if way == WITHOUT_MARK {
            put(sandbox, "state", &["mark"], &Files::new());
        }
        let mark = fs::read(sandbox.path("state/mark")).ok();
        stays(ours, wrapped, &primary, &context);
        // Before the record was exchanged, the daemon may have marked its own record once more.
        let after = fs::read(sandbox.path("state/mark")).ok();
        let is_untouched = after == mark || after.as_ref() == right.get("mark");
        assert!(is_untouched, "{context}: the daemon marked what it does not serve");
    }
    exchanges.count()
}

/// Proves a backup, which the ledger then lists.
fn prove(side: &Side<'_>, recipient: &str) {
    let file = format!("[DIR]/{}-{}.age", side.name, side.generations);
    side.run(&format!("backup create {file} --recipient {recipient}")).ends_with(0);
    side.run(&format!("backup check {file} {OURS}")).ends_with(0);
}

/// Waits until the daemon has followed its own keyring. The daemon cannot miss a record that it has not seen.
fn await_latest(side: &Side<'_>) {
    let start = Instant::now();
    loop {
        let status = side.run(&format!("status --socket [DIR]/run/{}.sock --output json", side.name)).json();
        if status["plugin"]["generation"] == status["keyring"]["generation"] {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{status}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Checks that the daemon goes on with its own keyring, and that `status` says that something is wrong.
fn stays(ours: &Side<'_>, wrapped: &[Wrapped], primary: &str, context: &str) {
    thread::sleep(LOOK);
    let kms = ours.kms();
    for Wrapped { key_id, bytes, seed } in wrapped {
        assert_eq!(kms.decrypt(key_id, bytes).as_deref(), Ok(&seed[..]), "{context}: {key_id}");
    }
    assert_eq!(kms.encrypt(&[4; 32]).0, primary, "{context}: another key wraps");
    let status = ours.status();
    let is_seen = matches!(status.code, 3 | 4) || status.stdout.lines().any(|line| line.starts_with("! the plugin"));
    assert!(is_seen, "{context}: {status}");
}

/// Checks that the daemon serves its own keyring again. A degraded daemon tries again after at most ten seconds.
fn is_well(ours: &Side<'_>, wrapped: &[Wrapped], context: &str) {
    let start = Instant::now();
    let is_degraded = |status: &Answer| status.code > 1 || status.stdout.contains("\n! the plugin");
    loop {
        let status = ours.status();
        if !is_degraded(&status) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{context}: {status}");
        thread::sleep(Duration::from_millis(50));
    }
    let kms = ours.kms();
    for Wrapped { key_id, bytes, seed } in wrapped {
        assert_eq!(kms.decrypt(key_id, bytes).as_deref(), Ok(&seed[..]), "{context}: {key_id}");
    }
}

/// Whether a command can notice the exchange without a daemon: the mark of this node is there, or the twin's files are
/// under a root key that the original never had.
fn is_seen(names: &[&str], right: &Files, theirs: &Files) -> bool {
    let root_id = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        text.lines().find_map(|line| line.strip_prefix("root-id ").map(ToOwned::to_owned)).unwrap()
    };
    let is_strange = !String::from_utf8_lossy(&right["root"]).contains(&root_id(&theirs["keyring"]));
    !names.contains(&"mark") || is_strange && !names.contains(&"root")
}

/// Checks that every command refuses and changes nothing.
fn refuses(ours: &Side<'_>, context: &str) -> usize {
    let backup = "backup create [DIR]/refused.age";
    let serve = "serve --socket [DIR]/run/refused.sock --log-level error";
    let commands = ["key list", "key add", "status --socket @none", "rekey", backup, serve];
    for line in commands {
        let before = Tree::of(&ours.sandbox.path(ours.name));
        let answer = ours.run(line);
        assert!(matches!(answer.code, 3 | 4) && answer.stdout.is_empty(), "{context}: {answer}");
        let changes = before.changes(&Tree::of(&ours.sandbox.path(ours.name)));
        assert_eq!(changes, Vec::<String>::new(), "{context}: {answer}");
    }
    commands.len()
}

/// Merges the twin into the original under its daemon, and checks that all seeds of both unwrap.
fn bring_in(ours: &mut Side<'_>, twin: &Side<'_>, recipient: &str, mut wrapped: Vec<Wrapped>, figures: &mut Figures) {
    let mut daemon = twin.serve();
    wrapped.push(wrap(&twin.kms(), 5));
    daemon.kill();
    twin.run(&format!("backup create [DIR]/twin.age --recipient {recipient}")).ends_with(0);
    let sides = [ours.keys(), twin.keys()];
    let line = format!("backup restore [DIR]/twin.age {OURS} --accept");
    let merged = ours.run(&line);
    // A rekey of the twin made a root key that the original does not have, so the operator has to name the record.
    let merged = if matches!(merged.code, 3 | 4) && merged.stderr.contains("root key") {
        ours.run(&format!("{line} --expect {}", twin.expect()))
    } else {
        merged
    };
    merged.ends_with(0);
    // The change after a merge names only the last records again: a daemon has to see the merge itself.
    await_latest(ours);
    let after = ours.keys();
    // A key that only one of them has destroyed has its bytes again.
    let is_held = |key: &&String| sides.iter().any(|keys| keys.get(*key).is_some_and(|state| state != "destroyed"));
    let held: BTreeSet<&String> = sides.iter().flat_map(BTreeMap::keys).filter(is_held).collect();
    for key in &held {
        let state = after.get(*key).map(String::as_str);
        assert!(!matches!(state, None | Some("destroyed")), "{key} is {state:?} after {merged}");
        if state == Some("disabled") {
            ours.change(&format!("key enable {key}"));
        }
    }
    let primary = after.iter().find(|(_, state)| *state == "primary").unwrap().0;
    await_latest(ours);
    assert_eq!(ours.kms().encrypt(&[3; 32]).0, *primary);
    wrapped.retain(|wrapped| held.contains(&wrapped.key_id));
    is_well(ours, &wrapped, "after the merge");
    figures.merged_keys += held.len();
    figures.unwrapped += wrapped.len();
}

#[test]
#[ignore = "campaign"]
fn a_twin_is_never_followed_and_a_merge_keeps_every_key_of_both() {
    let (seed, start) = (seed(), Instant::now());
    println!("forks: seed {seed}");
    let stories = stories(size(4), seed);
    let all = in_parallel(&stories, |story| run(*story));
    let sum = |count: fn(&Figures) -> usize| all.iter().map(count).sum::<usize>();
    println!(
        "forks: {} stories in {:.0?}, the twins {} generations further (at most {}); {} exchanges under a running daemon and {} \
         without one, {} commands refused; {} twins had destroyed a key that the original needs; {} keys merged, all there; {} \
         values unwrapped",
        all.len(),
        start.elapsed(),
        sum(|story| story.further),
        all.iter().map(|story| story.further).max().unwrap_or(0),
        sum(|story| story.under_daemon),
        sum(|story| story.without_daemon),
        sum(|story| story.refused),
        sum(|story| story.lost_there),
        sum(|story| story.merged_keys),
        sum(|story| story.unwrapped),
    );
    assert!(all.len() == stories.len() && sum(|story| story.without_daemon) >= 3 * all.len());
}

/// A state directory with a mark, and all records from the marked one on.
struct Chain {
    sandbox: Sandbox,
    /// The record of each generation, beginning with that of the mark, and the line that names it.
    records: Vec<(Vec<u8>, String)>,
}

/// Makes `further` records after the one that `late` has marked.
fn chain(further: usize) -> Chain {
    let sandbox = Sandbox::new();
    let mut ours = Side { sandbox: &sandbox, name: "state", generations: 1 };
    ours.run("init --without-recovery").ends_with(0);
    ours.rotate();
    let old = ours.keys().into_iter().find(|(_, state)| state == "decrypt-only").unwrap().0;
    sandbox.copy("state", "late");
    let mut records = Vec::new();
    for generation in 0..=further {
        let record = fs::read(sandbox.path("state/keyring")).unwrap();
        let hash = ring::digest::digest(&ring::digest::SHA256, &record);
        let uuid = String::from_utf8_lossy(&record).lines().nth(1).unwrap().replace("uuid ", "");
        let expect = format!("{uuid}:{}:{}", ours.generations, base16ct::lower::encode_string(hash.as_ref()));
        records.push((record, expect));
        let verb = if generation % 2 == 0 { "disable" } else { "enable" };
        let risk = if generation % 2 == 0 { "--risk-unreadable-secrets" } else { "" };
        ours.change(&format!("key {verb} {old} {risk}"));
    }
    Chain { sandbox, records }
}

impl Chain {
    /// Copies `from`, with the record that is `ahead` generations after the mark.
    fn ahead(&self, from: &str, name: &str, ahead: usize) {
        self.sandbox.copy(from, name);
        fs::write(self.sandbox.path(name).join("keyring"), &self.records[ahead].0).unwrap();
    }

    fn serve(&self, name: &str, expect: Option<usize>) -> String {
        let expect = expect.map(|ahead| format!(" --expect {}", self.records[ahead].1)).unwrap_or_default();
        format!("--state-dir [DIR]/{name} --socket [DIR]/run/{name}.sock --log-level info{expect}")
    }

    /// Checks that the daemon refuses to serve, for this reason.
    fn refuses(&self, name: &str, expect: Option<usize>, reason: &str) {
        let answer = self.sandbox.run(&format!("serve {}", self.serve(name, expect)));
        assert!(answer.code == 3 && answer.stderr.contains(reason), "{name}, expecting {expect:?}: {answer}");
    }

    /// Checks that the daemon serves from there, and that commands work.
    fn serves(&self, name: &str, expect: Option<usize>) {
        self.sandbox.serve(&self.serve(name, expect)).kill();
        self.sandbox.run(&format!("key add --state-dir [DIR]/{name}")).ends_with(0);
    }
}

#[test]
#[ignore = "campaign"]
fn a_record_that_is_further_ahead_than_its_past_reaches_takes_the_operators_word() {
    const FAR: &str = "its past names only the last 256";
    const HINT: &str = "--expect EXPECT` once";
    const FORK: &str = "the keyring forked: ";
    let chain = chain(REACH + 3);
    let sandbox = &chain.sandbox;
    // The past of `near` reaches the marked record. The pasts of `next` and `far` do not.
    chain.ahead("late", "near", REACH);
    chain.serves("near", None);
    for (name, ahead) in [("next", REACH + 1), ("far", REACH + 3)] {
        chain.ahead("late", name, ahead);
        let answer = sandbox.run(&format!("key list --state-dir [DIR]/{name}"));
        assert!(answer.code == 3 && answer.stderr.contains(FAR) && answer.stderr.contains(HINT), "{answer}");
        chain.refuses(name, None, FAR);
        for other in [0, 1, REACH, ahead - 1] {
            chain.refuses(name, Some(other), FAR);
        }
        chain.serves(name, Some(ahead));
    }
    // A daemon does not follow such a record by itself. After a restart with `--expect` it serves it.
    sandbox.copy("late", "running");
    let mut daemon = sandbox.serve(&chain.serve("running", None));
    let kms = Kms::connect(&sandbox.path("run/running.sock"));
    let (key_id, wrapped) = kms.encrypt(&[7; 32]);
    write(&sandbox.path("running/keyring"), &chain.records[REACH + 2].0);
    daemon.wait_for(FAR);
    assert_eq!(kms.decrypt(&key_id, &wrapped).as_deref(), Ok(&[7; 32][..]));
    daemon.kill();
    chain.serves("running", Some(REACH + 2));
    // Up to a certain distance from the mark, a node recognises a fork, even if the operator expects it. Further away,
    // it trusts the operator.
    let mut late = Side { sandbox, name: "late", generations: 0 };
    let recipient = identity(sandbox, "ours.txt");
    late.change(&format!("recovery add {recipient} {OURS}"));
    for ahead in [1, 2, 100, REACH + 1] {
        let name = format!("fork-{ahead}");
        chain.ahead("late", &name, ahead);
        chain.refuses(&name, None, FORK);
        chain.refuses(&name, Some(ahead), FORK);
    }
    chain.ahead("late", "beyond", REACH + 2);
    chain.refuses("beyond", None, FAR);
    chain.serves("beyond", Some(REACH + 2));
    println!("far ahead: {} records, refused and taken as documented", chain.records.len());
}
