//! The report for auditors: one HTML page that needs neither network nor scripts.

use maud::{Markup, html};

use crate::scan::{
    ScanSource, SourceKind,
    count::Count,
    judge::FindingKind,
    report::{OlderValues, ScanReport},
};

use super::{
    super::scanning::{OLDER, document, meaning, picture},
    text::compared_with,
};

/// Returns the HTML page.
pub(super) fn page(report: &ScanReport, hints: &[String]) -> String {
    let body = html! {
        (facts(report))
        @if !report.reasons.is_empty() { (incomplete(report)) }
        h2 { "Coverage by resource and key" }
        (picture(report))
        @if !report.found.is_empty() { h2 { "What was found" } (found(report)) }
        @if let Some(history) = report.history.as_ref().filter(|history| history.readable > 0) { (older(history)) }
        @if !hints.is_empty() { h2 { "What to do" } (list(hints)) }
        @if !report.notes.is_empty() { h2 { "What else to know" } (list(&report.notes)) }
        h2 { "All figures" }
        (table(report))
        h2 { "How to read this" }
        (explanation(report))
    };
    document(&report.headline(), report.is_good(), &body)
}

fn facts(report: &ScanReport) -> Markup {
    let source = &report.source;
    html! {
        dl {
            dt { "scanned" } dd { (report.time) " by claviger " (env!("CARGO_PKG_VERSION")) }
            (place(source))
            dt { "revision" }
            dd {
                (source.revision)
                @if let Some(compacted) = source.compacted { ", compacted to " (compacted) }
                @if source.pins.len() > 1 { ", read at the revisions " (pins(source)) ", because etcd compacted during the scan" }
            }
            dt { "keys below" } dd { code { (report.prefix) } }
            dt { "objects" }
            dd { (Count(report.all.objects)) ", including " (Count(report.secrets.objects)) " Secrets" }
            dt { "compared with" }
            dd { (compared_with(&report.given)) }
        }
    }
}

fn place(source: &ScanSource) -> Markup {
    html! {
        @if let Some(file) = &source.file {
            dt { "snapshot" }
            dd { code { (file) } ", " (Count(source.bytes.unwrap_or(0))) " bytes" }
        } @else {
            dt { "etcd" }
            dd { code { (source.endpoints.join(", ")) } ", cluster " code { (source.cluster_id.as_deref().unwrap_or("-")) } }
        }
        @if let Some(digest) = &source.digest {
            dt { "SHA-256" }
            dd {
                code { (digest.sha256) }
                @match digest.matches {
                    Some(true) => ", which matches the digest in the snapshot",
                    Some(false) => { ", " b.bad { "which does not match the digest in the snapshot" } }
                    None => " of the whole file, which does not contain a digest",
                }
            }
        }
    }
}

fn pins(source: &ScanSource) -> String {
    source.pins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn incomplete(report: &ScanReport) -> Markup {
    html! {
        div.box {
            b.bad { "This report is incomplete." }
            ul { @for reason in &report.reasons { li { (reason) } } }
        }
    }
}

fn list(lines: &[String]) -> Markup {
    html! { ul { @for line in lines { li { (line) } } } }
}

fn found(report: &ScanReport) -> Markup {
    html! {
        @for kind in FindingKind::ALL {
            @if let Some(count) = report.found.get(&kind) {
                h3 { (kind.as_str()) ": " (Count(*count)) }
                p.dim { (meaning(kind)) }
                div.scroll { table {
                    tr { th { "object" } th { "provider and key" } th.n { "revision" } }
                    @for finding in report.findings.iter().filter(|finding| finding.kind == kind).take(NAMED) {
                        tr {
                            td {
                                code { @match (&finding.key, finding.page) {
                                    (Some(key), _) => (key),
                                    (None, page) => { "page " (page.unwrap_or(0)) }
                                } }
                                @if let Some(reason) = &finding.reason { br; (reason) }
                            }
                            td { (finding.provider.as_deref().unwrap_or("")) br; code { (finding.key_id.as_deref().unwrap_or("")) } }
                            td.n { @if let Some(revision) = finding.mod_revision { (revision) } }
                        }
                    }
                } }
                @if *count > NAMED as u64 { p.dim { "and " (Count(count - NAMED as u64)) " more" } }
            }
        }
    }
}

fn older(history: &OlderValues) -> Markup {
    html! {
        h2 { "Older values that can be read: " (Count(history.readable)) }
        p.dim { (OLDER) }
        div.scroll { table {
            tr { th { "object" } th.n { "revision" } }
            @for value in history.findings.iter().take(NAMED) {
                tr { td { code { (value.key) } } td.n { (value.mod_revision) } }
            }
        } }
        @if history.readable > NAMED as u64 { p.dim { "and " (Count(history.readable - NAMED as u64)) " more" } }
    }
}

/// The greatest number of objects that are named for each kind of finding.
const NAMED: usize = 50;

fn table(report: &ScanReport) -> Markup {
    html! {
        div.scroll { table {
            tr {
                th { "resource" } th { "provider and key" } th.n { "objects" } th.n { "older values" } th.n { "seeds" }
                th.n { "written from" } th.n { "to" } th { "found" }
            }
            @for row in &report.groups {
                tr {
                    td { (row.resource) }
                    td { (row.provider) @if let Some(key_id) = &row.key_id { br; code { (key_id) } } }
                    td.n { (Count(row.objects)) }
                    td.n { @match row.older_values { Some(count) => (Count(count)), None => "–" } }
                    td.n { @if row.seeds > 0 { (Count(row.seeds)) } }
                    td.n { @if let Some(revision) = row.first_revision { (revision) } }
                    td.n { @if let Some(revision) = row.last_revision { (revision) } }
                    td { @for kind in &row.found { span.bad { (kind.as_str()) } " " } }
                }
            }
        } }
    }
}

fn explanation(report: &ScanReport) -> Markup {
    html! {
        p {
            "This report was made from etcd's own bytes. The prefix of each stored value names its provider, and a value of KMS v2 names \
             its key. No key was used and nothing was decrypted, so the report does not prove that a key opens a value. "
            "Each object counts once, by its newest revision. Older values are those that etcd has not compacted away"
            @match report.source.kind {
                SourceKind::Etcd => ", which a live etcd does not show.",
                SourceKind::Snapshot => { "; " (Count(report.older_readable())) " of them are in plaintext and should be encrypted." }
            }
        }
        p {
            "Seeds are the distinct wrapped keys of live objects. After a start, an API server asks its plugin once to unwrap each of them. "
            "Deleted and overwritten values may still be in free pages of the database file, in the write-ahead log and in older snapshots."
        }
    }
}
