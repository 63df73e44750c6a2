//! The keyring record: the bytes of a [`Keyring`], the same in a file and in etcd.
//!
//! A record is text under one HMAC; `docs/formats.md` shows it. Reading checks the HMAC first, then the grammar, then
//! unwraps every KEK and computes its commitment anew. A record that this encoder would not have written is refused.
//! Invariant: `encode(decode(bytes)) == bytes`.

use std::sync::Arc;

use crate::{
    crypto::{
        Commitment, Digest, RootId, RootName, Uuid,
        aead::{OpenKeyError, WrapKey, WrappedKey},
        kdf::{MacLabel, kek_aad},
        root_key::RootKey,
        wrap::Kek,
    },
    memory::SecretError,
    text::{self, LineReader, LineWriter, NotCanonical, OriginError, TextError, base64, base64_array, base64_bytes},
};

use super::{
    home::Home,
    key::{Entry, Key, Tomb},
    key_id::KeyId,
    node::Node,
    numbers::read_generation,
    past::{PAST_MAX, Past, PastRecord},
    recovery::Recovery,
    ring::Keyring,
    state::State,
    time::Time,
};

/// The greatest length of a record in bytes. etcd accepts 1.5 MiB in a transaction.
pub const RECORD_MAX: usize = 512 * 1024;
const KIND: &str = "keyring";

/// Why a record was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The grammar or the HMAC is wrong.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The record belongs to another keyring, or is under another root key.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// A KEK does not unwrap, although the HMAC is right: the record was made from wrong bytes.
    #[error("key {0} does not unwrap")]
    Kek(KeyId),
    /// A KEK unwraps, and its commitment is not the one in the record.
    #[error("key {0} does not match its commitment")]
    Commitment(KeyId),
    /// The record has no primary key, or more than one.
    #[error("has {0} primary keys, expected exactly one")]
    Primaries(usize),
    /// Recipients, or keys and tombs, are not sorted, or one occurs twice.
    #[error("entries are not sorted, or one occurs twice")]
    Order,
    /// The record's encoder would have written other bytes.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// No memory could be locked for a KEK.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// Returns the bytes of `keyring` under the root key `root`.
///
/// # Errors
/// When no memory can be locked.
pub fn encode(keyring: &Keyring, root: &RootKey) -> Result<Vec<u8>, SecretError> {
    let mut writer = LineWriter::new(KIND);
    writer.owner(keyring.uuid);
    writer.line(&format!("generation {}", keyring.generation));
    writer.line(&format!("home {}", keyring.home));
    writer.root_id(keyring.root_id);
    for PastRecord { generation, record } in keyring.past.iter() {
        writer.line(&format!("-> past {generation} {}", base64(&record.0)));
    }
    if let Some(generation) = keyring.restored {
        writer.line(&format!("-> restored {generation}"));
    }
    if let Some(generation) = keyring.merged {
        writer.line(&format!("-> merged {generation}"));
    }
    for node in &keyring.nodes {
        writer.line(&format!("-> node {}", node.line()));
    }
    for recovery in &keyring.recoveries {
        writer.line(&format!("-> recovery {}", recovery.recipient()));
        writer.line(&base64(recovery.blob()));
    }
    for entry in &keyring.entries {
        encode_entry(&mut writer, entry);
    }
    Ok(writer.finish(&root.mac(keyring.uuid, MacLabel::Keyring)?))
}

/// Writes the lines of a key or tomb.
fn encode_entry(writer: &mut LineWriter, entry: &Entry) {
    match entry {
        Entry::Key(key) => {
            let time = |name: &str, time: Option<Time>| time.map_or_else(String::new, |time| format!(" {name}={time}"));
            let commitment = base64(&key.kek.commitment().0);
            let compromised = if key.compromised { " compromised" } else { "" };
            writer.line(&format!(
                "-> key {} {} {commitment}{compromised} created={}{}{}",
                key.seq,
                key.state,
                key.created,
                time("promoted", key.promoted),
                time("demoted", key.demoted),
            ));
            writer.line(&base64(&key.wrapped.0));
        }
        Entry::Tomb(tomb) => {
            writer.line(&format!("-> tomb {} {} destroyed={}", tomb.seq, base64(&tomb.commitment.0), tomb.destroyed));
        }
    }
}

/// Reads which root key a record names. Nothing is authenticated yet.
///
/// # Errors
/// When the first lines are not those of a record.
pub fn root_id(bytes: &[u8]) -> Result<RootId, TextError> {
    Ok(Head::read(&mut LineReader::open(bytes, KIND, RECORD_MAX)?)?.root_id)
}

/// The recovery blobs of a record. Nothing is authenticated yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRecoveries {
    /// The keyring that the record names.
    pub uuid: Uuid,
    /// The root key that the record names, which the blobs contain.
    pub root_id: RootId,
    /// The recovery blobs, sorted by recipient.
    pub blobs: Vec<Recovery>,
}

/// Reads which keyring and which root key a record names, and its recovery blobs. Nothing is authenticated yet.
///
/// # Errors
/// When the first lines are not those of a record.
pub fn recoveries(bytes: &[u8]) -> Result<RecordRecoveries, TextError> {
    let mut lines = LineReader::open(bytes, KIND, RECORD_MAX)?;
    let head = Head::read(&mut lines)?;
    Kin::read(&mut lines, &head)?;
    Ok(RecordRecoveries { uuid: head.uuid, root_id: head.root_id, blobs: read_recoveries(&mut lines)? })
}

/// A key as a record lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedKey {
    /// The public name of the key.
    pub key_id: KeyId,
    /// The state of the key. `None` if it was destroyed.
    pub state: Option<State>,
    /// The time when the key became primary.
    pub promoted: Option<Time>,
}

/// Reads which keys a record lists. This needs no key, so nothing is authenticated.
///
/// # Errors
/// When the bytes do not have the grammar of a record.
pub fn outline(bytes: &[u8]) -> Result<Vec<ListedKey>, TextError> {
    const ENTRY: &str = "a key or a tomb";
    let mut lines = LineReader::open(bytes, KIND, RECORD_MAX)?;
    let head = Head::read(&mut lines)?;
    Kin::read(&mut lines, &head)?;
    read_recoveries(&mut lines)?;
    let mut keys = Vec::new();
    loop {
        if let Some(line) = lines.line_after("-> key ") {
            let key = KeyLine::parse(line).ok_or_else(|| lines.wrong(ENTRY))?;
            lines.line("the base64 of a wrapped key")?;
            let key_id = KeyId::new(key.seq, &key.commitment);
            keys.push(ListedKey { key_id, state: Some(key.state), promoted: key.promoted });
        } else if let Some(line) = lines.line_after("-> tomb ") {
            let tomb = read_tomb(line, head.generation).ok_or_else(|| lines.wrong(ENTRY))?;
            let key_id = KeyId::new(tomb.seq, &tomb.commitment);
            keys.push(ListedKey { key_id, state: None, promoted: None });
        } else {
            lines.end()?;
            return Ok(keys);
        }
    }
}

/// Reads a record of the keyring `expected` under `root`.
///
/// # Errors
/// When the record belongs to another keyring or root key, was changed or damaged, or was not written by this encoder.
pub fn decode(bytes: &[u8], root: &RootKey, expected: Uuid) -> Result<Keyring, RecordError> {
    let mut lines = LineReader::open(bytes, KIND, RECORD_MAX)?;
    let head = Head::read(&mut lines)?;
    head.check(root, expected)?;
    text::authenticate(bytes, &root.mac(expected, MacLabel::Keyring)?)?;
    let Kin { past, restored, merged, nodes } = Kin::read(&mut lines, &head)?;
    let recoveries = read_recoveries(&mut lines)?;
    let entries = Entries { head: &head, kek_wrap: root.kek_wrap(expected)? }.read(&mut lines)?;
    lines.end()?;
    let Head { uuid, generation, home, root_id } = head;
    let keyring = Keyring { uuid, generation, home, root_id, past, restored, merged, nodes, recoveries, entries };
    check_order(&keyring)?;
    let primaries = keyring.keys().filter(|key| key.state == State::Primary).count();
    if primaries != 1 {
        return Err(RecordError::Primaries(primaries));
    }
    if encode(&keyring, root)? != bytes {
        return Err(NotCanonical.into());
    }
    Ok(keyring)
}

/// The first lines of a record.
struct Head {
    uuid: Uuid,
    generation: u64,
    home: Home,
    root_id: RootId,
}

impl Head {
    fn read(lines: &mut LineReader<'_>) -> Result<Self, TextError> {
        Ok(Self {
            uuid: lines.field("uuid", "`uuid <32 hex digits>`", text::uuid)?,
            generation: lines.field("generation", "`generation <number>`, 1 to 2^40", read_generation)?,
            home: lines.field("home", "`home file` or `home etcd <prefix>`", Home::parse)?,
            root_id: lines.field("root-id", "`root-id <base64>`", text::root_id)?,
        })
    }

    /// Reads a generation that is not later than that of the record.
    fn earlier(&self, text: &str) -> Option<u64> {
        read_generation(text).filter(|generation| *generation <= self.generation)
    }

    fn check(&self, root: &RootKey, expected: Uuid) -> Result<(), RecordError> {
        Ok(OriginError::check(RootName { uuid: self.uuid, root_id: self.root_id }, expected, root)?)
    }
}

/// The lines between the head and the recovery blobs: past, restore, merge and nodes.
struct Kin {
    past: Past,
    restored: Option<u64>,
    merged: Option<u64>,
    nodes: Vec<Node>,
}

impl Kin {
    fn read(lines: &mut LineReader<'_>, head: &Head) -> Result<Self, TextError> {
        const PAST: &str = "`-> past <generation> <base64 SHA-256>`, the newest first, from the generation before on";
        const RESTORED: &str = "`-> restored <generation>`, at most the record's own";
        const MERGED: &str = "`-> merged <generation>`, in a keyring whose home is etcd";
        const NODE: &str = "`-> node <name> … enrolled=<time> …`, sorted by name";
        let mut pasts = Vec::new();
        while let Some(line) = lines.line_after("-> past ") {
            pasts.push(read_past(line).filter(|_| pasts.len() < PAST_MAX).ok_or_else(|| lines.wrong(PAST))?);
        }
        let past = Past::of_record(head.generation, pasts).ok_or_else(|| lines.wrong(PAST))?;
        let is_shared = head.home != Home::File;
        let restored =
            lines.line_after("-> restored ").map(|line| head.earlier(line).ok_or_else(|| lines.wrong(RESTORED)));
        let restored = restored.transpose()?;
        let merged = lines
            .line_after("-> merged ")
            .map(|line| head.earlier(line).filter(|_| is_shared).ok_or_else(|| lines.wrong(MERGED)));
        let merged = merged.transpose()?;
        let mut nodes: Vec<Node> = Vec::new();
        while let Some(line) = lines.line_after("-> node ") {
            let follows = |node: &Node| nodes.last().is_none_or(|last| last.name < node.name);
            nodes.push(Node::parse(line).filter(follows).ok_or_else(|| lines.wrong(NODE))?);
        }
        Ok(Self { past, restored, merged, nodes })
    }
}

fn read_past(line: &str) -> Option<PastRecord> {
    let (generation, record) = line.split_once(' ')?;
    Some(PastRecord { generation: read_generation(generation)?, record: Digest(base64_array(record)?) })
}

fn read_recoveries(lines: &mut LineReader<'_>) -> Result<Vec<Recovery>, TextError> {
    let mut recoveries = Vec::new();
    while let Some(recipient) = lines.line_after("-> recovery ") {
        const BLOB: &str = "an age recipient and the base64 of its age file";
        let blob = base64_bytes(lines.line(BLOB)?).ok_or_else(|| lines.wrong(BLOB))?;
        recoveries.push(Recovery::new(recipient, blob).ok_or_else(|| lines.wrong(BLOB))?);
    }
    Ok(recoveries)
}

/// Reads the lines of keys and tombs.
struct Entries<'a> {
    head: &'a Head,
    kek_wrap: WrapKey,
}

impl Entries<'_> {
    fn read(&self, lines: &mut LineReader<'_>) -> Result<Vec<Entry>, RecordError> {
        let mut entries = Vec::new();
        loop {
            if let Some(line) = lines.line_after("-> key ") {
                entries.push(Entry::Key(self.read_key(line, lines)?));
            } else if let Some(line) = lines.line_after("-> tomb ") {
                entries.push(Entry::Tomb(
                    read_tomb(line, self.head.generation)
                        .ok_or_else(|| lines.wrong("`-> tomb <seq> <C> destroyed=<generation>`"))?,
                ));
            } else {
                return Ok(entries);
            }
        }
    }

    fn read_key(&self, line: &str, lines: &mut LineReader<'_>) -> Result<Key, RecordError> {
        const WRAPPED: &str = "the base64 of a wrapped key";
        let head = KeyLine::parse(line).ok_or_else(|| lines.wrong("`-> key <seq> <state> <C> created=<time> …`"))?;
        let wrapped = base64_array(lines.line(WRAPPED)?).map(WrappedKey).ok_or_else(|| lines.wrong(WRAPPED))?;
        let id = KeyId::new(head.seq, &head.commitment);
        let aad = kek_aad(self.head.uuid, head.seq, &head.commitment, self.head.root_id);
        let secret = wrapped.open(&self.kek_wrap, &aad).map_err(|error| match error {
            OpenKeyError::NotAuthentic(_) => RecordError::Kek(id),
            OpenKeyError::Memory(error) => RecordError::Memory(error),
        })?;
        let kek = Kek::from_secret(secret, self.head.uuid)?;
        if kek.commitment() != head.commitment {
            return Err(RecordError::Commitment(id));
        }
        let KeyLine { seq, state, compromised, created, promoted, demoted, .. } = head;
        Ok(Key { seq, state, compromised, created, promoted, demoted, kek: Arc::new(kek), wrapped })
    }
}

/// The line of a key, `<seq> <state> <base64 C> [compromised] created=<time> [promoted=<time>] [demoted=<time>]`.
struct KeyLine {
    seq: u32,
    state: State,
    commitment: Commitment,
    compromised: bool,
    created: Time,
    promoted: Option<Time>,
    demoted: Option<Time>,
}

impl KeyLine {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').peekable();
        let seq = text::seq(words.next()?)?;
        let state = State::parse(words.next()?)?;
        let commitment = base64_array(words.next()?).map(Commitment)?;
        let compromised = words.next_if_eq(&"compromised").is_some();
        let mut time = |name: &str| -> Option<Option<Time>> {
            match words.next_if(|word| word.starts_with(name)) {
                Some(word) => Time::parse(&word[name.len()..]).map(Some),
                None => Some(None),
            }
        };
        let (created, promoted, demoted) = (time("created=")??, time("promoted=")?, time("demoted=")?);
        words.next().is_none().then_some(Self { seq, state, commitment, compromised, created, promoted, demoted })
    }
}

/// Reads a tomb. Its key was destroyed in `generation` or earlier.
fn read_tomb(line: &str, generation: u64) -> Option<Tomb> {
    let mut words = line.split(' ');
    let seq = text::seq(words.next()?)?;
    let commitment = base64_array(words.next()?).map(Commitment)?;
    let destroyed = words.next()?.strip_prefix("destroyed=").and_then(read_generation)?;
    let is_past = destroyed <= generation;
    (is_past && words.next().is_none()).then_some(Tomb { seq, commitment, destroyed })
}

fn check_order(keyring: &Keyring) -> Result<(), RecordError> {
    let recipients = keyring.recoveries.is_sorted_by(|a, b| a.recipient() < b.recipient());
    let entries = keyring.entries.is_sorted_by(|a, b| a.order() < b.order());
    if recipients && entries { Ok(()) } else { Err(RecordError::Order) }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{keyring::testing, text::tampering};

    const UUID: Uuid = Uuid([5; 16]);

    struct Fixture {
        root: RootKey,
        keyring: Keyring,
    }

    /// Returns one key in every state, one of them compromised, two tombs, two recipients, two nodes, a forked past, a
    /// restore.
    fn fixture() -> Fixture {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let recoveries = ['q', 'p'].map(testing::recovery).into();
        let mut keyring = Keyring::create(&mut SysRng, &root, UUID, recoveries, testing::now()).unwrap();
        for state in [State::DecryptOnly, State::Disabled, State::Pending] {
            keyring = testing::with_key(keyring, &root, state);
        }
        for seq in [5, 7] {
            keyring = testing::with_tomb(keyring, seq);
        }
        keyring.generation = 12;
        let past = [(11, 1), (11, 2), (10, 1)];
        let past = past.map(|(generation, byte)| PastRecord { generation, record: Digest([byte; 32]) });
        keyring.past = Past::united(past.into_iter());
        keyring.restored = Some(11);
        let nodes = ["cp-1 enrolled=2026-11-23T20:14:48Z", "cp-2 coordinator enrolled=2026-11-23T20:14:48Z"];
        keyring.nodes = nodes.map(|line| Node::parse(line).unwrap()).into();
        keyring.keys_mut().nth(1).unwrap().compromised = true;
        Fixture { root, keyring }
    }

    impl Fixture {
        fn encode(&self) -> Vec<u8> {
            encode(&self.keyring, &self.root).unwrap()
        }

        fn decode(&self, bytes: &[u8]) -> Result<Keyring, RecordError> {
            decode(bytes, &self.root, UUID)
        }

        /// Returns `lines` under a valid HMAC. Only a faulty program that has the root key could write this.
        fn sign(&self, lines: &str) -> Vec<u8> {
            let message = format!("{lines}---");
            let tag = self.root.mac(UUID, MacLabel::Keyring).unwrap().tag(message.as_bytes());
            format!("{message} {}\n", base64(&tag)).into_bytes()
        }

        /// Returns the record without its last line.
        fn unsigned(&self) -> String {
            let text = String::from_utf8(self.encode()).unwrap();
            text[..text.rfind("---").unwrap()].to_owned()
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let fixture = fixture();
        let bytes = fixture.encode();
        let read = fixture.decode(&bytes).unwrap();
        assert_eq!(encode(&read, &fixture.root).unwrap(), bytes);
        assert_eq!((read.generation(), read.restored()), (12, Some(11)));
        assert_eq!(read.primary().id(), fixture.keyring.primary().id());
        assert_eq!(read.recoveries(), fixture.keyring.recoveries());
        let keks = |keyring: &Keyring| keyring.keys().map(|key| *key.kek().secret().expose()).collect::<Vec<_>>();
        assert_eq!(keks(&read), keks(&fixture.keyring));
    }

    #[test]
    fn without_a_key_a_record_says_which_keys_and_blobs_it_has() {
        let fixture = fixture();
        let bytes = fixture.encode();
        let listed = |entry: &Entry| match entry {
            Entry::Key(key) => ListedKey { key_id: entry.id(), state: Some(key.state), promoted: key.promoted },
            Entry::Tomb(_) => ListedKey { key_id: entry.id(), state: None, promoted: None },
        };
        let expected: Vec<_> = fixture.keyring.entries.iter().map(listed).collect();
        assert_eq!(outline(&bytes).unwrap(), expected);
        let root_id = fixture.root.id(UUID);
        let expected = RecordRecoveries { uuid: UUID, root_id, blobs: fixture.keyring.recoveries };
        assert_eq!(recoveries(&bytes).unwrap(), expected);
        assert_eq!(super::root_id(&bytes).unwrap(), root_id);
    }

    #[test]
    fn every_tampered_byte_and_line_is_refused() {
        let fixture = fixture();
        let bytes = fixture.encode();
        for (what, tampered) in tampering::of(&bytes) {
            assert!(fixture.decode(&tampered).is_err(), "{what}");
        }
    }

    #[test]
    fn no_line_can_be_dropped_or_doubled_even_under_a_valid_hmac() {
        let fixture = fixture();
        let text = fixture.unsigned();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for index in 0..lines.len() {
            let doubled = [&lines[..=index], &lines[index..]].concat().concat();
            assert!(fixture.decode(&fixture.sign(&doubled)).is_err(), "doubled: {}", lines[index]);
            let dropped = [&lines[..index], &lines[index + 1..]].concat().concat();
            // A record without one of these lines is valid, too. The mark shows that it is not the record that was
            // marked.
            let is_alone =
                ["-> tomb ", "-> past ", "-> restored ", "-> node "].iter().any(|head| lines[index].starts_with(head));
            let opens = fixture.decode(&fixture.sign(&dropped)).is_ok();
            assert_eq!(opens, is_alone, "dropped: {}", lines[index]);
        }
    }

    #[test]
    fn another_keyring_and_another_root_key_have_errors_of_their_own() {
        let fixture = fixture();
        let bytes = fixture.encode();
        let stranger = RootKey::generate(&mut SysRng).unwrap();
        assert!(matches!(decode(&bytes, &stranger, UUID), Err(RecordError::Origin(OriginError::OtherRootKey))));
        assert!(matches!(
            decode(&bytes, &fixture.root, Uuid([6; 16])),
            Err(RecordError::Origin(OriginError::OtherKeyring { .. }))
        ));
    }

    #[test]
    fn a_newer_format_is_named() {
        let fixture = fixture();
        let newer = String::from_utf8(fixture.encode()).unwrap().replacen("/v1", "/v2", 1);
        let error = fixture.decode(newer.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "format 2 is newer than this build understands (newest known is 1)");
    }

    #[test]
    fn no_number_beyond_the_bounds_is_read() {
        let fixture = fixture();
        for (from, to) in [
            ("generation 12\n", "generation 0\n"),
            ("generation 12\n", "generation 13\n"),
            ("generation 12\n", "generation 1099511627777\n"),
            ("-> past 11 ", "-> past 12 "),
            ("-> past 10 ", "-> past 0 "),
            ("-> tomb 7 ", "-> tomb 2147483649 "),
            ("destroyed=1\n", "destroyed=13\n"),
            ("home file\n", "home disk\n"),
            ("home file\n", "home etcd claviger\n"),
            ("-> node cp-1 ", "-> node cp-3 "),
            ("-> node cp-1 ", "-> merged 12\n-> node cp-1 "),
            ("-> restored 11\n", "-> restored 13\n"),
            ("-> restored 11\n", "-> restored 0\n"),
            ("-> restored 11\n", "-> restored 011\n"),
        ] {
            let text = fixture.unsigned();
            assert!(text.contains(from), "{from}");
            let error = fixture.decode(&fixture.sign(&text.replacen(from, to, 1))).unwrap_err();
            assert!(matches!(error, RecordError::Text(TextError::Line { .. })), "{to}: {error}");
        }
    }

    #[test]
    fn what_only_a_shared_keyring_has_is_kept() {
        let mut fixture = fixture();
        fixture.keyring.home = Home::Etcd("/claviger".to_owned());
        fixture.keyring.merged = Some(12);
        let read = fixture.decode(&fixture.encode()).unwrap();
        assert_eq!((&read.home, read.merged), (&fixture.keyring.home, Some(12)));
        assert_eq!(read.nodes, fixture.keyring.nodes);
    }

    #[test]
    fn exactly_one_key_is_primary() {
        let fixture = fixture();
        for (from, to, expected) in [(" pending ", " primary ", 2), (" primary ", " pending ", 0)] {
            let text = fixture.unsigned().replacen(from, to, 1);
            let error = fixture.decode(&fixture.sign(&text)).unwrap_err();
            assert_eq!(error.to_string(), format!("has {expected} primary keys, expected exactly one"));
        }
    }

    #[test]
    fn a_key_cannot_be_moved_to_another_seq() {
        let fixture = fixture();
        let text = fixture.unsigned().replacen("-> key 4 ", "-> key 6 ", 1);
        assert!(matches!(fixture.decode(&fixture.sign(&text)), Err(RecordError::Kek(_))));
    }

    #[test]
    fn a_key_under_the_commitment_of_another_is_refused() {
        let fixture = fixture();
        let keys: Vec<&Key> = fixture.keyring.keys().collect();
        let (first, last) = (keys[0], keys[3]);
        let aad = kek_aad(UUID, last.seq, &last.kek.commitment(), fixture.keyring.root_id);
        let kek_wrap = fixture.root.kek_wrap(UUID).unwrap();
        let wrapped = WrappedKey::wrap(&mut SysRng, &kek_wrap, &aad, first.kek.secret()).unwrap();
        let text = fixture.unsigned().replacen(&base64(&last.wrapped.0), &base64(&wrapped.0), 1);
        let refused = fixture.decode(&fixture.sign(&text)).unwrap_err();
        assert_eq!(refused.to_string(), format!("key {} does not match its commitment", last.id()));
    }

    #[test]
    fn entries_out_of_order_are_refused() {
        let mut fixture = fixture();
        let text = fixture.unsigned().replacen("-> tomb 5 ", "-> tomb 8 ", 1);
        let mut records = vec![fixture.sign(&text)];
        for recipients in [['q', 'p'], ['p', 'p']] {
            fixture.keyring.recoveries = recipients.map(testing::recovery).into();
            records.push(fixture.encode());
        }
        for record in records {
            let refused = fixture.decode(&record).unwrap_err();
            assert_eq!(refused.to_string(), "entries are not sorted, or one occurs twice");
        }
    }
}
