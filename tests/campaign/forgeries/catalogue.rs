//! Lists the forgeries: backups, records, and sets of files in the place of the genuine ones.

use super::attacker::{Draft, Public, age, chance, tar};

/// A forged backup or record. An operator could be made to restore it.
#[derive(Debug, Clone)]
pub(super) struct Forgery {
    pub(super) name: String,
    pub(super) file: Vec<u8>,
    /// The apparent length of the file, if it is longer than the bytes. The rest is a hole.
    pub(super) length: u64,
    /// Whether only the root key of the forgery is wrong.
    pub(super) is_whole: bool,
}

/// Forged files for a state directory, in the place of the genuine ones.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) name: String,
    pub(super) files: Vec<(&'static str, Vec<u8>)>,
    /// Whether all files were exchanged. Then only a running daemon can notice it.
    pub(super) is_complete: bool,
}

/// The greatest generation that every parser accepts.
const GENERATION_MAX: u64 = 1 << 40;
const SEQ_MAX: u32 = 1 << 31;
/// The greatest distance from the known numbers that a merge accepts.
const AHEAD_MAX: u64 = 1 << 20;

/// Returns the records in which only the root key is wrong, by name.
fn whole_drafts(public: &Public) -> Vec<(String, Draft)> {
    let next = || Draft::next(public);
    let genuine = public.past();
    let mut drafts: Vec<(String, Draft)> = Vec::new();
    let mut add = |name: &str, draft: Draft| drafts.push((name.to_owned(), draft));
    add("the next generation, tombs for all keys", next());
    let mut draft = next();
    draft.entries.retain(|entry| entry.state.is_some());
    add("the next generation, keys of its own alone", draft);
    for (name, generation) in [("the genuine generation", genuine.0), ("an older generation", genuine.0 - 1)] {
        add(name, Draft { generation, pasts: vec![(generation - 1, chance())], ..next() });
    }
    add("the first generation", Draft { generation: 1, pasts: Vec::new(), ..next() });
    for (name, ahead) in [
        ("256 generations ahead", 256),
        ("257 generations ahead", 257),
        ("2^20 generations ahead", AHEAD_MAX),
        ("2^20 + 1 generations ahead", AHEAD_MAX + 1),
        ("generation 2^40", GENERATION_MAX - genuine.0),
    ] {
        let generation = genuine.0 + ahead;
        add(name, Draft { generation, pasts: vec![(generation - 1, chance()), genuine], ..next() });
    }
    let pasts = (0..1023).map(|back| (genuine.0 + 1023 - back, chance())).chain([genuine]).collect();
    add("1,024 records before it", Draft { generation: genuine.0 + 1024, pasts, ..next() });
    for (name, seq) in [("the number of a genuine key", 1), ("key number 2^31", SEQ_MAX)] {
        let mut draft = next();
        draft.entries.retain(|entry| entry.state.is_none());
        draft.key(seq, "primary");
        add(name, draft);
    }
    let mut draft = next();
    draft.key(1, "decrypt-only").compromised = true;
    draft.key(2, "disabled");
    draft.key(9, "pending");
    add("keys in all states", draft);
    let node = |name: &str| format!("-> node {name} enrolled=2026-11-23T20:14:48Z gone=2026-11-23T20:14:48Z");
    add("with nodes", Draft { kin: vec![node("node-1"), node("node-2")], ..next() });
    add("earlier root keys of its own", Draft { earlier: vec![chance(), chance(), chance()], ..next() });
    add("with its home in etcd", Draft { home: "etcd /claviger", ..next() });
    let merged = vec![format!("-> merged {}", genuine.0 + 1)];
    add("after a merge in etcd", Draft { home: "etcd /claviger", kin: merged, ..next() });
    drafts
}

/// An edit of a record's lines.
type Edit = Box<dyn Fn(String) -> String>;

fn replace(from: impl Into<String>, to: impl Into<String>) -> Edit {
    let (from, to) = (from.into(), to.into());
    Box::new(move |text| {
        assert!(text.contains(&from), "{from:?} is in {text}");
        text.replacen(&from, &to, 1)
    })
}

/// Returns the line that begins with `prefix`, doubled.
fn doubled(prefix: &'static str) -> Edit {
    Box::new(move |text| {
        let line = text.split_inclusive('\n').find(|line| line.starts_with(prefix)).unwrap().to_owned();
        text.replacen(&line, &line.repeat(2), 1)
    })
}

/// Returns records under the attacker's root key that no program would have written.
fn broken_lines(public: &Public) -> Vec<(String, Edit)> {
    let named = [broken_entries(public), broken_texts(public), broken_names(public)].into_iter().flatten();
    broken_numbers(public).into_iter().chain(named.map(|(name, edit)| (name.to_owned(), edit))).collect()
}

/// Returns edits with numbers that are out of bounds, or written in another way.
fn broken_numbers(public: &Public) -> Vec<(String, Edit)> {
    let generation = public.generation() + 1;
    let own = public.keys().into_iter().max().unwrap().0 + 1;
    let line = format!("generation {generation}\n");
    let mut edits: Vec<(String, Edit)> = Vec::new();
    for number in ["0", "1099511627777", "18446744073709551614", "18446744073709551616", "-1", "+9", "0x9"] {
        edits.push((format!("generation {number}"), replace(&*line, format!("generation {number}\n"))));
    }
    edits.push(("a leading zero".into(), replace(&*line, format!("generation 0{generation}\n"))));
    for seq in ["0", "2147483649", "4294967294", "4294967296"] {
        edits.push((format!("key number {seq}"), replace(format!("-> key {own} "), format!("-> key {seq} "))));
        edits.push((format!("tomb number {seq}"), replace("-> tomb 1 ", format!("-> tomb {seq} "))));
    }
    edits
}

/// Returns edits with predecessors, keys and tombs that do not belong together.
fn broken_entries(public: &Public) -> Vec<(&'static str, Edit)> {
    let generation = public.generation() + 1;
    let past = format!("-> past {} ", public.generation());
    vec![
        ("a past of the same generation", replace(&*past, format!("-> past {generation} "))),
        ("a past with a gap", replace(&*past, format!("-> past {} ", public.generation() - 1))),
        ("no past", Box::new(move |text: String| without(&text, "-> past ")) as Edit),
        ("a doubled past", doubled("-> past ")),
        ("a doubled uuid", doubled("uuid ")),
        ("a doubled recovery recipient", doubled("-> recovery ")),
        ("a doubled tomb", doubled("-> tomb ")),
        ("no primary key", replace(" primary ", " decrypt-only ")),
        ("an unknown state", replace(" primary ", " master ")),
        (
            "a tomb of a later generation",
            replace(format!("destroyed={generation}"), format!("destroyed={}", generation + 1)),
        ),
    ]
}

/// Returns edits that write lines in another way.
fn broken_texts(public: &Public) -> Vec<(&'static str, Edit)> {
    let generation = public.generation() + 1;
    let line = format!("generation {generation}\n");
    vec![
        ("CRLF", Box::new(|text: String| text.replace('\n', "\r\n"))),
        ("CRLF in one line", replace("home file\n", "home file\r\n")),
        ("a tab", replace("home file", "home\tfile")),
        ("two spaces", replace("home file", "home  file")),
        ("a space at the end", replace("home file", "home file ")),
        ("an empty line", replace("home file\n", "home file\n\n")),
        ("an unknown line", replace("home file\n", "home file\n-> admin attacker\n")),
        ("no home", replace("home file\n", "")),
        ("its first lines in another order", replace(format!("{line}home file\n"), format!("home file\n{line}"))),
        ("a merge in a keyring file", replace("-> recovery ", format!("-> merged {generation}\n-> recovery "))),
        ("base64 without padding", replace("=\n-> recovery ", "\n-> recovery ")),
        ("base64 that is not canonical", Box::new(|text: String| text.replacen("-> tomb 1 ", "-> tomb 1 A", 1))),
        ("a time that does not exist", replace("created=2026-11-23T20:14:48Z", "created=2026-13-23T20:14:48Z")),
        ("a time in another form", replace("created=2026-11-23T20:14:48Z", "created=2026-11-23T20:14:48+00:00")),
        ("the next version", replace("claviger/keyring/v1", "claviger/keyring/v2")),
        ("version 0", replace("claviger/keyring/v1", "claviger/keyring/v0")),
    ]
}

/// Returns forgeries that claim a name which is not genuine.
fn broken_names(public: &Public) -> Vec<(&'static str, Edit)> {
    let last = public.keys().into_iter().max().unwrap();
    let root_id = format!("root-id {}\n", public.root_id());
    vec![
        ("the genuine root-id", {
            let root_id = root_id.clone();
            Box::new(move |text: String| {
                let line = text.split_inclusive('\n').find(|line| line.starts_with("root-id ")).unwrap().to_owned();
                text.replacen(&line, &root_id, 1)
            })
        }),
        ("another uuid", replace(public.uuid_hex(), "0".repeat(32))),
        (
            "a uuid in capitals",
            replace(public.uuid_hex(), public.uuid_hex().to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")),
        ),
        ("a genuine key_id with other bytes", {
            let commitment = last.1.clone();
            Box::new(move |text: String| {
                let words: Vec<String> =
                    text.lines().find(|line| line.contains(" primary ")).unwrap().split(' ').map(Into::into).collect();
                text.replacen(&words[4], &commitment, 1).replacen(
                    &format!("-> tomb {} {commitment}", last.0),
                    "-> tomb",
                    1,
                )
            })
        }),
    ]
}

fn without(text: &str, prefix: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with(prefix)).collect()
}

/// Returns records with the last line of the genuine record, and records that were changed after they were made.
fn broken_records(public: &Public) -> Vec<(String, String)> {
    let (genuine, draft) = (&public.record, Draft::next(public));
    let own = draft.record();
    let tag = genuine.lines().last().unwrap();
    let generation = public.generation();
    let half = genuine.len() / 2;
    let records = [
        (
            "the genuine one a generation later",
            genuine.replacen(&format!("generation {generation}\n"), &format!("generation {}\n", generation + 1), 1),
        ),
        ("the genuine one with another primary key", genuine.replacen(" decrypt-only ", " primary ", 1)),
        ("the genuine one with a compromised key", genuine.replacen(" created=", " compromised created=", 1)),
        ("the genuine one with its home in etcd", genuine.replacen("home file", "home etcd /claviger", 1)),
        ("the genuine one without its pasts", without(genuine, "-> past ")),
        ("the genuine one with CRLF", genuine.replace('\n', "\r\n")),
        ("the genuine one and a byte", format!("{genuine} ")),
        ("the genuine one and a line", format!("{genuine}\n")),
        ("the genuine one twice", genuine.repeat(2)),
        ("the genuine one without its last LF", genuine.trim_end().to_owned()),
        ("the genuine one cut in half", genuine[..half].to_owned()),
        ("the genuine one without its last line", genuine.replacen(tag, "", 1)),
        ("the genuine one with the attacker's last line", genuine.replacen(tag, own.lines().last().unwrap(), 1)),
        ("the attacker's with the genuine last line", format!("{}{tag}\n", draft.lines())),
        ("the attacker's with a last line of zeros", format!("{}--- {}=\n", draft.lines(), "A".repeat(43))),
        ("the attacker's and a byte", format!("{own}x")),
        (
            "the attacker's, longer than a record may be",
            draft.edited(|text| format!("{text}{}\n", "x".repeat(600 * 1024))),
        ),
    ];
    records.into_iter().map(|(name, record)| (name.to_owned(), record)).collect()
}

/// Returns the tar of `members` in which the second one claims to have `size`, an octal number.
fn claiming(members: &[(&str, String)], size: &[u8; 12]) -> Vec<u8> {
    let mut tar = tar(members);
    // The header of the second member comes after the first member. Its checksum is computed anew.
    let start = 512 + members[0].1.len().div_ceil(512) * 512;
    tar[start + 124..start + 136].copy_from_slice(size);
    tar[start + 148..start + 156].copy_from_slice(b"        ");
    let sum: u32 = tar[start..start + 512].iter().map(|byte| u32::from(*byte)).sum();
    tar[start + 148..start + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

/// Returns backups with a correct record, and with faults around it.
fn broken_backups(public: &Public) -> Vec<(String, Vec<u8>)> {
    let draft = Draft::next(public);
    let record = draft.record();
    let [manifest, keyring, roots] = draft.members(&record);
    let seal = |members: &[(&str, String)]| age(&public.recipient, &tar(members));
    let with = |manifest: &(&'static str, String), keyring: &(&'static str, String), roots: &(&'static str, String)| {
        seal(&[manifest.clone(), keyring.clone(), roots.clone()])
    };
    let other = |text: &str| ("root-keys", text.to_owned());
    let head = format!("claviger/root-keys/v1\nuuid {}\n", public.uuid_hex());
    let genuine = ("keyring", public.record.clone());
    let generation = draft.generation;
    let members = [manifest.clone(), keyring.clone(), roots.clone()];
    let claim = |size: &[u8; 12]| age(&public.recipient, &claiming(&members, size));
    let whole = draft.backup(&record);
    let files = [
        ("a backup of the genuine record under the attacker's root key", with(&manifest, &genuine, &roots)),
        (
            "a backup with another manifest",
            with(
                &("MANIFEST", manifest.1.replacen(&format!("generation {generation}"), "generation 1", 1)),
                &keyring,
                &roots,
            ),
        ),
        ("a backup without a root key", with(&manifest, &keyring, &other(&head))),
        ("a backup with another root key", with(&manifest, &keyring, &other(&format!("{head}{}=\n", "A".repeat(43))))),
        (
            "a backup with another uuid",
            with(&manifest, &keyring, &other(&roots.1.replacen(public.uuid_hex(), &"0".repeat(32), 1))),
        ),
        ("a backup with its members in another order", seal(&[keyring.clone(), manifest.clone(), roots.clone()])),
        ("a backup with a doubled member", seal(&[manifest.clone(), keyring.clone(), keyring.clone(), roots.clone()])),
        (
            "a backup with one member more",
            seal(&[manifest.clone(), keyring.clone(), roots.clone(), ("slot-file.key", "x".repeat(32))]),
        ),
        ("a backup without root keys", seal(&[manifest.clone(), keyring.clone()])),
        ("a backup whose record says that it has 1 GiB", claim(b"10000000000\0")),
        ("a backup whose record says that it has 8 GiB", claim(b"77777777777\0")),
        ("a backup cut in half", whole[..whole.len() / 2].to_vec()),
        ("a backup and a byte", [&whole[..], b"x"].concat()),
        ("a backup twice", whole.repeat(2)),
    ];
    files.into_iter().map(|(name, file)| (name.to_owned(), file)).collect()
}

/// Returns all backups and records.
pub(super) fn forgeries(public: &Public) -> Vec<Forgery> {
    let forgery = |name: String, file: Vec<u8>, is_whole| Forgery { name, length: file.len() as u64, file, is_whole };
    let mut all = Vec::new();
    for (name, draft) in whole_drafts(public) {
        let record = draft.record();
        // A record alone, without earlier root keys, is the same attack in another file.
        all.push(forgery(format!("backup: {name}"), draft.backup(&record), true));
        all.push(forgery(format!("record: {name}"), record.into_bytes(), true));
    }
    for (name, edit) in broken_lines(public) {
        let draft = Draft::next(public);
        let record = draft.edited(edit);
        all.push(forgery(format!("backup: {name}"), draft.backup(&record), false));
        all.push(forgery(format!("record: {name}"), record.into_bytes(), false));
    }
    for (name, record) in broken_records(public) {
        all.push(forgery(format!("record: {name}"), record.into_bytes(), false));
    }
    for (name, file) in broken_backups(public) {
        all.push(forgery(name, file, false));
    }
    let whole = Draft::next(public).record();
    for (name, file) in
        [("a backup of 1 GiB", Draft::next(public).backup(&whole)), ("a record of 1 GiB", whole.into_bytes())]
    {
        all.push(Forgery { length: 1 << 30, ..forgery(name.to_owned(), file, false) });
    }
    all
}

/// Returns all exchanges of files in a state directory.
pub(super) fn exchanges(public: &Public) -> Vec<Exchange> {
    [records_in_place(public), roots_in_place(public), marks_in_place(public), ledgers_in_place(public)].concat()
}

/// Returns the count of the genuine ledger.
fn ledger_count(public: &Public) -> u64 {
    crate::cli::forge::value(&public.ledger, "count ").parse().unwrap()
}

/// Returns an exchange of some files.
fn some(name: impl Into<String>, files: Vec<(&'static str, Vec<u8>)>) -> Exchange {
    Exchange { name: name.into(), files, is_complete: false }
}

/// Returns an exchange of all files.
fn complete(name: impl Into<String>, files: Vec<(&'static str, Vec<u8>)>) -> Exchange {
    Exchange { is_complete: true, ..some(name, files) }
}

/// Returns exchanges of records, alone and with other files.
fn records_in_place(public: &Public) -> Vec<Exchange> {
    let count = ledger_count(public) + 1;
    let mut all = Vec::new();
    for (name, draft) in whole_drafts(public).into_iter().filter(|(_, draft)| draft.home == "file") {
        let record = draft.record();
        let (root, slot) = draft.root_file(None, &[]);
        let mark = draft.mark(&record, None, count);
        let ledger = draft.ledger(None, count);
        let files = [("keyring", record), ("root", root), ("mark", mark), ("ledger", ledger)]
            .map(|(name, text)| (name, text.into_bytes()));
        let slot = ("slot-file.key", slot);
        let [keyring, root, mark, ledger] = files;
        all.push(some(format!("record in place: {name}"), vec![keyring.clone()]));
        all.push(some(format!("record and mark in place: {name}"), vec![keyring.clone(), mark.clone()]));
        all.push(some(
            format!("record, root and slot in place: {name}"),
            vec![keyring.clone(), root.clone(), slot.clone()],
        ));
        all.push(complete(format!("all files in place: {name}"), vec![keyring, root, mark, ledger, slot]));
    }
    for (name, edit) in broken_lines(public) {
        all.push(some(
            format!("record in place: {name}"),
            vec![("keyring", Draft::next(public).edited(edit).into_bytes())],
        ));
    }
    for (name, record) in broken_records(public) {
        all.push(some(format!("record in place: {name}"), vec![("keyring", record.into_bytes())]));
    }
    all
}

/// Returns exchanges of root files and slots.
fn roots_in_place(public: &Public) -> Vec<Exchange> {
    let (draft, count) = (Draft::next(public), ledger_count(public) + 1);
    let (record, genuine) = (draft.record(), Some(public.root_id()));
    let mut all = Vec::new();
    let (root, slot) = draft.root_file(None, &[]);
    let slot = ("slot-file.key", slot);
    let text = |text: String| text.into_bytes();
    all.push(some("root file", vec![("root", text(root.clone()))]));
    all.push(some("root file and its slot", vec![("root", text(root.clone())), slot.clone()]));
    all.push(some("slot", vec![slot.clone()]));
    let (named, its) = draft.root_file(genuine, &[]);
    all.push(some(
        "root file with the genuine root-id and its slot",
        vec![("root", text(named)), ("slot-file.key", its)],
    ));
    let (old, its) = draft.root_file(None, &[draft.old_root()]);
    let mark = draft.mark(&record, None, count);
    let all_of = |root: String, its: Vec<u8>| {
        let ledger = draft.ledger(None, count);
        let files = vec![("keyring", text(record.clone())), ("mark", text(mark.clone())), ("ledger", text(ledger))];
        [files, vec![("root", text(root)), ("slot-file.key", its)]].concat()
    };
    all.push(complete("all files, with the genuine root key as an earlier one", all_of(old, its)));
    let tag = public.root.lines().last().unwrap();
    let changed = public.root.replacen("-> slot file file ", "-> slot other file ", 1);
    all.push(some("the genuine root file with another name of its slot", vec![("root", text(changed))]));
    let cut = public.root.split("-> old ").next().unwrap();
    all.push(some("the genuine root file without its earlier root key", vec![("root", text(format!("{cut}{tag}\n")))]));
    all
}

/// Returns exchanges of marks.
fn marks_in_place(public: &Public) -> Vec<Exchange> {
    let (draft, ledger_count) = (Draft::next(public), ledger_count(public));
    let record = draft.record();
    let marks = [
        ("mark", draft.mark(&record, None, ledger_count)),
        ("mark with the genuine root-id", draft.mark(&record, Some(public.root_id()), ledger_count)),
        (
            "the genuine mark of an earlier generation",
            public.mark.replacen(&format!("generation {}\n", public.generation()), "generation 1\n", 1),
        ),
        ("the genuine mark without a key", {
            let line = public.mark.split_inclusive('\n').find(|line| line.starts_with("-> has ")).unwrap();
            public.mark.replacen(line, "", 1)
        }),
        (
            "the genuine mark with another count",
            public.mark.replacen(&format!("ledger {ledger_count}\n"), "ledger 0\n", 1),
        ),
        ("the genuine mark cut in half", public.mark[..public.mark.len() / 2].to_owned()),
    ];
    marks.into_iter().map(|(name, mark)| some(name, vec![("mark", mark.into_bytes())])).collect()
}

/// Returns exchanges of ledgers.
fn ledgers_in_place(public: &Public) -> Vec<Exchange> {
    let (draft, genuine, ledger_count) = (Draft::next(public), Some(public.root_id()), ledger_count(public));
    let ledgers = [
        ("ledger", draft.ledger(None, ledger_count + 1)),
        ("ledger with the genuine root-id", draft.ledger(genuine, ledger_count + 1)),
        ("ledger with the greatest count", draft.ledger(genuine, u64::MAX)),
        (
            "the genuine ledger with a greater count",
            public.ledger.replacen(&format!("count {ledger_count}\n"), &format!("count {}\n", ledger_count + 1), 1),
        ),
        ("the genuine ledger cut in half", public.ledger[..public.ledger.len() / 2].to_owned()),
    ];
    ledgers.into_iter().map(|(name, ledger)| some(name, vec![("ledger", ledger.into_bytes())])).collect()
}
