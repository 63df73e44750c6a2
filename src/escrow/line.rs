//! Decides whether a line of an identity file is an identity, a share or a comment.

/// The prefix of a share of an identity.
const SHARE: &str = "claviger-share1";

/// Returns `line` without the blanks around it, and without the byte order mark that some editors put before the first
/// line of a file.
pub(super) fn bare(line: &str) -> &str {
    line.trim_start_matches('\u{feff}').trim()
}

/// Whether `line` begins with the prefix of a share. Case and blanks do not matter.
pub(super) fn is_share(line: &str) -> bool {
    let found = line.bytes().filter(|byte| !byte.is_ascii_whitespace()).map(|byte| byte.to_ascii_lowercase());
    SHARE.bytes().eq(found.take(SHARE.len()))
}
