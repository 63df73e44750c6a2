//! Damages a database that etcd has written, in every way. A scan reports the undamaged rest correctly, and names what
//! it could not read.
//!
//! Every page is overwritten, the file is cut at every page, and bits are flipped. About a damaged file, a scan either
//! reports the same as about the whole file, or it exits with 7 and names what it could not read. If it does not report
//! a key, or reports an earlier value of it, then the last change of that key is in a range of revisions that the
//! report names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    answers::{Line, Scanned, lines, scan, scan_raw},
    pages::{PAGE, Pages, Use, offset},
    truth::Store,
    values::{Chance, Stored},
};
use crate::{
    cli::sandbox::{Answer, Sandbox},
    harness::{etcd::Etcd, processes::Run},
};

/// The time limit for a scan. A scan that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(5);

/// The database that the tests of this file share. Each test works with copies.
static ORIGINAL: LazyLock<Original> = LazyLock::new(Original::make);

struct Original {
    /// The file of a stopped member, without the free room after its last page.
    member: Vec<u8>,
    /// A snapshot with its digest.
    snapshot: Vec<u8>,
    whole: Scanned,
    list: String,
    /// All values that each key has ever had, the newest last.
    keys: BTreeMap<String, Vec<(u64, Option<Line>)>>,
}

impl Original {
    /// Some 300 pages: pages below pages below pages, values over several pages, history, deletions, and free pages.
    fn make() -> Self {
        let (run, sandbox, mut chance) = (Run::new().unwrap(), Sandbox::new(), Chance(23));
        let mut etcd = Etcd::start(&run, 1).unwrap();
        let mut store = Store::new(&etcd.endpoints());
        let key = |number: usize| format!("/registry/secrets/default/{number:04}");
        let mut value = |round: usize, length: usize| {
            // The key_id and the seed come last. A value over several pages has a longer seed, so that no other page
            // can take the place of its last one and end with a whole key_id: only a digest would tell.
            let seed = vec![round as u8; if length > 1000 { 40 } else { 2 }];
            Stored::kms_v2("claviger", &format!("k{round}-0123456789abcdef"), &seed, length, &mut chance)
        };
        store.put_many((0..1500).map(|number| (key(number), value(1, 60))).collect::<Vec<_>>());
        for number in 0..120 {
            store.put(&key(number * 12), value(2, 90));
        }
        (0..40).for_each(|number| store.delete(&key(number * 30 + 7)));
        (0..10).for_each(|number| store.put(&key(number * 60 + 7), value(3, 40)));
        for (number, length) in [40_000, 9000, 20_000].into_iter().enumerate() {
            store.put(&format!("/registry/configmaps/large/{number}"), Stored::json(length));
            store.put(&format!("/registry/secrets/large/{number}"), value(4, length));
            store.put(&format!("/registry/secrets/large/{number}"), value(5, length / 3));
        }
        store.put_all((0..110).map(|number| (key(number * 4), value(6, 20))).collect());
        store.compact(store.revision - 60);
        (0..20).for_each(|number| store.put(&key(number * 3), value(7, 30)));
        store.put("/elsewhere/a", Stored::json(10));

        let file = sandbox.path("snapshot.db");
        etcd.snapshot(&file).unwrap();
        store.reconnect(&etcd.endpoints());
        etcd.stop(0).unwrap();
        let snapshot = fs::read(&file).unwrap();
        let mut member = fs::read(etcd.database(0)).unwrap();
        member.truncate(PAGE * usize::try_from(Pages::read(&member).count()).unwrap());
        fs::write(&file, &member).unwrap();
        let place = format!("--snapshot {}", file.display());
        let whole = scan(&sandbox, &place);
        let list = sandbox.run(&format!("scan {place} --list")).stdout;
        whole.is_true(&store.truth, true, "whole");
        assert_eq!(whole.code, 0);
        let truth = &store.truth;
        let mut keys: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for change in truth.changes.iter().filter(|change| change.key.starts_with(truth.prefix)) {
            keys.entry(change.key.clone()).or_default().push((change.revision, truth.line(change)));
        }
        Self { member, snapshot, whole, list, keys }
    }

    fn pages(&self) -> Pages<'_> {
        Pages::read(&self.member)
    }
}

#[test]
fn the_database_has_all_that_is_to_be_damaged() {
    let pages = ORIGINAL.pages();
    let heads = pages.heads();
    let branches = heads.iter().filter(|head| pages.is_branch(**head)).count();
    assert!((100..=400).contains(&pages.count()), "{} pages", pages.count());
    assert!(branches >= 3, "{branches} branches");
    let count = |wanted: fn(&Use) -> bool| (0..pages.count()).filter(|page| wanted(&pages.of(*page))).count();
    assert!(count(|used| *used == Use::Free) >= 5);
    assert_eq!(count(|used| *used == Use::Root), 1);
    assert!(count(|used| matches!(used, Use::Key { .. })) > heads.len() + 30, "values over several pages");
}

/// A copy of the file, which is damaged, scanned, and repaired again.
struct Bench {
    sandbox: Sandbox,
    file: File,
}

impl Bench {
    fn new(bytes: &[u8]) -> Self {
        let sandbox = Sandbox::new();
        fs::write(sandbox.path("db"), bytes).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(sandbox.path("db")).unwrap();
        Self { sandbox, file }
    }

    /// Scans with other bytes at the offset `at`.
    fn with(&self, at: usize, bytes: &[u8]) -> Outcome {
        let mut before = vec![0; bytes.len()];
        self.file.read_exact_at(&mut before, at as u64).unwrap();
        self.file.write_all_at(bytes, at as u64).unwrap();
        let outcome = self.scan();
        self.file.write_all_at(&before, at as u64).unwrap();
        outcome
    }

    fn flipped(&self, bytes: &[u8], (at, bit): &Flip) -> Outcome {
        self.with(*at, &[bytes[*at] ^ 1 << bit])
    }

    fn scan(&self) -> Outcome {
        let begin = Instant::now();
        let (report, list) = scan_raw(&self.sandbox, "--snapshot [DIR]/db");
        assert!(begin.elapsed() < LIMIT, "{:?} for {report}", begin.elapsed());
        Outcome::new(&report, &list)
    }
}

/// The answers about a damaged file.
struct Outcome {
    code: i32,
    /// The report. `None` if nothing could be read; then there is a message.
    report: Option<Value>,
    message: String,
    lines: Vec<Line>,
}

impl Outcome {
    fn new(report: &Answer, list: &Answer) -> Self {
        assert_eq!(report.code, list.code, "{report}\n{list}");
        let is_refused = report.stdout.is_empty();
        let json = if is_refused { &report.stderr } else { &report.stdout };
        let json: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {report}"));
        let message = json["error"].as_str().unwrap_or_default().to_owned();
        // In most cases the list is complete.
        let is_whole = list.stdout == ORIGINAL.list;
        let lines = if is_whole { ORIGINAL.whole.lines.clone() } else { lines(&list.stdout) };
        assert!(!is_refused || lines.is_empty() && report.code == 7, "{report}\n{list}");
        Self { code: report.code, report: (!is_refused).then_some(json), message, lines }
    }

    /// Whether the answers are those about the whole file.
    fn is_as_whole(&self) -> bool {
        let whole = &ORIGINAL.whole;
        let reported = |report: &Value| {
            let mut report = report.clone();
            report["time"].take();
            report["source"]["file"].take();
            report
        };
        let is_same = self.report.as_ref().is_some_and(|report| reported(report) == reported(&whole.report.0));
        is_same && self.code == whole.code && self.lines == whole.lines
    }

    /// Returns the findings that name pages, each with its reason.
    fn pages(&self) -> Vec<(u64, &str)> {
        let findings = self.report.iter().flat_map(|report| report["findings"].as_array().unwrap());
        findings.filter_map(|finding| Some((finding["page"].as_u64()?, finding["reason"].as_str()?))).collect()
    }

    /// Returns the keys whose values are damaged, according to the answers.
    fn damaged_keys(&self) -> impl Iterator<Item = &str> {
        let findings = self.report.iter().flat_map(|report| report["findings"].as_array().unwrap());
        findings.filter(|finding| finding["kind"] == "damaged").filter_map(|finding| finding["key"].as_str())
    }

    fn incomplete(&self) -> Vec<String> {
        self.report.iter().flat_map(|report| super::answers::Report(report.clone()).incomplete()).collect()
    }

    /// Whether the report says that something of this revision may be missing.
    fn misses(&self, revision: u64) -> bool {
        if self.report.is_none() {
            return true;
        }
        let is_meta =
            self.incomplete().iter().any(|reason| reason.contains("what the last transaction wrote may be missing"));
        is_meta || self.pages().iter().any(|(_, reason)| missing(reason, revision))
    }

    /// Returns the faults of the answers: untrue statements, and objects that were left out without a message.
    fn faults(&self) -> Vec<String> {
        if self.lines == ORIGINAL.whole.lines {
            return Vec::new();
        }
        let damaged: Vec<&str> = self.damaged_keys().collect();
        let mut listed = BTreeSet::new();
        let mut faults = Vec::new();
        for line in &self.lines {
            if !listed.insert(&*line.key) {
                faults.push(format!("listed twice: {line:?}"));
            }
            // A value that is reported as damaged may have changed.
            let is_damaged = line.finding.as_deref() == Some("damaged") && damaged.contains(&&*line.key);
            let is = |expected: &Line| {
                let expected = Line { finding: line.finding.clone(), ..expected.clone() };
                *line == if is_damaged { Line { key_id: None, ..expected } } else { expected }
            };
            let known = ORIGINAL.keys.get(&line.key).map_or(&[][..], Vec::as_slice);
            let at = known.iter().position(|(_, expected)| expected.as_ref().is_some_and(&is));
            let is_true = at.is_some_and(|at| known[at + 1..].iter().all(|(newer, _)| self.misses(*newer)));
            if !is_true {
                faults.push(format!("untrue: {line:?}"));
            }
        }
        for line in ORIGINAL.whole.lines.iter().filter(|line| !listed.contains(&*line.key)) {
            if !self.misses(line.mod_revision) {
                faults.push(format!("left out: {line:?}"));
            }
        }
        faults
    }

    /// Returns the output, for the reader of a failed test.
    fn said(&self) -> String {
        format!("exit {}, {:?}, {:?}, {}", self.code, self.incomplete(), self.pages(), self.message)
    }

    /// Returns the faults of the answers, if there are any.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = self.faults();
        if ![0, 1, 7].contains(&self.code) {
            wrong.push("another exit code".to_owned());
        }
        if self.code != 7 && !self.is_as_whole() {
            wrong.push("another report, and nothing is said of damage".to_owned());
        }
        wrong
    }
}

/// Whether the reason for a page says that something of this revision may be missing.
fn missing(reason: &str, revision: u64) -> bool {
    let Some((_, range)) = reason.rsplit_once("; ") else { return false };
    let numbers: Vec<u64> = range.split(' ').filter_map(|word| word.parse().ok()).collect();
    match (range.split(' ').collect::<Vec<_>>().as_slice(), numbers.as_slice()) {
        (["any", "revision", ..], []) => true,
        (["revisions", "from", _, "on", ..], [low]) => *low <= revision,
        (["revisions", "up", "to", ..], [high]) => revision <= *high,
        (["revisions", _, "to", ..], [low, high]) => (*low..=*high).contains(&revision),
        (["something", "of", "revision", ..], [one]) => *one == revision,
        _ => false,
    }
}

/// Runs `check` for all cases, on two copies at a time. Shows some of the faults.
fn for_each<T: Sync>(bytes: &[u8], cases: &[T], check: impl Fn(&Bench, &T) -> (String, Outcome, Vec<String>) + Sync) {
    let failed: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let check = &check;
                scope.spawn(move || {
                    let bench = Bench::new(bytes);
                    let checked = cases.iter().skip(worker).step_by(2).map(|case| check(&bench, case));
                    let failed = checked.filter(|(.., wrong)| !wrong.is_empty());
                    failed
                        .map(|(case, outcome, wrong)| {
                            format!(
                                "{case}: {} wrong: {:#?}\n{}",
                                wrong.len(),
                                &wrong[..wrong.len().min(3)],
                                outcome.said()
                            )
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });

    let some = failed[..failed.len().min(5)].join("\n\n");
    assert!(failed.is_empty(), "{} of {} cases:\n{some}", failed.len(), cases.len());
}

/// The bytes that a page is overwritten with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filler {
    Zeros,
    Noise,
    /// Another page.
    Page(u64),
    /// Another page of keys, with the number of this page in its header.
    Disguised(u64),
}

impl Filler {
    fn bytes(self, page: u64) -> Vec<u8> {
        let other = |page: u64| ORIGINAL.member[offset(page)..][..PAGE].to_vec();
        match self {
            Self::Zeros => vec![0; PAGE],
            Self::Noise => Chance(page).bytes(PAGE),
            Self::Page(number) => other(number),
            Self::Disguised(number) => [&page.to_le_bytes()[..], &other(number)[8..]].concat(),
        }
    }
}

#[test]
fn whatever_page_is_overwritten_the_rest_is_reported_and_the_page_is_named() {
    let pages = ORIGINAL.pages();
    let (branches, leaves): (Vec<_>, Vec<_>) = pages.heads().into_iter().partition(|head| pages.is_branch(*head));
    let mut chance = Chance(31);
    let mut cases = Vec::new();
    let free = (0..pages.count()).filter(|page| pages.of(*page) == Use::Free).skip(5).collect::<BTreeSet<_>>();
    for page in (0..pages.count()).filter(|page| !free.contains(page) || page % 8 == 0) {
        let another = (page + 1 + chance.next() % (pages.count() - 1)) % pages.count();
        // A leaf is not put in the place of a branch, because that would look like a smaller tree.
        let alike = if branches.contains(&page) { &branches } else { &leaves };
        let alike = alike[chance.below(alike.len())];
        cases
            .extend([Filler::Zeros, Filler::Noise, Filler::Page(another), Filler::Disguised(alike)].map(|f| (page, f)));
    }
    // The topmost page has no page beside it to compare its keys with.
    let is_top = |page| matches!(pages.of(page), Use::Key { is_top: true, .. });
    // A free page may hold an earlier version of this part of a value. Then only a digest tells them apart.
    let is_inside = |page| matches!(pages.of(page), Use::Key { head, .. } if head != page);
    let may_be_older = |page, filler: &Filler| {
        is_inside(page) && matches!(filler, Filler::Page(other) if pages.of(*other) == Use::Free)
    };
    cases.retain(|(page, filler)| {
        !matches!(filler, Filler::Disguised(other) if other == page || is_top(*page))
            && filler != &Filler::Page(*page)
            && !may_be_older(*page, filler)
    });
    for_each(&ORIGINAL.member, &cases, |bench, (page, filler)| {
        let used = pages.of(*page);
        let outcome = bench.with(offset(*page), &filler.bytes(*page));
        let names = |page| outcome.pages().iter().any(|(named, _)| *named == page);
        let is_said = match used {
            Use::Free | Use::Other => outcome.is_as_whole(),
            Use::Meta => outcome
                .incomplete()
                .contains(&format!("meta page {page} is damaged: what the last transaction wrote may be missing")),
            Use::Root => {
                let lost = format!("the bucket \"key\" cannot be found: page {page}: ");
                let unnamed = "the database has no bucket \"key\"";
                // A disguised page may itself need more pages than follow here. Then it is named.
                let is_unnamed = matches!(filler, Filler::Disguised(_)) && outcome.message.contains(unnamed);
                is_unnamed || outcome.message.contains(&lost)
            }
            Use::Key { head, .. } if head == *page => names(head),
            // A scan does not look at most bytes inside of a value.
            Use::Key { head, .. } => outcome.is_as_whole() || names(head) || outcome.damaged_keys().next().is_some(),
        };
        let mut wrong = outcome.wrong();
        wrong.extend((!is_said).then(|| "the page is not named".to_owned()));
        (format!("{filler:?} in the place of page {page}, {used:?}"), outcome, wrong)
    });
}

#[test]
fn wherever_a_file_is_cut_the_rest_is_reported() {
    let length = ORIGINAL.member.len();
    let mut chance = Chance(37);
    let mut cases: Vec<usize> = (0..length).step_by(PAGE).collect();
    cases.extend((0..60).map(|_| chance.below(length)));
    for_each(&ORIGINAL.member, &cases, |bench, cut| {
        bench.file.set_len(*cut as u64).unwrap();
        let outcome = bench.scan();
        bench.file.write_all_at(&ORIGINAL.member[*cut..], *cut as u64).unwrap();
        let expected = format!("the file was cut off: it has {cut} of {length} bytes");
        let is_said = outcome.code == 7 && (outcome.report.is_none() || outcome.incomplete().contains(&expected));
        let mut wrong = outcome.wrong();
        wrong.extend((!is_said).then(|| "nobody says that it was cut".to_owned()));
        (format!("cut at {cut} of {length}"), outcome, wrong)
    });
}

/// The test flips bits in the headers and elements of leaves, and everywhere in branches, which consist of structure
/// only.
#[test]
fn whatever_bit_of_a_pages_structure_flips_nothing_untrue_is_reported() {
    let pages = ORIGINAL.pages();
    let heads: Vec<u64> = pages.heads().into_iter().collect();
    let branches: Vec<u64> = heads.iter().copied().filter(|head| pages.is_branch(*head)).collect();
    let mut chance = Chance(41);
    let mut cases = Vec::new();
    for (among, count) in [(&heads, 100), (&branches, 100)] {
        for _ in 0..count {
            let structure = pages.structure(among[chance.below(among.len())]);
            cases.push((structure.start + chance.below(structure.len()), chance.below(8)));
        }
    }
    // Every second bit of some headers.
    for head in [branches[0], heads[heads.len() / 2]] {
        cases.extend((0..128).step_by(2).map(|bit| (offset(head) + bit / 8, bit % 8)));
    }
    for_each(&ORIGINAL.member, &cases, |bench, flip| {
        let outcome = bench.flipped(&ORIGINAL.member, flip);
        let wrong = outcome.wrong();
        (flip_of(flip), outcome, wrong)
    });
}

/// bbolt would not notice, and would read the other elements.
#[test]
fn a_page_that_counts_too_few_elements_is_not_read() {
    let pages = ORIGINAL.pages();
    let (branches, leaves): (Vec<_>, Vec<_>) = pages.heads().into_iter().partition(|head| pages.is_branch(*head));
    let few = |heads: &[u64]| [heads[0], heads[heads.len() / 2], heads[heads.len() - 1]];
    let mut cases = Vec::new();
    for head in few(&branches).into_iter().chain(few(&leaves)) {
        let count = pages.elements(head);
        cases.extend([0, 1, count / 2, count - 1, count + 1].map(|counted| (head, counted)));
    }
    cases.dedup();
    for_each(&ORIGINAL.member, &cases, |bench, (head, counted)| {
        let outcome = bench.with(offset(*head) + 10, &counted.to_le_bytes());
        let mut wrong = outcome.wrong();
        let is_said = outcome.pages().iter().any(|(named, _)| named == head) || pages.elements(*head) == *counted;
        wrong.extend((!is_said).then(|| "the page is not named".to_owned()));
        (format!("page {head} with {counted} of {} elements", pages.elements(*head)), outcome, wrong)
    });
}

/// Without a digest, nobody can tell a key or value with a flipped bit from a right one. Only that one is affected.
#[test]
fn whatever_bit_flips_a_scan_ends_and_the_digest_tells() {
    let mut chance = Chance(43);
    let mut flips =
        |bytes: &[u8], count| (0..count).map(|_| (chance.below(bytes.len()), chance.below(8))).collect::<Vec<_>>();
    for_each(&ORIGINAL.member, &flips(&ORIGINAL.member, 150), |bench, flip| {
        let outcome = bench.flipped(&ORIGINAL.member, flip);
        let mut wrong = outcome.faults();
        // Only one key has another name, and the value that it had before is found under its own name.
        wrong.truncate(if wrong.len() > 2 { usize::MAX } else { 0 });
        (flip_of(flip), outcome, wrong)
    });
    for_each(&ORIGINAL.snapshot, &flips(&ORIGINAL.snapshot, 100), |bench, flip| {
        let outcome = bench.flipped(&ORIGINAL.snapshot, flip);
        let digest = "the file does not match the digest at its end".to_owned();
        let is_said = outcome.code == 7 && (outcome.report.is_none() || outcome.incomplete().contains(&digest));
        let wrong = (!is_said).then(|| "the digest does not show it".to_owned());
        (flip_of(flip), outcome, wrong.into_iter().collect())
    });
}

/// A bit: its byte, and its number in the byte.
type Flip = (usize, usize);

fn flip_of((at, bit): &Flip) -> String {
    format!("bit {bit} of byte {} of page {}", at % PAGE, at / PAGE)
}
