//! What to do next: a hint for each kind of thing that is wrong, the worst first. A command in a hint can be pasted
//! into a shell; a word in capitals has to be replaced before.

use crate::{
    apiserver::coverage::Coverage,
    keyring::{key_id::KeyId, time::Time},
    plan::Timeouts,
    scan::{
        SourceKind,
        judge::FindingKind,
        names::is_titled_events,
        outcome::Incomplete,
        report::{GroupRow, ScanReport},
    },
};

use super::{
    super::given::{Given, quoted},
    provider::is_plain,
    unlisted::Unlisted,
};

/// The greatest number of keys or providers that are named in one hint.
const NAMED: usize = 3;

/// The command for the same scan of a new snapshot.
pub(in crate::cli) const SNAPSHOT: &str = "claviger scan --snapshot FILE";

/// The inputs of hints besides the report.
pub(in crate::cli) struct HintContext<'a> {
    pub(in crate::cli) given: &'a Given,
    /// The verb that is run again after the hint was followed.
    pub(in crate::cli) verb: &'static str,
    /// The command line of etcdctl for the etcd that was scanned.
    pub(in crate::cli) etcdctl: &'a str,
    /// The primary key, and when it became primary.
    pub(in crate::cli) promoted: Option<(KeyId, Time)>,
    pub(in crate::cli) now: Time,
    /// The time limits of the API servers.
    pub(in crate::cli) timeouts: Timeouts,
    /// The EncryptionConfiguration, if it was given.
    pub(in crate::cli) coverage: Option<&'a Coverage>,
}

/// Whether an API server may still write under the previous key after this promotion.
pub(in crate::cli) fn is_recent(promoted: Time, now: Time, timeouts: Timeouts) -> bool {
    now.seconds().saturating_sub(promoted.seconds()) < timeouts.quiet().as_secs()
}

/// Returns the hints about a report. If the prefix is wrong, only that hint is returned.
pub(in crate::cli) fn hints(report: &ScanReport, context: &HintContext<'_>) -> Vec<String> {
    if let Some(reason) = report.reasons.iter().find(|reason| reason.is_wrong_prefix()) {
        return vec![prefix(reason, context)];
    }
    let kinds = FindingKind::ALL.into_iter().filter_map(|kind| {
        let text = hint_about(kind, report, context)?;
        Some(format!("{}: {text}", kind.as_str()))
    });
    before(report, context).chain(kinds).chain(older(report, context)).collect()
}

/// Returns the hints that come before those of the findings.
fn before(report: &ScanReport, context: &HintContext<'_>) -> impl Iterator<Item = String> {
    let is_file = report.source.kind == SourceKind::Snapshot && report.reasons.iter().any(Incomplete::is_of_file);
    let file = is_file.then(|| {
        format!(
            "incomplete: take another snapshot and scan that: {} snapshot save FILE && {}",
            context.etcdctl,
            context.given.command(SNAPSHOT)
        )
    });
    let groups = report.reasons.contains(&Incomplete::Groups).then(|| {
        "incomplete: etcd contains names that no API server makes; --list shows the objects that have them".to_owned()
    });
    let first = report.identity_first.then(|| {
        "identity: new Secrets are written in plaintext, which is right only if you remove claviger; otherwise put a provider that \
         encrypts first in the entry that lists Secrets, before anything is written"
            .to_owned()
    });
    [file, groups, first].into_iter().flatten()
}

fn prefix(reason: &Incomplete, context: &HintContext<'_>) -> String {
    let likely: &[String] = match reason {
        Incomplete::Nothing { others, .. } | Incomplete::NoResource { others, .. } => others,
        Incomplete::Inside { around, .. } => std::slice::from_ref(around),
        _ => &[],
    };
    let Some((first, others)) = likely.split_first() else {
        return "give the prefix of the API server: --etcd-prefix PREFIX".to_owned();
    };
    let mut ways = vec![context.given.command(&format!("claviger {} --etcd-prefix {}", context.verb, quoted(first)))];
    ways.extend(others.iter().map(|other| format!("or with --etcd-prefix {}", quoted(other))));
    format!("scan below the API server's prefix: {}", ways.join("; "))
}

/// Returns the hint about one kind of finding, if the report has it.
pub(in crate::cli) fn hint_about(kind: FindingKind, report: &ScanReport, context: &HintContext<'_>) -> Option<String> {
    if !report.found.contains_key(&kind) {
        return None;
    }
    let rows: Vec<&GroupRow> = report.groups.iter().filter(|row| row.found.contains(&kind)).collect();
    match kind {
        FindingKind::Damaged => damaged(report),
        FindingKind::PlaintextAlthoughCovered | FindingKind::NotFirstProvider => {
            Some(reencrypt(&rows, report, context))
        }
        // The hint about `identity` says what has to be done first.
        FindingKind::Plaintext if report.identity_first => None,
        FindingKind::Plaintext if report.given.encryption_config => {
            let misspelt = context.coverage.and_then(|coverage| Unlisted::in_plaintext(report, coverage));
            Some(misspelt.map_or_else(|| encrypt(context), |misspelt| misspelt.sentence()))
        }
        FindingKind::Plaintext => Some(format!(
            "should they be encrypted? to compare them with the API server's configuration: {}",
            context.given.command("claviger scan --encryption-config FILE")
        )),
        FindingKind::NoProvider => {
            let unlisted = context.coverage.and_then(|coverage| Unlisted::encrypted(report, coverage));
            if let Some(unlisted) = unlisted.filter(Unlisted::has_cause) {
                return Some(unlisted.sentence());
            }
            // The stored prefix of a KMS v2 provider contains `kms:v2:`, which its name in an EncryptionConfiguration
            // does not.
            let name = |row: &&'_ GroupRow| row.provider.strip_prefix("kms:v2:").unwrap_or(&row.provider).to_owned();
            let names: Vec<String> = rows.iter().map(name).collect();
            let providers = named(names.iter().map(String::as_str));
            Some(format!(
                "add the provider{providers} to the entry of the resource, after the first one, until all objects are re-encrypted"
            ))
        }
        FindingKind::UnknownKey => {
            let keys = named(keys(&rows));
            Some(format!(
                "restore the key{keys} from a backup: {}",
                context.given.command("claviger backup restore FILE")
            ))
        }
        FindingKind::DisabledKey => {
            let enable = |key: &str| context.given.command(&format!("claviger key enable {key}"));
            let mut keys = distinct(keys(&rows));
            keys.truncate(NAMED);
            let keys = if keys.is_empty() { vec!["KEY"] } else { keys };
            Some(format!("enable the key: {}", keys.into_iter().map(enable).collect::<Vec<_>>().join(" && ")))
        }
        FindingKind::OldKey => Some(stale(&rows, report, context)),
    }
}

/// Returns the hint about Secrets that no entry of the EncryptionConfiguration encrypts.
fn encrypt(context: &HintContext<'_>) -> String {
    let print = context.given.command("claviger generate encryption-configuration");
    format!("to encrypt them, give the API server the EncryptionConfiguration that this prints: {print}")
}

/// Returns the hint about damaged objects. Damaged pages have a hint of their own.
fn damaged(report: &ScanReport) -> Option<String> {
    let is_object = report.findings.iter().any(|found| found.kind == FindingKind::Damaged && found.key.is_some());
    is_object.then(|| {
        "the API server cannot read a damaged object either: restore the object from a backup, or delete its key in etcd"
            .to_owned()
    })
}

/// Returns the hint to re-encrypt objects under the provider and key that the API server uses now. Events are not
/// rewritten, because that would renew their lifetime.
fn reencrypt(rows: &[&GroupRow], report: &ScanReport, context: &HintContext<'_>) -> String {
    const EXPIRE: &str = "events expire by themselves, an hour after they were written, unless --event-ttl is another";
    let names = distinct(rows.iter().map(|row| row.resource.as_str()).filter(|name| is_plain(name)));
    let (events, others): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| is_titled_events(name));
    let reencrypt = || {
        let reencrypt = reencrypt_all(&others, rows, report, context);
        if report.identity_first {
            format!("once a provider that encrypts comes first, {reencrypt}")
        } else {
            reencrypt
        }
    };
    match (events.is_empty(), others.is_empty()) {
        (true, _) => reencrypt(),
        (false, true) => format!("wait: {EXPIRE}"),
        (false, false) => format!("{}; {EXPIRE}", reencrypt()),
    }
}

#[cfg(feature = "reencrypt")]
fn reencrypt_all(_: &[&str], _: &[&GroupRow], report: &ScanReport, context: &HintContext<'_>) -> String {
    let command = context.given.command("claviger reencrypt");
    match report.source.kind {
        SourceKind::Snapshot => {
            format!(
                "a snapshot keeps what it holds: if live objects are like that, too, re-encrypt them and take another snapshot: {command}"
            )
        }
        SourceKind::Etcd => format!("re-encrypt them: {command}"),
    }
}

/// Returns the hint to re-encrypt the objects of resources by kubectl. If the API server cannot read one object,
/// kubectl fails for the whole resource.
#[cfg(not(feature = "reencrypt"))]
fn reencrypt_all(names: &[&str], rows: &[&GroupRow], report: &ScanReport, _: &HintContext<'_>) -> String {
    let resources = names.join(",");
    let is_blocked =
        report.groups.iter().any(|row| row.is_undecryptable() && rows.iter().any(|one| one.resource == row.resource));
    let when = if is_blocked { ", when the API server can read all of them" } else { "" };
    format!("re-encrypt them{when}: kubectl get {resources} --all-namespaces -o json | kubectl replace -f -")
}

fn stale(rows: &[&GroupRow], report: &ScanReport, context: &HintContext<'_>) -> String {
    let reencrypt = reencrypt(rows, report, context);
    // A later write by an API server does not change a snapshot.
    let is_live = report.source.kind != SourceKind::Snapshot;
    let recent = context.promoted.filter(|(_, time)| is_live && is_recent(*time, context.now, context.timeouts));
    let Some((key_id, time)) = recent else { return reencrypt };
    format!(
        "{key_id} is primary since {time}, and API servers may still write under the previous key; `{}` shows which ones do. Wait \
         for them: {}. Then {reencrypt}",
        context.given.plugin_command("claviger status"),
        context.given.plugin_command(&format!("claviger key promote {key_id} --wait"))
    )
}

fn older(report: &ScanReport, context: &HintContext<'_>) -> Option<String> {
    let revision = report.source.revision;
    (report.older_readable() > 0).then(|| {
        format!(
            "older values: compacting and defragmenting etcd removes them; then scan another snapshot: {0} compact \
             {revision} && {0} defrag && {0} snapshot save FILE && {1}",
            context.etcdctl,
            context.given.command(SNAPSHOT)
        )
    })
}

fn keys<'r>(rows: &'r [&'r GroupRow]) -> impl Iterator<Item = &'r str> {
    rows.iter().filter_map(|row| row.key_id.as_deref()).filter(|name| is_plain(name))
}

fn distinct<'r>(names: impl Iterator<Item = &'r str>) -> Vec<&'r str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns ` a, b` for a few names, and an empty text for none.
fn named<'r>(names: impl Iterator<Item = &'r str>) -> String {
    let names = distinct(names);
    let more = if names.len() > NAMED { " and others" } else { "" };
    if names.is_empty() { String::new() } else { format!(" {}{more}", names[..names.len().min(NAMED)].join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_promotion_is_recent_for_as_long_as_the_api_servers_may_take() {
        let at = |text| Time::parse(text).unwrap();
        let (promoted, later) = (at("2026-11-28T12:00:00Z"), at("2026-11-28T12:05:00Z"));
        let slow = Timeouts { request: Duration::from_mins(10), ..Timeouts::default() };
        assert!(!is_recent(promoted, later, Timeouts::default()));
        assert!(is_recent(promoted, later, slow));
        assert!(!is_recent(promoted, at("2026-11-28T12:14:00Z"), slow));
    }
}
