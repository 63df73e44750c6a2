//! Reads files that other programs wrote, and reports failures with their path.

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::failure::{Exit, Failure, reading, unreadable};
use crate::durable::read_input;

/// Reads a text file of at most `limit` bytes: UTF-8, or UTF-16 with a byte order mark, as YAML allows. The text is
/// wiped after use, because an EncryptionConfiguration may contain keys.
pub(super) fn read_text(path: &Path, limit: usize) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| {
        Failure::new(reading(&error), &format!("reading {}: {error}", path.display()), unreadable(path, &error))
    };
    read_decoded(path, limit).map_err(failed)
}

/// Reads a text file as [`read_text`] does, and returns the system's error.
pub(super) fn read_decoded(path: &Path, limit: usize) -> io::Result<Zeroizing<String>> {
    let no_text = || io::Error::new(io::ErrorKind::InvalidData, "it is neither UTF-8 nor UTF-16");
    decode(&read_input(path, limit)?).map(Zeroizing::new).ok_or_else(no_text)
}

/// Decodes UTF-8, or UTF-16 of either byte order if the text begins with a byte order mark.
fn decode(bytes: &[u8]) -> Option<String> {
    let (unit, rest): (fn([u8; 2]) -> u16, _) = match bytes {
        [0xff, 0xfe, rest @ ..] => (u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => (u16::from_be_bytes, rest),
        _ => return str::from_utf8(bytes).ok().map(ToOwned::to_owned),
    };
    let (pairs, []) = rest.as_chunks::<2>() else { return None };
    // A character takes at most three bytes for each pair of bytes, so the text never grows, which would leave a copy.
    let mut text = String::with_capacity(pairs.len() * 3);
    for one in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        text.push(one.ok()?);
    }
    Some(text)
}

/// Makes the failure for a file with wrong contents.
pub(super) fn wrong(path: &Path, error: &impl Display, hint: Option<&str>) -> Failure {
    Failure::new(Exit::Damaged, &format!("{}: {error}", path.display()), hint.map(ToOwned::to_owned))
}

/// Returns the path in the form that the root file needs: absolute, and in UTF-8.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let wrong =
        |reason: &dyn Display| Failure::new(Exit::Usage, &format!("--slot-file {}: {reason}", path.display()), None);
    let path = std::path::absolute(path).map_err(|error| wrong(&error))?;
    if path.to_str().is_some() { Ok(path) } else { Err(wrong(&"not UTF-8")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_16_is_decoded_in_both_byte_orders_and_nothing_is_guessed() {
        let units: Vec<u16> = "\u{feff}käse: 🗝\n".encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for bytes in [&little, &big, &"käse: 🗝\n".as_bytes().to_vec()] {
            assert_eq!(decode(bytes).as_deref(), Some("käse: 🗝\n"));
        }
        // An odd length, half of a surrogate pair, and UTF-16 without a mark.
        for wrong in [&little[..little.len() - 1], &[0xff, 0xfe, 0x3d, 0xd8], &[0xff, 0, 0x62, 0]] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }
}
