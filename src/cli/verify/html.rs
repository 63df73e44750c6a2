//! The report for auditors: one HTML page that needs neither network nor scripts. It contains the authenticated text,
//! by which the page can be checked later.

use maud::{Markup, PreEscaped, html};

use crate::{
    proof::{VerifiedGroup, VerifyReport},
    scan::count::Count,
};

use super::{
    super::scanning::{document, findings, picture},
    earlier::BEFORE,
    verified::{Since, Verified},
    words::{self, headline},
};

/// Returns the HTML page.
pub(super) fn page(verified: &Verified) -> String {
    let report = &verified.report;
    let found = findings(&verified.scan, &verified.list);
    let body = html! {
        (facts(verified))
        @if !verified.scan.reasons.is_empty() {
            div.box { ul { @for reason in &verified.scan.reasons { li { (reason) } } } }
        }
        @if let Some(since) = &verified.since { (compared(since)) }
        h2 { "Coverage by resource and key" }
        (picture(&verified.scan))
        @if !found.is_empty() { h2 { "What is left over" } @for one in &found { pre { (one) } } }
        @if !verified.notes.is_empty() { h2 { "What else to know" } ul { @for note in &verified.notes { li { (note) } } } }
        h2 { "All figures" }
        (table(report))
        h2 { "The authenticated report" }
        (explanation())
        (PreEscaped(BEFORE)) (PreEscaped(&verified.text)) (PreEscaped("</pre>"))
    };
    document(&headline(verified), verified.is_good(), &body)
}

fn facts(verified: &Verified) -> Markup {
    let report = &verified.report;
    let (keyring, config) = (&report.keyring, &report.encryption_config);
    html! {
        dl {
            dt { "verified" } dd { (report.time) " by claviger " (env!("CARGO_PKG_VERSION")) }
            dt { "keyring" } dd { code { (keyring.uuid.to_hex()) } ", generation " (keyring.generation) }
            dt { "primary key" }
            dd { code { (keyring.primary) } @if let Some(time) = verified.promoted { ", since " (time) } }
            @for etcd in &report.etcds { dt { "etcd" } dd { (words::etcd(etcd)) } }
            @for other in &report.overrides {
                dt { "kept elsewhere" } dd { (other.resource) " in " (other.addresses.join(", ")) }
            }
            dt { "keys below" } dd { code { (report.prefix) } }
            @if let Some(place) = &report.flags { dt { "flags from" } dd { (place) } }
            dt { "compared with" } dd { (config.path.display()) ", SHA-256 " code { (config.sha256.to_hex()) } }
            dt { "objects" }
            dd { (Count(report.objects())) ", including " (Count(report.under_primary())) " under the primary key" }
            dt { "report" } dd { "SHA-256 " code { (verified.sha256().to_hex()) } }
        }
    }
}

fn compared(since: &Since) -> Markup {
    let comparison = &since.comparison;
    html! {
        h2 { "Since the report " (words::compared(since)) }
        @if !comparison.voided.is_empty() {
            div.box {
                b.bad { "That report does not count any more." }
                ul { @for reason in &comparison.voided { li { (reason) } } }
            }
        }
        @if comparison.changes.is_empty() { p { "Nothing has changed." } }
        ul { @for change in &comparison.changes { li { (words::change(change)) } } }
    }
}

fn table(report: &VerifyReport) -> Markup {
    html! {
        div.scroll { table {
            tr {
                th { "resource" } th { "provider and key" } th.n { "objects" } th.n { "seeds" } th.n { "written from" }
                th.n { "to" } th { "found" }
            }
            @for group in &report.groups { (row(group)) }
        } }
    }
}

fn row(group: &VerifiedGroup) -> Markup {
    html! {
        tr {
            td { (group.resource) }
            td { (group.provider) @if let Some(key_id) = &group.key_id { br; code { (key_id) } } }
            td.n { (Count(group.objects)) }
            td.n { @if group.seeds > 0 { (Count(group.seeds)) } }
            td.n { (group.first) }
            td.n { (group.last) }
            td { @for kind in &group.found { span.bad { (kind.as_str()) } " " } }
        }
    }
}

fn explanation() -> Markup {
    html! {
        p {
            "A cluster is clean if every value of every resource that the EncryptionConfiguration writes with claviger's provider \
             is under the primary key, in every etcd that the API server uses, each read at one revision. The values are compared \
             by what they contain; nothing was decrypted. Older values, which etcd keeps until it is compacted and \
             defragmented, its write-ahead log and its snapshots are not part of this."
        }
        p {
            "Only the text below is authenticated, with a key of the keyring. The rest of this page shows the same figures. To \
             check the text on the node: " code { "claviger verify --report FILE" } ", where FILE is this page."
        }
    }
}
