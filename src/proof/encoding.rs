//! The bytes of a report. The HMAC covers all of them, so an auditor who keeps a report can have it checked later.
//!
//! Every value that comes from outside is one word: what could end a word or a line is escaped. Source:
//! `docs/formats.md`, "report".

use std::{collections::BTreeMap, iter::Peekable, str::Split};

use crate::{
    crypto::{Commitment, Digest, RootId, RootName, Uuid, kdf::MacLabel, root_key::RootKey},
    keyring::{read_generation, time::Time},
    memory::SecretError,
    scan::judge::FindingKind,
    text::{self, LineReader, LineWriter, TextError, base64, base64_array, escape, number, unescape},
};

use super::report::{
    KeyringNow, MovedResource, ReadEtcd, ReadFile, Shortfall, VerifiedGroup, VerifyOutcome, VerifyReport,
};

/// The greatest length of a report in bytes. It has room for 8,192 groups with names as API servers have them.
pub const REPORT_MAX: usize = 4 << 20;
const KIND: &str = "report";

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteReportError {
    /// The report would be too long, because somebody invented many long names.
    #[error("the report would be {found} bytes long, expected at most {REPORT_MAX}")]
    TooLong {
        /// The length that the report would have, in bytes.
        found: usize,
    },
    /// No memory could be locked for the key that authenticates the report.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// Why a report was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadReportError {
    /// The grammar or the HMAC is wrong.
    #[error("the report: {0}")]
    Text(TextError),
    /// The report belongs to another keyring.
    #[error("the report is of keyring {}, expected {}", found.to_hex(), expected.to_hex())]
    OtherKeyring {
        /// The uuid in the report.
        found: Uuid,
        /// The uuid of the keyring here.
        expected: Uuid,
    },
    /// A root key from before a rekey authenticates the report. Somebody who kept that key could have made the report.
    #[error("the report is under a root key from before a rekey: anyone who kept that key could have made it")]
    EarlierRootKey,
    /// The report is under a root key that this keyring never had.
    #[error("the report is under another root key")]
    OtherRootKey,
    /// The contents are valid, but the encoder would have written other bytes.
    #[error("the report is not in its canonical form")]
    NotCanonical,
    /// No memory could be locked for the key that authenticates the report.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

impl From<TextError> for ReadReportError {
    fn from(error: TextError) -> Self {
        Self::Text(error)
    }
}

impl VerifyReport {
    /// Returns the bytes of the report, authenticated under `root`.
    ///
    /// # Errors
    /// When the report is too long, or no memory can be locked.
    pub fn encode(&self, root: &RootKey) -> Result<Vec<u8>, WriteReportError> {
        let bytes = self.unbounded(root)?;
        if bytes.len() > REPORT_MAX { Err(WriteReportError::TooLong { found: bytes.len() }) } else { Ok(bytes) }
    }

    /// Returns the bytes of the report, whatever their length.
    fn unbounded(&self, root: &RootKey) -> Result<Vec<u8>, SecretError> {
        let KeyringNow { uuid, root_id, generation, record, restored, primary, commitment } = &self.keyring;
        let mut writer = LineWriter::new(KIND);
        writer.owner(*uuid);
        writer.root_id(*root_id);
        writer.line(&format!("generation {generation}"));
        writer.line(&format!("record {}", base64(&record.0)));
        if let Some(restored) = restored {
            writer.line(&format!("restored {restored}"));
        }
        writer.line(&format!("primary {primary} {}", base64(&commitment.0)));
        writer.line(&format!("provider {}", escape(&self.provider)));
        writer.line(&format!("time {}", self.time));
        writer.line(&format!("prefix {}", escape(&self.prefix)));
        let ReadFile { path, sha256 } = &self.encryption_config;
        writer.line(&format!("encryption-config {} {}", escape(&path.to_string_lossy()), base64(&sha256.0)));
        if let Some(flags) = &self.flags {
            writer.line(&format!("flags {}", escape(flags)));
        }
        writer.line(&format!("outcome {}", self.outcome().as_str()));
        self.etcds.iter().for_each(|etcd| writer.line(&etcd_line(etcd)));
        for MovedResource { resource, addresses } in &self.overrides {
            writer.line(&format!("-> override {}{}", escape(resource), words(addresses)));
        }
        for shortfall in &self.shortfalls {
            writer.line(&format!("-> shortfall {}", shortfall.as_str()));
        }
        for (kind, count) in &self.found {
            writer.line(&format!("-> found {} {count}", kind.as_str()));
        }
        self.groups.iter().for_each(|group| writer.line(&group_line(group)));
        Ok(writer.finish(&root.mac(*uuid, MacLabel::Report)?))
    }

    /// Reads the name of the root key that a report is under. Nothing is authenticated yet.
    ///
    /// # Errors
    /// When the first lines are not those of a report.
    pub fn root_name(bytes: &[u8]) -> Result<RootName, TextError> {
        LineReader::open(bytes, KIND, REPORT_MAX)?.root_name()
    }

    /// Reads a report of the keyring `expected` under `root`.
    ///
    /// # Errors
    /// When it is about another keyring or under another root key, or was changed or damaged.
    pub fn decode(bytes: &[u8], root: &RootKey, expected: Uuid) -> Result<Self, ReadReportError> {
        let mut lines = LineReader::open(bytes, KIND, REPORT_MAX)?;
        let RootName { uuid, root_id } = lines.root_name()?;
        if uuid != expected {
            return Err(ReadReportError::OtherKeyring { found: uuid, expected });
        }
        if root_id != root.id(expected) {
            return Err(ReadReportError::OtherRootKey);
        }
        text::authenticate(bytes, &root.mac(uuid, MacLabel::Report)?)?;
        let report = read(&mut lines, uuid, root_id)?;
        if report.unbounded(root)? == bytes { Ok(report) } else { Err(ReadReportError::NotCanonical) }
    }
}

fn etcd_line(ReadEtcd { revision, cluster, addresses }: &ReadEtcd) -> String {
    let cluster = cluster.map_or_else(String::new, |id| format!(" cluster={id:x}"));
    format!("-> etcd {revision}{cluster}{}", words(addresses))
}

fn group_line(group: &VerifiedGroup) -> String {
    let VerifiedGroup { objects, seeds, first, last, .. } = group;
    let key = group.key_id.as_ref().map_or_else(String::new, |key_id| format!(" key={}", escape(key_id)));
    let commitment = group.commitment.map_or_else(String::new, |all| format!(" commitment={}", base64(&all.0)));
    let found: Vec<String> = group.found.iter().map(|kind| format!(" found={}", kind.as_str())).collect();
    let found = found.concat();
    let (resource, provider) = (escape(&group.resource), escape(&group.provider));
    format!(
        "-> group {resource} {provider}{key}{commitment} objects={objects} seeds={seeds} first={first} last={last}{found}"
    )
}

fn words(values: &[String]) -> String {
    values.iter().map(|value| format!(" {}", escape(value))).collect::<Vec<_>>().concat()
}

/// Reads all lines after those that identify the keyring.
fn read(lines: &mut LineReader<'_>, uuid: Uuid, root_id: RootId) -> Result<VerifyReport, TextError> {
    const RESTORED: &str = "`restored <generation>`, at most that of the record";
    const OUTCOME: &str = "`outcome clean`, `left-over` or `incomplete`, as the other lines say";
    let generation = lines.field("generation", "`generation <number>`, 1 to 2^40", read_generation)?;
    let record = lines.field("record", "`record <base64 SHA-256>`", |value| base64_array(value).map(Digest))?;
    let restored = lines.line_after("restored ").map(|restored| {
        read_generation(restored).filter(|restored| *restored <= generation).ok_or_else(|| lines.wrong(RESTORED))
    });
    let restored = restored.transpose()?;
    let (primary, commitment) = lines.field("primary", "`primary <key_id> <base64 C>`", |value| {
        let (key_id, commitment) = value.split_once(' ')?;
        Some((key_id.parse().ok()?, base64_array(commitment).map(Commitment)?))
    })?;
    let keyring = KeyringNow { uuid, root_id, generation, record, restored, primary, commitment };
    let provider = lines.field("provider", "`provider <name>`", unescape)?;
    let time = lines.field("time", "`time <time>`", Time::parse)?;
    let prefix = lines.field("prefix", "`prefix <prefix>`", unescape)?;
    let encryption_config =
        lines.field("encryption-config", "`encryption-config <path> <base64 SHA-256>`", read_config)?;
    let flags = lines.line_after("flags ").map(|place| unescape(place).ok_or_else(|| lines.wrong("`flags <place>`")));
    let flags = flags.transpose()?;
    let outcome = lines
        .field("outcome", OUTCOME, |word| VerifyOutcome::ALL.into_iter().find(|outcome| outcome.as_str() == word))?;
    let outcome_line = lines.wrong(OUTCOME);
    let etcds = all(lines, "-> etcd ", "`-> etcd <revision> [cluster=<hex>] <address> …`", read_etcd)?;
    let overrides =
        sorted(lines, "-> override ", "`-> override <resource> <address> …`, sorted, each once", read_override)?;
    let shortfalls = sorted(lines, "-> shortfall ", "`-> shortfall <word>`, sorted, each once", |word| {
        Shortfall::ALL.into_iter().find(|shortfall| shortfall.as_str() == word)
    })?;
    let found = read_found(lines)?;
    let groups = read_groups(lines)?;
    lines.end()?;
    let report = VerifyReport {
        keyring,
        time,
        provider,
        prefix,
        encryption_config,
        flags,
        etcds,
        overrides,
        shortfalls,
        found,
        groups,
    };
    if report.outcome() == outcome { Ok(report) } else { Err(outcome_line) }
}

/// Reads all lines that begin with `prefix`.
fn all<T>(
    lines: &mut LineReader<'_>,
    prefix: &str,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, TextError> {
    let mut found = Vec::new();
    while let Some(line) = lines.line_after(prefix) {
        found.push(parse(line).ok_or_else(|| lines.wrong(expected))?);
    }
    Ok(found)
}

/// Reads all lines that begin with `prefix`. The lines have to be sorted, and none may occur twice.
fn sorted<T: Ord>(
    lines: &mut LineReader<'_>,
    prefix: &str,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, TextError> {
    let found = all(lines, prefix, expected, parse)?;
    if found.is_sorted_by(|a, b| a < b) { Ok(found) } else { Err(lines.wrong(expected)) }
}

fn read_config(value: &str) -> Option<ReadFile> {
    let (path, sha256) = value.split_once(' ')?;
    Some(ReadFile { path: unescape(path)?.into(), sha256: base64_array(sha256).map(Digest)? })
}

fn read_etcd(line: &str) -> Option<ReadEtcd> {
    let mut words = line.split(' ').peekable();
    let revision = number(words.next()?)?;
    let cluster = parameter(&mut words, "cluster=").map_or(Some(None), |id| cluster_id(id).map(Some))?;
    Some(ReadEtcd { revision, cluster, addresses: addresses(words)? })
}

/// Reads the number of a cluster as the writer writes it. A cluster never has the number zero.
fn cluster_id(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok().filter(|id| *id != 0 && format!("{id:x}") == text)
}

fn read_override(line: &str) -> Option<MovedResource> {
    let mut words = line.split(' ').peekable();
    Some(MovedResource { resource: unescape(words.next()?)?, addresses: addresses(words)? })
}

/// Reads the addresses of an etcd, at least one.
fn addresses<'t>(words: impl Iterator<Item = &'t str>) -> Option<Vec<String>> {
    words.map(unescape).collect::<Option<Vec<String>>>().filter(|all| !all.is_empty())
}

fn read_found(lines: &mut LineReader<'_>) -> Result<BTreeMap<FindingKind, u64>, TextError> {
    const EXPECTED: &str = "`-> found <kind> <number>`, sorted, each kind once";
    let found = sorted(lines, "-> found ", EXPECTED, |line| {
        let (word, count) = line.split_once(' ')?;
        Some((kind(word)?, number(count)?))
    })?;
    let kinds: BTreeMap<FindingKind, u64> = found.iter().copied().collect();
    if kinds.len() == found.len() { Ok(kinds) } else { Err(lines.wrong(EXPECTED)) }
}

fn read_groups(lines: &mut LineReader<'_>) -> Result<Vec<VerifiedGroup>, TextError> {
    const EXPECTED: &str = "`-> group <resource> <provider> [key=…] [commitment=…] objects=… seeds=… first=… last=… \
                            [found=…]`, sorted, each once";
    let mut groups: Vec<VerifiedGroup> = Vec::new();
    while let Some(line) = lines.line_after("-> group ") {
        let is_next = |group: &VerifiedGroup| groups.last().is_none_or(|last| last.names() < group.names());
        groups.push(read_group(line).filter(is_next).ok_or_else(|| lines.wrong(EXPECTED))?);
    }
    Ok(groups)
}

fn read_group(line: &str) -> Option<VerifiedGroup> {
    let mut words = line.split(' ').peekable();
    let (resource, provider) = (unescape(words.next()?)?, unescape(words.next()?)?);
    let key_id = parameter(&mut words, "key=").map_or(Some(None), |key_id| unescape(key_id).map(Some))?;
    let commitment =
        parameter(&mut words, "commitment=").map_or(Some(None), |all| base64_array(all).map(Commitment).map(Some))?;
    let mut count = |name: &str| parameter(&mut words, name).and_then(number);
    let (objects, seeds) = (count("objects=")?, count("seeds=")?);
    let (first, last) = (count("first=")?, count("last=")?);
    let mut found = Vec::new();
    while let Some(word) = parameter(&mut words, "found=") {
        found.push(kind(word)?);
    }
    let group = VerifiedGroup { resource, provider, key_id, commitment, objects, seeds, first, last, found };
    let is_sorted = group.found.is_sorted_by(|a, b| a < b);
    (words.next().is_none() && is_sorted).then_some(group)
}

/// Takes the next word if it begins with `name`, which ends in `=`. In any other word, `=` is escaped.
fn parameter<'t>(words: &mut Peekable<Split<'t, char>>, name: &str) -> Option<&'t str> {
    words.next_if(|word| word.starts_with(name)).map(|word| &word[name.len()..])
}

fn kind(word: &str) -> Option<FindingKind> {
    FindingKind::ALL.into_iter().find(|kind| kind.as_str() == word)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        proof::testing::{self, group, plaintext, report},
        text::tampering,
    };

    const UUID: Uuid = Uuid([5; 16]);

    fn root() -> RootKey {
        RootKey::generate(&mut SysRng).unwrap()
    }

    /// Returns a report with a line of every kind, and names that nobody should use.
    fn odd(root: &RootKey) -> VerifyReport {
        let mut odd = report(root, UUID);
        odd.keyring.restored = Some(4);
        odd.shortfalls = vec![Shortfall::SeveralRevisions, Shortfall::PlaintextFirst];
        odd.found = [(FindingKind::Plaintext, 3), (FindingKind::OldKey, 2)].into();
        odd.flags = None;
        odd.prefix = "/a b\n--- c/\u{202e}".to_owned();
        let key_id = Some("key=x found=stale".to_owned());
        odd.groups
            .insert(0, VerifiedGroup { key_id, ..plaintext("", 1, &[FindingKind::Plaintext, FindingKind::OldKey]) });
        odd.groups.insert(1, VerifiedGroup { key_id: Some(String::new()), ..group("-> group", u64::MAX) });
        odd
    }

    #[test]
    fn a_report_reads_back_and_every_tampered_one_is_refused() {
        let root = root();
        for report in [report(&root, UUID), odd(&root)] {
            let bytes = report.encode(&root).unwrap();
            assert_eq!(VerifyReport::root_name(&bytes), Ok(RootName { uuid: UUID, root_id: root.id(UUID) }));
            assert_eq!(VerifyReport::decode(&bytes, &root, UUID).unwrap(), report);
            for (what, tampered) in tampering::of(&bytes) {
                assert!(VerifyReport::decode(&tampered, &root, UUID).is_err(), "{what}");
            }
        }
    }

    /// Every character of the text looks the same in the HTML page for auditors, without escaping.
    #[test]
    fn the_text_has_only_characters_that_a_page_shows_as_they_are() {
        let text = String::from_utf8(odd(&root()).encode(&root()).unwrap()).unwrap();
        let is_plain = |c: char| c.is_ascii_graphic() && !"<&\"'".contains(c) || c == ' ' || c == '\n';
        assert!(text.chars().all(is_plain), "{text}");
        let arrows = text.matches('>').count();
        assert_eq!(arrows, text.lines().filter(|line| line.starts_with("-> ")).count(), "{text}");
    }

    #[test]
    fn a_report_of_another_keyring_or_root_key_is_refused() {
        let root = root();
        let bytes = report(&root, UUID).encode(&root).unwrap();
        let refused = |bytes: &[u8], root: &RootKey, uuid| {
            VerifyReport::decode(bytes, root, uuid).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(refused(&bytes, &self::root(), UUID), "the report is under another root key");
        let other = refused(&bytes, &root, Uuid([6; 16]));
        assert_eq!(other, format!("the report is of keyring {}, expected {}", "05".repeat(16), "06".repeat(16)));
        assert_eq!(refused(b"claviger/mark/v1\n", &root, UUID), "the report: not a report file");
        let changed = String::from_utf8(bytes).unwrap().replace("objects=1000", "objects=1001");
        let expected = "the report: failed authentication: it was changed, or not written by this keyring's root key";
        assert_eq!(refused(changed.as_bytes(), &root, UUID), expected);
    }

    /// A mark is authenticated under another label, so its HMAC is not valid for a report.
    #[test]
    fn a_report_under_the_label_of_another_format_is_refused() {
        let root = root();
        let text = report(&root, UUID).encode(&root).unwrap();
        let end = text.windows(5).position(|window| window == b"\n--- ").unwrap() + 4;
        for label in [MacLabel::Root, MacLabel::Keyring, MacLabel::State] {
            let tag = base64(&root.mac(UUID, label).unwrap().tag(&text[..end]));
            let forged = [&text[..end], format!(" {tag}\n").as_bytes()].concat();
            let refused = VerifyReport::decode(&forged, &root, UUID);
            assert!(matches!(refused, Err(ReadReportError::Text(TextError::NotAuthentic))), "{label:?}");
        }
    }

    /// Only a faulty program that has the root key could write such a report.
    #[test]
    fn lines_that_the_writer_does_not_write_are_refused_even_under_a_valid_hmac() {
        let root = root();
        let text = String::from_utf8(odd(&root).encode(&root).unwrap()).unwrap();
        for (line, other) in [
            ("outcome incomplete", "outcome clean"),
            ("generation 5", "generation 05"),
            ("restored 4\n", "restored 6\n"),
            ("restored 4\n", "restored 04\n"),
            ("restored 4\n", "restored 4\nrestored 4\n"),
            ("cluster=abc", "cluster=0"),
            ("cluster=abc", "cluster=ABC"),
            ("cluster=abc", "cluster=+abc"),
            ("-> etcd 7 https%3A%2F%2Fb", "-> etcd 7"),
            ("-> found plaintext 3\n", "-> found plaintext 3\n-> found plaintext 3\n"),
            ("-> found plaintext 3\n-> found stale 2\n", "-> found stale 2\n-> found plaintext 3\n"),
            ("-> found plaintext 3\n", "-> found plaintext 3\n-> found plaintext 4\n"),
            ("-> shortfall plaintext-first\n", "-> shortfall all-is-well\n"),
            ("-> shortfall plaintext-first\n", "-> shortfall plaintext-first\n-> shortfall plaintext-first\n"),
            ("-> override events", "-> override z a\n-> override events"),
            ("provider claviger", "provider clav%69ger"),
            (" seeds=1", ""),
            (" seeds=1", " seeds=1 seeds=1"),
            (" found=plaintext found=stale", " found=stale found=plaintext"),
            ("-> group namespaces", "-> group zzz"),
        ] {
            assert!(text.contains(line), "{line}");
            let message = text.replacen(line, other, 1);
            let message = message.split_once("--- ").unwrap().0.to_owned() + "---";
            let tag = base64(&root.mac(UUID, MacLabel::Report).unwrap().tag(message.as_bytes()));
            let read = VerifyReport::decode(format!("{message} {tag}\n").as_bytes(), &root, UUID);
            assert!(matches!(read, Err(ReadReportError::Text(TextError::Line { .. }))), "{other}");
        }
    }

    #[test]
    fn a_report_that_no_reader_would_take_is_not_written() {
        let root = root();
        let mut long = report(&root, UUID);
        long.groups = (0..60_000).map(|number| testing::group(&format!("invented-{number:06}"), 1)).collect();
        let refused = long.encode(&root).unwrap_err().to_string();
        assert!(
            refused.starts_with("the report would be ") && refused.ends_with(" bytes long, expected at most 4194304")
        );
        long.groups.truncate(8192);
        VerifyReport::decode(&long.encode(&root).unwrap(), &root, UUID).unwrap();
    }
}
