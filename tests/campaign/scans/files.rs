//! Scans hostile database files and configurations of encryption. A larger campaign: `CLAVIGER_CAMPAIGN=2000 cargo test
//! --release --test integration campaign::scans -- --ignored --nocapture`.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    super::{hostile::random::Random, seed, size},
    limited::{Limited, READ_BESIDE, READ_PER_BYTE, scan, snapshot},
    mutations::damage,
    trees::TREES,
};
use crate::{
    harness::processes::Run,
    scan::forged::{FREE, Forged, LEAF, leaf, revision, secret},
};

/// The number of inputs in the gate.
const GATE: u64 = 60;

/// One input of this many is a tree. The others are damaged files, which are smaller.
const TREE: u64 = 4;

/// The cost of all inputs of one kind.
#[derive(Default)]
struct Cost {
    inputs: u64,
    bytes: u64,
    read: u64,
    /// The greatest number of bytes that were read for each byte of a file.
    ratio: u64,
    longest: Duration,
    exits: BTreeMap<Option<i32>, u64>,
}

impl Cost {
    /// Adds one scan, and checks that it kept its limits.
    fn add(&mut self, answer: &Limited, bytes: u64, context: &str) {
        assert!(answer.has_ended_well(), "{context}: {answer:?}");
        let read = answer.read.unwrap_or(0);
        assert!(read <= bytes * READ_PER_BYTE + READ_BESIDE, "{context}: {read} bytes read of {bytes}");
        self.inputs += 1;
        self.bytes += bytes;
        self.read += read;
        self.ratio = self.ratio.max(read.saturating_sub(READ_BESIDE) * 10 / bytes.max(1));
        self.longest = self.longest.max(answer.time);
        *self.exits.entry(answer.exit).or_default() += 1;
    }

    fn print(&self, kind: &str) {
        let Self { inputs, bytes, read, ratio, longest, exits } = self;
        let (bytes, read, tenths) = (bytes >> 10, read >> 10, ratio % 10);
        println!(
            "{inputs:6} {kind}: {bytes} KiB, {read} KiB read, at most {}.{tenths} times the file, longest {longest:.2?}, exits {exits:?}",
            ratio / 10
        );
    }
}

#[test]
#[ignore = "campaign"]
fn a_scan_of_any_file_ends_with_little_memory_and_reads_it_a_few_times_at_most() {
    let (run, seed, count) = (Run::new().unwrap(), seed(), size(GATE));
    println!("scans: seed {seed}");
    let (begin, mut costs) = (Instant::now(), BTreeMap::<&str, Cost>::new());
    let path = run.path("hostile.db");
    for index in 0..count.max(TREES.len() as u64 * TREE) {
        let mut random = Random::nth(seed, index);
        let kind = if index % TREE == 0 {
            let (kind, make) = TREES[usize::try_from(index / TREE).unwrap() % TREES.len()];
            make(path.clone(), &mut random);
            kind
        } else {
            damaged(&path, &mut random)
        };
        let bytes = fs::metadata(&path).unwrap().len();
        let answer = snapshot(&run, &path);
        costs.entry(kind).or_default().add(&answer, bytes, &format!("{kind}, input {index} of seed {seed}"));
        fs::remove_file(&path).unwrap();
    }
    println!("{:.1?}", begin.elapsed());
    for (kind, cost) in costs {
        cost.print(kind);
    }
}

/// Writes a whole file with random damage.
fn damaged(path: &Path, random: &mut Random) -> &'static str {
    let (mut bytes, page_size, kind) = if random.below(2) == 0 {
        let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/etcd-snapshot.db");
        (fs::read(snapshot).unwrap(), 4096, "damaged snapshots")
    } else {
        let page_size = random.pick(&[512, 1024, 4096, 65_536]);
        whole(path, page_size, random);
        (fs::read(path).unwrap(), usize::try_from(page_size).unwrap(), "damaged trees")
    };
    damage(&mut bytes, page_size, random);
    fs::write(path, bytes).unwrap();
    kind
}

/// Writes a tree with a Secret on each leaf.
fn whole(path: &Path, page_size: u64, random: &mut Random) {
    let leaves = random.within(1, 300) as u64;
    let forged = Forged::new(path.to_owned(), page_size, FREE + 2 * leaves + 16);
    let mut level = Vec::new();
    for number in 1..=leaves {
        forged.page(FREE + number, LEAF, 1, 0, &leaf(&[(&revision(number), secret(number))], 0));
        level.push((revision(number), FREE + number));
    }
    // Branches of 80 children do not fit into small pages, which is damage, too.
    forged.tree(level, FREE + leaves);
}

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";

/// Returns configurations of about a megabyte, each with the name of what it has too much of.
fn configurations() -> [(&'static str, String); 6] {
    let entry = |number: usize| {
        format!(
            "- {{resources: [secrets], providers: [{{kms: {{apiVersion: v2, name: p{number}, endpoint: 'unix:///s'}}}}]}}\n"
        )
    };
    let alias = |name: usize| format!("a{name}: &a{name} [{}]\n", format!("*a{},", name + 1).repeat(9));
    [
        ("resources", format!("{HEAD}- resources: [{}]\n  providers: [identity: {{}}]\n", names(80_000))),
        ("entries of one resource", HEAD.to_owned() + &(0..8000).map(entry).collect::<String>()),
        ("nesting", HEAD.to_owned() + &"[".repeat(500_000)),
        ("nesting in JSON", format!("{{\"resources\":{}", "[".repeat(500_000))),
        ("aliases", format!("a9: &a9 [x]\n{}{HEAD}", (0..9).rev().map(alias).collect::<String>())),
        ("length", HEAD.to_owned() + &"- ".repeat(1 << 21)),
    ]
}

fn names(count: usize) -> String {
    (0..count).map(|number| format!("r{number}.x.io,")).collect()
}

#[test]
#[ignore = "campaign"]
fn an_encryption_configuration_of_any_form_takes_little_memory() {
    let run = Run::new().unwrap();
    // Many groups are compared with the configuration.
    let values = size(GATE).clamp(2000, 20_000);
    let forged = Forged::new(run.path("keys.db"), 4096, FREE + 2 * values);
    let mut level = Vec::new();
    for number in 1..=values {
        forged.page(FREE + number, LEAF, 1, 0, &leaf(&[(&revision(number), secret(number))], 0));
        level.push((revision(number), FREE + number));
    }
    forged.tree(level, FREE + values);
    for (kind, text) in configurations() {
        fs::write(run.path("config"), &text).unwrap();
        let flags = [forged.path().to_str().unwrap().to_owned(), run.path("config").to_str().unwrap().to_owned()];
        let answer = scan(&run, &["--snapshot", &flags[0], "--encryption-config", &flags[1]]);
        println!("{kind}: {} bytes, {values} keys, exit {:?}, {:.2?}", text.len(), answer.exit, answer.time);
        assert!(answer.has_ended_well(), "{kind}: {answer:?}");
    }
}
