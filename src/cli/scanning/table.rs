//! The table of the report. On a terminal it is at most as wide as the terminal, and names are cut to fit. Anywhere
//! else nothing is cut, because a program or an editor reads it.

use std::{collections::BTreeSet, io};

use rustix::termios::{isatty, tcgetwinsize};

use crate::{
    scan::{
        count::Count,
        report::{GroupRow, ScanReport},
    },
    telemetry::escape,
};

use super::super::output;

/// The number of columns of space that `output::table` puts between the columns of a table.
const GAP: usize = 3;

/// The least number of characters of a key_id that are shown. That is enough to distinguish keys: `k12-0123abcd…`.
const KEY_ID: usize = 13;

/// The width of the narrowest table. On a narrower terminal, lines wrap.
const NARROWEST: usize = 60;

/// The width below which a table has no column for seeds.
const WITH_SEEDS: usize = 72;

/// The line that a narrow terminal shows instead of the column.
const NO_SEEDS: &str = "without SEEDS, which needs 72 columns";

/// Returns the width of the terminal in characters, or `None` if standard output is not a terminal.
pub(in crate::cli) fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    let width = isatty(&stdout).then(|| tcgetwinsize(&stdout).map_or(0, |size| size.ws_col))?;
    // A terminal that does not know its size reports 0.
    Some(if width == 0 { 80 } else { width.into() })
}

/// Returns the table, and a line that counts the omitted resources and contains the command `more`, which shows them.
/// Without `more`, no resource is omitted.
pub(in crate::cli) fn table(report: &ScanReport, more: Option<&str>, width: Option<usize>) -> String {
    let matters = |row: &&GroupRow| !row.is_plaintext() || !row.found.is_empty() || row.readable_older_values > 0;
    let shown: BTreeSet<&str> = report.groups.iter().filter(matters).map(|row| row.resource.as_str()).collect();
    // Shows all rows of a resource or none: the last line counts the omitted resources.
    let is_shown = |row: &&GroupRow| more.is_none() || row.resource == "secrets" || shown.contains(&*row.resource);
    let (mut rows, hidden): (Vec<&GroupRow>, Vec<&GroupRow>) = report.groups.iter().partition(is_shown);
    // Secrets come first, because they matter most.
    rows.sort_by_key(|row| row.resource != "secrets");
    let mut lines = Vec::new();
    if !rows.is_empty() {
        lines.push(columns(&rows, width));
        let is_narrow = width.is_some_and(|width| width < WITH_SEEDS);
        lines.extend((is_narrow && rows.iter().any(|row| row.seeds > 0)).then(|| NO_SEEDS.to_owned()));
    }
    if !hidden.is_empty() {
        let objects: u64 = hidden.iter().map(|row| row.objects).sum();
        let resources = hidden.iter().map(|row| &row.resource).collect::<BTreeSet<_>>().len();
        lines.push(format!(
            "and {} of {} in plaintext: {}",
            Count(objects).of("object"),
            Count(resources as u64).of("other resource"),
            more.unwrap_or_default()
        ));
    }
    lines.join("\n")
}

fn columns(rows: &[&GroupRow], width: Option<usize>) -> String {
    let width = width.map(|width| width.max(NARROWEST));
    let numbers = numbers(rows, width.is_none_or(|width| width >= WITH_SEEDS));
    let taken: usize = numbers.iter().map(|(head, _)| head.len() + GAP).sum();
    let names: Vec<[String; 3]> = rows
        .iter()
        .map(|row| [&*row.resource, &row.provider, row.key_id.as_deref().unwrap_or("-")].map(escape::line))
        .collect();
    let longest = [0, 1, 2].map(|column| names.iter().map(|names| names[column].chars().count()).max().unwrap_or(0));
    let widths = width.map_or(longest, |width| fit(longest, width.saturating_sub(taken + 2 * GAP)));
    let head: Vec<&str> =
        ["RESOURCE", "PROVIDER", "KEY"].into_iter().chain(numbers.iter().map(|(head, _)| &**head)).collect();
    let cells = names.iter().enumerate().map(|(index, names)| {
        let names = names.iter().zip(widths).map(|(name, width)| cut(name, width));
        names.chain(numbers.iter().map(|(_, cells)| cells[index].clone())).collect()
    });
    output::table(&head, cells)
}

/// Divides `left` characters of width among resource, provider and key, whose widest texts have the given widths. The
/// least width of the key is reserved first. The provider gets at most half of the rest, or more if the resource does
/// not need its half.
fn fit([resource, provider, key]: [usize; 3], left: usize) -> [usize; 3] {
    let least_key = key.min(KEY_ID).max("KEY".len());
    let names = left.saturating_sub(least_key);
    let provider = provider.max("PROVIDER".len()).min((names / 2).max(names.saturating_sub(resource)));
    let resource = resource.max("RESOURCE".len()).min(names - provider);
    [resource, provider, key.min(left - resource - provider)]
}

/// Returns the columns of numbers, each with its heading. Only a snapshot has older values.
fn numbers(rows: &[&GroupRow], has_seeds: bool) -> Vec<(String, Vec<String>)> {
    let number = |count: u64| Count(count).to_string();
    let mut numbers = vec![("OBJECTS", rows.iter().map(|row| number(row.objects)).collect::<Vec<_>>())];
    if rows.iter().any(|row| row.older_values.is_some()) {
        numbers.push(("OLDER", rows.iter().map(|row| number(row.older_values.unwrap_or(0))).collect()));
    }
    if has_seeds {
        let seeds = |row: &&GroupRow| if row.seeds == 0 { "-".to_owned() } else { number(row.seeds) };
        numbers.push(("SEEDS", rows.iter().map(seeds).collect()));
    }
    numbers.into_iter().map(|(head, cells)| right(head, cells)).collect()
}

/// Aligns a column of numbers to the right.
fn right(head: &str, cells: Vec<String>) -> (String, Vec<String>) {
    let width = cells.iter().map(String::len).chain([head.len()]).max().unwrap_or(0);
    (format!("{head:>width$}"), cells.into_iter().map(|cell| format!("{cell:>width$}")).collect())
}

/// Cuts a name to `width` characters.
fn cut(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    name.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Returns the beginning of a key_id that distinguishes keys.
#[cfg(feature = "html")]
pub(in crate::cli) fn short(key_id: Option<&str>) -> String {
    key_id.map_or_else(|| "-".to_owned(), |key_id| cut(&escape::line(key_id), KEY_ID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_only_as_much_as_the_terminal_needs() {
        let longest = [30, 20, 35];
        assert_eq!(fit(longest, 85), longest, "everything fits");
        for left in 34..90 {
            let widths = fit(longest, left);
            assert!(widths.iter().sum::<usize>() <= left, "{left}: {widths:?}");
            assert!(widths[2] >= KEY_ID && widths[0] >= 10 && widths[1] >= 10, "{left}: {widths:?}");
        }
        assert_eq!(fit([7, 15, 35], 60), [8, 15, 35], "a head is never cut");
    }
}
