//! The grammar that record, root file, mark, ledger, plan and report share. Every line ends in LF. The first line names
//! the format and its version. The last line is `--- <base64 HMAC>`, and the HMAC covers everything up to and including
//! the three dashes.
//!
//! The reader refuses what the writer would not write. It knows no format: it returns lines, and its errors say what
//! was expected in which line. Invariant: an error never contains text that was read. Source: `docs/formats.md`.

use base64ct::{Base64, Encoding};

use crate::crypto::{
    RootId, RootName, Uuid,
    root_key::{MacKey, RootKey},
};

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The text is longer than any text of its kind.
    #[error("{found} bytes long, expected at most {limit}")]
    TooLong {
        /// The length of the text in bytes.
        found: usize,
        /// The greatest length in bytes.
        limit: usize,
    },
    /// The first line names another format, or the bytes are not text.
    #[error("not a {0} file")]
    Foreign(&'static str),
    /// A newer version of claviger wrote the text.
    #[error("format {found} is newer than this build understands (newest known is 1)")]
    TooNew {
        /// The format version in the first line.
        found: u64,
    },
    /// A line is not what the grammar expects.
    #[error("line {number}: expected {expected}")]
    Line {
        /// The number of the line, counted from 1.
        number: usize,
        /// The expected shape of the line.
        expected: &'static str,
    },
    /// The last line is not an HMAC: the end of the text is missing.
    #[error("incomplete: it does not end in `--- <base64 HMAC>`")]
    Incomplete,
    /// The HMAC does not match the text.
    #[error("failed authentication: it was changed, or not written by this keyring's root key")]
    NotAuthentic,
}

/// The file belongs to another keyring, or to another root key of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// The file belongs to another keyring.
    #[error("belongs to keyring {}, expected {}", found.to_hex(), expected.to_hex())]
    OtherKeyring {
        /// The uuid in the file.
        found: Uuid,
        /// The uuid of the keyring in this directory.
        expected: Uuid,
    },
    /// The file belongs to this keyring, and is under another root key.
    #[error("is under another root key")]
    OtherRootKey,
}

impl OriginError {
    /// Checks that a file belongs to the keyring `expected` and is under its root key `root`. The file says `name`.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(name: RootName, expected: Uuid, root: &RootKey) -> Result<(), Self> {
        if name.uuid != expected {
            return Err(Self::OtherKeyring { found: name.uuid, expected });
        }
        if name.root_id == root.id(expected) { Ok(()) } else { Err(Self::OtherRootKey) }
    }
}

/// The contents of a file are valid, but its encoder would have written other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not in its canonical form")]
pub struct NotCanonical;

/// Reads a text format line by line.
#[derive(Clone)]
pub struct LineReader<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> LineReader<'a> {
    /// Begins to read: checks the length, the characters and the first line, `claviger/<kind>/v1`.
    ///
    /// # Errors
    /// When the text is too long, of another kind, or of a newer version.
    pub fn open(text: &'a [u8], kind: &'static str, limit: usize) -> Result<Self, TextError> {
        if text.len() > limit {
            return Err(TextError::TooLong { found: text.len(), limit });
        }
        let foreign = TextError::Foreign(kind);
        let text = std::str::from_utf8(text).map_err(|_| foreign.clone())?;
        let (first, rest) = text.split_once('\n').ok_or_else(|| foreign.clone())?;
        let version = first
            .strip_prefix("claviger/")
            .and_then(|first| first.strip_prefix(kind))
            .and_then(|first| first.strip_prefix("/v"))
            .and_then(number::<u64>)
            .ok_or(foreign.clone())?;
        match version {
            0 => Err(foreign),
            1 => Ok(Self { rest, number: 1 }),
            found => Err(TextError::TooNew { found }),
        }
    }

    /// Returns the next line without its LF.
    ///
    /// # Errors
    /// When there is no other line. `expected` says what should have been there.
    pub fn line(&mut self, expected: &'static str) -> Result<&'a str, TextError> {
        self.number += 1;
        let (line, rest) = self.rest.split_once('\n').ok_or_else(|| self.wrong(expected))?;
        self.rest = rest;
        Ok(line)
    }

    /// Returns the rest of the next line after `prefix`. Returns `None`, and reads nothing, if the line begins with
    /// something else.
    pub fn line_after(&mut self, prefix: &str) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        let value = line.strip_prefix(prefix)?;
        self.number += 1;
        self.rest = rest;
        Some(value)
    }

    /// Returns the two lines that identify the keyring and the root key of the text.
    ///
    /// # Errors
    /// When the next lines are others.
    pub fn root_name(&mut self) -> Result<RootName, TextError> {
        let uuid = self.field("uuid", "`uuid <32 hex digits>`", uuid)?;
        Ok(RootName { uuid, root_id: self.field("root-id", "`root-id <base64>`", root_id)? })
    }

    /// Returns the value of the line `<name> <value>`, read by `parse`.
    ///
    /// # Errors
    /// When the line has another name, or `parse` refuses its value.
    pub fn field<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, TextError> {
        let line = self.line(expected)?;
        line.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(' '))
            .and_then(parse)
            .ok_or_else(|| self.wrong(expected))
    }

    /// Returns the error that the line that was read last is not `expected`.
    pub fn wrong(&self, expected: &'static str) -> TextError {
        TextError::Line { number: self.number, expected }
    }

    /// Reads the last line, `--- <base64 HMAC>`. Nothing may follow it.
    ///
    /// # Errors
    /// When the next line is not the last one, or something follows it.
    pub fn end(&mut self) -> Result<(), TextError> {
        const EXPECTED: &str = "`--- <base64 HMAC>` and the end";
        self.field("---", EXPECTED, base64_array::<32>)?;
        if self.rest.is_empty() {
            Ok(())
        } else {
            self.number += 1;
            Err(self.wrong(EXPECTED))
        }
    }
}

/// Checks the HMAC of a whole text. Call this before anything else in the text is used.
///
/// # Errors
/// When the last line is not an HMAC or does not match.
pub fn authenticate(text: &[u8], key: &MacKey) -> Result<(), TextError> {
    let (message, tag) = split_tag(text).ok_or(TextError::Incomplete)?;
    if key.verify(message, &tag) { Ok(()) } else { Err(TextError::NotAuthentic) }
}

/// Cuts a text into the message, up to and including the three dashes, and the HMAC.
fn split_tag(text: &[u8]) -> Option<(&[u8], [u8; 32])> {
    let lines = text.strip_suffix(b"\n")?;
    let start = lines.iter().rposition(|byte| *byte == b'\n')? + 1;
    let tag = std::str::from_utf8(&lines[start..]).ok()?.strip_prefix("--- ").and_then(base64_array)?;
    Some((&text[..start + 3], tag))
}

/// Writes a text format line by line.
pub struct LineWriter(String);

impl LineWriter {
    /// Begins a text with the line `claviger/<kind>/v1`.
    pub fn new(kind: &str) -> Self {
        Self(format!("claviger/{kind}/v1\n"))
    }

    /// Adds a line. `line` must not contain an LF.
    pub fn line(&mut self, line: &str) {
        debug_assert!(!line.contains('\n'));
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Adds the line that identifies the keyring.
    pub fn owner(&mut self, uuid: Uuid) {
        self.line(&format!("uuid {}", uuid.to_hex()));
    }

    /// Adds the line that identifies the root key.
    pub fn root_id(&mut self, root_id: RootId) {
        self.line(&format!("root-id {}", base64(&root_id.0)));
    }

    /// Adds the HMAC of all lines, and returns the whole text.
    pub fn finish(mut self, key: &MacKey) -> Vec<u8> {
        self.0.push_str("---");
        let tag = base64(&key.tag(self.0.as_bytes()));
        self.line(&format!(" {tag}"));
        self.0.into_bytes()
    }
}

/// Encodes `bytes` as canonical, padded base64.
pub fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Reads canonical, padded base64.
pub fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).ok()
}

/// Reads canonical, padded base64 of exactly `N` bytes.
pub fn base64_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    base64_bytes(text)?.try_into().ok()
}

/// Reads lower-case hexadecimal digits of exactly `N` bytes.
pub fn hex_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    let read = base16ct::lower::decode(text, &mut out).ok()?.len();
    (read == N).then_some(out)
}

/// Reads the value of a `uuid` line.
pub fn uuid(text: &str) -> Option<Uuid> {
    hex_array(text).map(Uuid)
}

/// Reads the value of a `root-id` line.
pub fn root_id(text: &str) -> Option<RootId> {
    base64_array(text).map(RootId)
}

/// Reads a number as the writer writes it, without a sign and without leading zeros.
pub fn number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse::<T>().ok().filter(|number| number.to_string() == text)
}

/// The greatest sequence number of a key.
pub const SEQ_MAX: u32 = 1 << 31;

/// Reads a sequence number: 1 to 2^31.
pub fn seq(text: &str) -> Option<u32> {
    number(text).filter(|seq| (1..=SEQ_MAX).contains(seq))
}

/// Reads a key_id, `k<seq>-<32 hex digits>`. Returns the sequence number, and the first half of the key's commitment.
pub fn key_id(text: &str) -> Option<(u32, [u8; 16])> {
    let (number, digits) = text.strip_prefix('k')?.split_once('-')?;
    Some((seq(number)?, hex_array(digits)?))
}

/// Writes a value as one word: every byte that is not one of `[A-Za-z0-9._~-]` becomes `%XX`.
pub fn escape(value: &str) -> String {
    let mut word = String::with_capacity(value.len());
    for byte in value.bytes() {
        if is_plain(byte) {
            word.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = std::fmt::Write::write_fmt(&mut word, format_args!("%{byte:02X}"));
        }
    }
    word
}

/// Reads what [`escape`] writes.
pub fn unescape(word: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if is_plain(*byte) {
            bytes.push(*byte);
            rest = after;
        } else {
            let (digits, after) = rest.strip_prefix(b"%")?.split_first_chunk::<2>()?;
            let mut decoded = [0];
            base16ct::upper::decode(digits, &mut decoded).ok()?;
            bytes.extend_from_slice(&decoded);
            rest = after;
        }
    }
    let value = String::from_utf8(bytes).ok()?;
    (escape(&value) == word).then_some(value)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._~-".contains(&byte)
}

#[cfg(test)]
pub mod tampering {
    //! Every way to change one bit or one line of a text, or to cut its end off. The tests of all formats use it.

    /// Returns each tampered copy of `text`, with a description of the change.
    pub fn of(text: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        let changed = move |(_, copy): &(String, Vec<u8>)| copy != text;
        flips(text).chain(truncations(text)).chain(line_edits(text)).filter(changed)
    }

    fn flips(text: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        (0..text.len() * 8).map(|bit| {
            let mut copy = text.to_vec();
            copy[bit / 8] ^= 1 << (bit % 8);
            (format!("bit {} of byte {} flipped", bit % 8, bit / 8), copy)
        })
    }

    fn truncations(text: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        (0..text.len()).map(|length| (format!("cut to {length} bytes"), text[..length].to_vec()))
    }

    fn line_edits(text: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        (0..lines.len()).flat_map(move |index| {
            let dropped = [&lines[..index], &lines[index + 1..]].concat().concat();
            let doubled = [&lines[..=index], &lines[index..]].concat().concat();
            let mut swapped = lines.clone();
            swapped.swap(index, (index + 1) % lines.len());
            let swapped = swapped.concat();
            [
                (format!("line {} dropped", index + 1), dropped),
                (format!("line {} doubled", index + 1), doubled),
                (format!("line {} swapped with the next", index + 1), swapped),
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_written_only() {
        assert_eq!(number::<u64>("0"), Some(0));
        assert_eq!(number::<u64>("18446744073709551615"), Some(u64::MAX));
        for text in ["", "00", "01", "+1", "-1", " 1", "1 ", "18446744073709551616", "1_0", "１"] {
            assert_eq!(number::<u64>(text), None, "{text:?}");
        }
    }

    #[test]
    fn base64_is_canonical_and_padded() {
        assert_eq!(base64_array::<1>("AA=="), Some([0]));
        for text in ["AA", "AA=", "AB==", "AA==\n", "AA== ", "A-==", "AAA="] {
            assert_eq!(base64_array::<1>(text), None, "{text:?}");
        }
    }

    #[test]
    fn hex_is_lower_case_and_whole() {
        assert_eq!(hex_array::<1>("0a"), Some([10]));
        for text in ["0A", "0", "a", "0a0", "0a0a", "", "0g", " 0a"] {
            assert_eq!(hex_array::<1>(text), None, "{text:?}");
        }
    }

    #[test]
    fn values_are_escaped_one_way_only() {
        for value in ["", "plain-1.2_3~", "/etc/claviger/slot.key", "a b=c%d\n", "Schlüssel"] {
            let escaped = escape(value);
            assert!(escaped.bytes().all(|byte| is_plain(byte) || byte == b'%'), "{escaped}");
            assert_eq!(unescape(&escaped).as_deref(), Some(value));
        }
        for escaped in ["%2f", "%41", "%", "%2", "%GG", "a/b", "%FF", " "] {
            assert_eq!(unescape(escaped), None, "{escaped:?}");
        }
    }

    #[test]
    fn a_newer_version_has_its_own_error() {
        let open = |text: &[u8]| LineReader::open(text, "mark", 100).map(|_| ());
        assert_eq!(open(b"claviger/mark/v1\n"), Ok(()));
        assert_eq!(open(b"claviger/mark/v2\n"), Err(TextError::TooNew { found: 2 }));
        let refused = open(&[b'x'; 101]).unwrap_err();
        assert_eq!(refused, TextError::TooLong { found: 101, limit: 100 });
        assert_eq!(refused.to_string(), "101 bytes long, expected at most 100");
        for text in ["", "\n", "claviger/mark/v1", "claviger/mark/v01\n", "claviger/mark/v0\n", "claviger/root/v1\n"] {
            assert_eq!(open(text.as_bytes()), Err(TextError::Foreign("mark")), "{text:?}");
        }
        assert_eq!(open(b"\xff\xfe"), Err(TextError::Foreign("mark")));
    }
}
