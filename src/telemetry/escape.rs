//! Escapes text before it reaches a terminal. Other users choose some of the text that is printed, for example keys in
//! etcd and names of files. Such text could move the cursor, forge lines, or reverse the direction of a line.

use std::{
    fmt::{self, Write},
    io,
};

/// Returns a text on one line, without control characters and without characters that nobody sees.
pub fn line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, one| {
        if is_harmless(one) {
            escaped.push(one);
        } else {
            escaped.extend(one.escape_debug());
        }
        escaped
    })
}

/// Escapes a text of several lines as [`line`] does, and keeps the line breaks. If a value in the text may contain a
/// line break, the caller has escaped the value before.
pub fn page(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Returns a JSON text in which harmful characters are escaped as JSON does. Outside of strings, JSON has none.
pub fn json(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, one| {
        if one == '\n' || is_harmless(one) {
            escaped.push(one);
        } else {
            for unit in one.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
        escaped
    })
}

fn is_harmless(one: char) -> bool {
    one.is_ascii_graphic() || one == ' ' || !one.is_ascii() && one.escape_debug().len() == 1
}

/// A value whose `Debug` form is escaped.
pub(super) struct Escaped<'a>(pub(super) &'a dyn fmt::Debug);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line(&format!("{:?}", self.0)))
    }
}

/// Escapes the lines of JSON that are written to it. Each call of `write` gets whole lines.
pub(super) struct JsonWriter<W>(pub(super) W);

impl<W: io::Write> io::Write for JsonWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match str::from_utf8(bytes) {
            Ok(text) if !bytes.is_ascii() || bytes.contains(&0x7f) => self.0.write_all(json(text).as_bytes())?,
            _ => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const HOSTILE: &str = "a\x1b[2J\r\n\u{202e}b\u{7f}\u{9b}\u{200b}\u{feff}\\'\"ü鍵\u{1f511}\u{e0001}";

    #[test]
    fn what_moves_the_cursor_or_is_not_seen_is_escaped() {
        let expected = "a\\u{1b}[2J\\r\\n\\u{202e}b\\u{7f}\\u{9b}\\u{200b}\\u{feff}\\'\"ü鍵\u{1f511}\\u{e0001}";
        assert_eq!(line(HOSTILE), expected);
        assert_eq!(page(HOSTILE), expected.replace("\\n", "\n"));
        assert_eq!(page("a  b\n\nc…"), "a  b\n\nc…");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ HOSTILE: [HOSTILE] });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let escaped = json(&text);
            assert!(escaped.chars().all(|one| one == '\n' || is_harmless(one)), "{escaped}");
            assert!(escaped.contains("\\u202e") && escaped.contains("\\udb40\\udc01"), "{escaped}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
            let mut written = JsonWriter(Vec::new());
            written.write_all(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(written.0).unwrap(), escaped);
        }
    }
}
