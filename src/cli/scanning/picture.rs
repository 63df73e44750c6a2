//! The picture in the HTML report: how much of each resource is under which key, and how much is plaintext.

use maud::{Markup, html};

use crate::scan::{
    count::Count,
    report::{GroupRow, ScanReport},
};

use super::table::short;

/// The colours of keys, in the order of the keys. Colour-blind people can distinguish them.
const KEYS: [&str; 6] = ["#1f6feb", "#2ca58d", "#8957e5", "#5aa9e6", "#607d3b", "#7d5ba6"];
const UNREADABLE: &str = "#57606a";
const READABLE: &str = "#d1242f";
const UNCOVERED: &str = "#afb8c1";

/// The width of a bar, in the units of the picture.
const WIDTH: f64 = 1000.0;
const BAR: f64 = 22.0;

/// The smallest width of a part that people can see.
const SEEN: f64 = 3.0;

/// The meaning of a part of a bar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'r> {
    /// Values that are encrypted by this provider, under this KMS v2 key if they name one.
    Key(&'r str, Option<&'r str>),
    /// Values that are encrypted by a provider or key that the API server cannot use.
    Unreadable,
    /// Values in plaintext that should be encrypted.
    Readable,
    /// Values in plaintext that no configuration covers.
    Uncovered,
}

fn part(row: &GroupRow) -> Part<'_> {
    match (row.is_plaintext(), row.found.is_empty()) {
        (true, false) => Part::Readable,
        (true, true) => Part::Uncovered,
        (false, _) if row.is_undecryptable() => Part::Unreadable,
        (false, _) => Part::Key(&row.provider, row.key_id.as_deref()),
    }
}

/// Draws a bar for each resource, Secrets first. All resources that are only plaintext and need not be encrypted share
/// the last bar.
pub(in crate::cli) fn picture(report: &ScanReport) -> Markup {
    let mut keys: Vec<Part<'_>> = report.groups.iter().map(part).filter(|part| matches!(part, Part::Key(..))).collect();
    keys.sort();
    keys.dedup();
    let colour = |part: Part<'_>| match part {
        Part::Key(..) => KEYS[keys.iter().position(|key| *key == part).unwrap_or(0) % KEYS.len()],
        Part::Unreadable => UNREADABLE,
        Part::Readable => READABLE,
        Part::Uncovered => UNCOVERED,
    };
    let rows: Vec<&GroupRow> = report.groups.iter().filter(|row| row.objects > 0).collect();
    let (plain, mut drawn): (Vec<ResourceBar<'_>>, Vec<ResourceBar<'_>>) = rows
        .chunk_by(|a, b| a.resource == b.resource)
        .map(|rows| ResourceBar {
            name: &rows[0].resource,
            parts: rows.iter().map(|row| (part(row), row.objects)).collect(),
        })
        .partition(|bar| bar.parts.iter().all(|(part, _)| *part == Part::Uncovered));
    drawn.sort_by_key(|bar| bar.name != "secrets");
    // A cluster has dozens of resources that need not be encrypted.
    let others = format!("{} others", plain.len());
    let plain_objects = plain.iter().flat_map(|bar| &bar.parts).map(|(_, objects)| objects).sum();
    drawn.extend(
        (!plain.is_empty()).then(|| ResourceBar { name: &others, parts: vec![(Part::Uncovered, plain_objects)] }),
    );
    let classes = [Part::Unreadable, Part::Readable, Part::Uncovered];
    let there = classes.into_iter().filter(|class| rows.iter().any(|row| part(row) == *class));
    html! {
        ul.legend { @for part in keys.iter().copied().chain(there) { li { (chip(colour(part))) (legend(part)) } } }
        div.bars { @for bar in &drawn { (bar.draw(&colour)) } }
    }
}

/// The objects of a resource, by provider and key.
struct ResourceBar<'r> {
    name: &'r str,
    parts: Vec<(Part<'r>, u64)>,
}

fn chip(colour: &str) -> Markup {
    html! { span.chip style={ "background:" (colour) } {} }
}

fn legend(part: Part<'_>) -> Markup {
    html! {
        @match part {
            Part::Key(provider, key_id) => { (provider) @if let Some(key_id) = key_id { ", " code title=(key_id) { (short(Some(key_id))) } } }
            Part::Unreadable => "under a provider or key that the API server cannot use",
            Part::Readable => "plaintext, and should be encrypted",
            Part::Uncovered => "plaintext, and no configuration says to encrypt it",
        }
    }
}

impl ResourceBar<'_> {
    fn draw<'c>(&self, colour: &impl Fn(Part<'_>) -> &'c str) -> Markup {
        let total: u64 = self.parts.iter().map(|(_, objects)| objects).sum();
        let mut at = 0.0;
        let widths = widths(self.parts.iter().map(|(_, objects)| *objects));
        let drawn = widths.into_iter().zip(&self.parts).map(|(width, (part, objects))| {
            let begin = at;
            at += width;
            (begin, width, colour(*part), format!("{} of {}: {}", Count(*objects), Count(total), plain(*part)))
        });
        html! {
            div { (self.name) }
            svg viewBox={ "0 0 " (WIDTH) " " (BAR) } preserveAspectRatio="none" role="img" aria-label=(self.name) {
                @for (begin, width, colour, title) in drawn {
                    rect x=(format!("{begin:.1}")) y="0" width=(format!("{width:.1}")) height=(BAR) fill=(colour) {
                        title { (title) }
                    }
                }
            }
            div.dim { (Count(total)) }
        }
    }
}

fn plain(part: Part<'_>) -> String {
    match part {
        Part::Key(provider, key_id) => format!("{provider} {}", key_id.unwrap_or_default()),
        Part::Unreadable => "under a provider or key that the API server cannot use".to_owned(),
        Part::Readable => "plaintext, and should be encrypted".to_owned(),
        Part::Uncovered => "plaintext".to_owned(),
    }
}

/// Returns the widths of the parts of a bar. Even three objects of a million are wide enough to be seen.
fn widths(objects: impl Iterator<Item = u64>) -> Vec<f64> {
    #[allow(clippy::cast_precision_loss, reason = "a picture")]
    let objects: Vec<f64> = objects.map(|objects| objects as f64).collect();
    let total: f64 = objects.iter().sum();
    let raw: Vec<f64> = objects.iter().map(|objects| (objects / total.max(1.0) * WIDTH).max(SEEN)).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|width| width / sum.max(1.0) * WIDTH).collect()
}
