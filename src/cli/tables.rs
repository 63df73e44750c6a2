//! The table of keys, the words for a number of things and for a time, and how a table fits a terminal.

#[cfg(feature = "scan")]
use std::time::Duration;
use std::{collections::BTreeMap, io};

use serde::Serialize;

use super::output;
use crate::keyring::{Entry, Keyring};

/// The row of one key or tomb, in JSON and in text.
#[derive(Serialize)]
pub(super) struct KeyRow {
    key_id: String,
    pub(super) state: &'static str,
    /// Whether others may know the key.
    compromised: bool,
    created: Option<String>,
    promoted: Option<String>,
    demoted: Option<String>,
    destroyed_generation: Option<u64>,
}

/// Returns one row for each key and each tomb, in the record's order.
pub(super) fn key_rows(keyring: &Keyring) -> Vec<KeyRow> {
    keyring.entries().iter().map(key_row).collect()
}

pub(super) fn key_row(entry: &Entry) -> KeyRow {
    let key_id = entry.id().to_string();
    match entry {
        Entry::Key(key) => KeyRow {
            key_id,
            state: key.state().as_str(),
            compromised: key.is_compromised(),
            created: Some(key.created().to_string()),
            promoted: key.promoted().map(|time| time.to_string()),
            demoted: key.demoted().map(|time| time.to_string()),
            destroyed_generation: None,
        },
        Entry::Tomb(tomb) => KeyRow {
            key_id,
            state: "destroyed",
            compromised: false,
            created: None,
            promoted: None,
            demoted: None,
            destroyed_generation: Some(tomb.destroyed()),
        },
    }
}

/// The layout of a table of keys. No layout cuts a key_id, because some commands need the whole key_id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyLayout {
    /// Shows the times when the key was made and promoted.
    Times,
    /// Shows only the dates when the key was made and promoted.
    Dates,
    /// Shows only the date of the promotion.
    Promotion,
    /// Shows each key in several lines, below its key_id.
    Stacked,
}

/// The layouts, from the widest to the narrowest.
const KEY_LAYOUTS: [KeyLayout; 4] = [KeyLayout::Times, KeyLayout::Dates, KeyLayout::Promotion, KeyLayout::Stacked];

/// Returns the rows as a table for people, of at most `width` columns, unless a key_id is longer. `unwrapped` contains
/// the number of seeds that each key has unwrapped in a running plugin, if it is known.
pub(super) fn fitting_key_table(
    rows: &[KeyRow],
    unwrapped: Option<&BTreeMap<String, u64>>,
    width: Option<usize>,
) -> String {
    fitting(width, KEY_LAYOUTS.map(|layout| move || key_table_with(rows, unwrapped, layout)))
}

fn key_table_with(rows: &[KeyRow], unwrapped: Option<&BTreeMap<String, u64>>, layout: KeyLayout) -> String {
    if layout == KeyLayout::Stacked {
        return rows.iter().map(|row| stacked(row, unwrapped)).collect::<Vec<_>>().join("\n");
    }
    let time = |time: &Option<String>| match time {
        Some(time) if layout == KeyLayout::Times => time.clone(),
        Some(time) => date(time).to_owned(),
        None => "-".to_owned(),
    };
    let has_created = layout != KeyLayout::Promotion;
    let cells = |row: &KeyRow| {
        let mut cells = vec![row.key_id.clone(), state(row)];
        cells.extend(has_created.then(|| time(&row.created)));
        cells.push(time(&row.promoted));
        cells.extend(unwrapped.map(|unwrapped| unwraps(row, unwrapped).to_string()));
        cells
    };
    let mut head = vec!["KEY", "STATE"];
    head.extend(has_created.then_some("CREATED"));
    head.push("PROMOTED");
    head.extend(unwrapped.map(|_| "UNWRAPS"));
    output::table(&head, rows.iter().map(cells))
}

/// Shows a key in three lines, which fit 40 columns.
fn stacked(row: &KeyRow, unwrapped: Option<&BTreeMap<String, u64>>) -> String {
    let promoted = row.promoted.as_ref().map(|time| format!("promoted {}", date(time)));
    let unwraps = unwrapped.map(|unwrapped| format!("{} unwraps", unwraps(row, unwrapped)));
    let rest: Vec<String> = promoted.into_iter().chain(unwraps).collect();
    let lines = [row.key_id.clone(), format!("  {}", state(row)), format!("  {}", rest.join(", "))];
    lines.iter().map(|line| line.trim_end()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn state(row: &KeyRow) -> String {
    format!("{}{}", row.state, if row.compromised { ", compromised" } else { "" })
}

fn unwraps(row: &KeyRow, unwrapped: &BTreeMap<String, u64>) -> u64 {
    unwrapped.get(&row.key_id).copied().unwrap_or(0)
}

/// Returns the date in an RFC 3339 time.
pub(super) fn date(time: &str) -> &str {
    time.split('T').next().unwrap_or_default()
}

/// Returns the first of `tables` that has at most `width` columns of characters, or else the last one. Without a width,
/// returns the first one: a table in a file is never cut.
pub(super) fn fitting<const N: usize>(width: Option<usize>, tables: [impl Fn() -> String; N]) -> String {
    let mut made = String::new();
    for table in tables {
        made = table();
        let widest = made.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        if width.is_none_or(|width| widest <= width) {
            break;
        }
    }
    made
}

/// Returns the width of the terminal in characters. Returns `None` if standard output is no terminal, or if the
/// terminal does not report its width.
pub(super) fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Returns the beginning of a key_id. It is enough to distinguish the keys of one keyring.
pub(super) fn short_key_id(key_id: &str) -> String {
    let end = key_id.find('-').map_or(0, |dash| dash + 9);
    key_id.get(..end).filter(|_| end > 0).map_or_else(|| key_id.to_owned(), |start| format!("{start}…"))
}

/// Returns how long ago something was, as in "59s ago" and "3h ago".
pub(super) fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "m"),
        3_600..86_400 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count}{unit} ago")
}

#[cfg(feature = "scan")]
/// Returns a duration as people say it: `4 min 23 s`.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// Returns names as a list in a sentence: `a`, `a and b`, or `a, b and c`.
pub(super) fn all_of(names: &[String]) -> String {
    match names {
        [others @ .., before, last] if !others.is_empty() => format!("{}, {before} and {last}", others.join(", ")),
        names => names.join(" and "),
    }
}

/// Returns the number with its noun, as in "1 key" and "2 keys".
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "scan")]
    #[test]
    fn durations_are_as_people_say_them() {
        assert_eq!([7, 60, 263].map(|seconds| span(Duration::from_secs(seconds))), ["7 s", "1 min", "4 min 23 s"]);
    }

    fn row(state: &'static str, compromised: bool) -> KeyRow {
        let time = || Some("2026-11-27T17:22:41Z".to_owned());
        KeyRow {
            key_id: "k1024-00112233445566778899aabbccddeeff".to_owned(),
            state,
            compromised,
            created: time(),
            promoted: time(),
            demoted: None,
            destroyed_generation: None,
        }
    }

    #[test]
    fn the_table_of_keys_fits_every_terminal_and_is_whole_in_a_file() {
        let unwrapped = [("k1024-00112233445566778899aabbccddeeff".to_owned(), 12_345_678)].into();
        let ordinary = [row("primary", false), row("decrypt-only", false)];
        let wide = [row("primary", false), row("decrypt-only", true)];
        for rows in [&ordinary, &wide] {
            for width in [40, 60, 80, 100, 120] {
                let table = fitting_key_table(rows, Some(&unwrapped), Some(width));
                let widest = table.lines().map(|line| line.chars().count()).max().unwrap();
                assert!(widest <= width, "{widest} columns of {width}:\n{table}");
                assert!(table.contains("12345678"), "{table}");
                assert!(
                    table.contains("k1024-00112233445566778899aabbccddeeff"),
                    "a key_id that is typed is never cut: {table}"
                );
            }
            let piped = fitting_key_table(rows, Some(&unwrapped), None);
            assert!(piped.contains("00112233445566778899aabbccddeeff") && piped.contains("17:22:41Z"), "{piped}");
        }
        let expected = "\
KEY                                      STATE          PROMOTED     UNWRAPS
k1024-00112233445566778899aabbccddeeff   primary        2026-11-27   12345678
k1024-00112233445566778899aabbccddeeff   decrypt-only   2026-11-27   12345678";
        assert_eq!(fitting_key_table(&ordinary, Some(&unwrapped), Some(80)), expected);
        let expected = "\
k1024-00112233445566778899aabbccddeeff
  primary
  promoted 2026-11-27, 12345678 unwraps
k1024-00112233445566778899aabbccddeeff
  decrypt-only, compromised
  promoted 2026-11-27, 12345678 unwraps";
        assert_eq!(fitting_key_table(&wide, Some(&unwrapped), Some(60)), expected);
    }

    #[test]
    fn several_names_are_joined_as_in_a_sentence() {
        let names = |count: usize| all_of(&["a", "b", "c", "d"].map(ToOwned::to_owned)[..count]);
        assert_eq!([0, 1, 2, 3, 4].map(names), ["", "a", "a and b", "a, b and c", "a, b, c and d"]);
    }

    #[test]
    fn a_short_key_id_is_the_beginning_of_one() {
        assert_eq!(short_key_id("k2-00112233445566778899aabbccddeeff"), "k2-00112233…");
        assert_eq!(short_key_id("of another plugin"), "of another plugin");
        assert_eq!([0, 59, 60, 3_600, 86_400].map(ago), ["0s ago", "59s ago", "1m ago", "1h ago", "1d ago"]);
    }
}
