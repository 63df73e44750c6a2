//! Compares a report with an earlier one: what has changed, and whether the earlier one still counts.
//!
//! A revision belongs to one cluster of etcd. If that cluster is at a lower revision now, or if another cluster has
//! taken its place, etcd was restored or replaced. Then the earlier report says nothing about what is in etcd now. kine
//! does not number its clusters, so the declared servers are compared.
//!
//! A keyring that was restored or merged since voids the report, too: it may lack what happened after the backup was
//! made, and keys that it got back may wrap elsewhere. Source: `docs/verify.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use crate::keyring::past::Past;

use super::report::{GroupNames, KeyringNow, ReadEtcd, VerifiedGroup, VerifyOutcome, VerifyReport};

/// The result of comparing a report with an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The reasons why the earlier report does not count any more. Empty if it counts.
    pub voided: Vec<Voided>,
    /// The differences between the two reports.
    pub changes: Vec<ReportChange>,
}

/// Why an earlier report does not count any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Voided {
    /// etcd is at a lower revision than when the report was made.
    #[error("etcd {etcd} was restored: it is at revision {now}, and the report read revision {before}")]
    OlderRevision {
        /// The addresses of the etcd.
        etcd: String,
        /// The revision in the earlier report.
        before: u64,
        /// The revision now.
        now: u64,
    },
    /// The etcd belongs to another cluster than the one in the earlier report.
    #[error("etcd {etcd} was replaced or restored: it is cluster {now}, and the report read cluster {before}")]
    OtherCluster {
        /// The addresses of the etcd.
        etcd: String,
        /// The number of the cluster in the earlier report.
        before: String,
        /// The number of the cluster now.
        now: String,
    },
    /// The main etcd has other addresses, and its cluster has no number to compare.
    #[error("the API server's etcd is {now} now, and the report read {before}, which has no number to compare")]
    OtherServer {
        /// The addresses in the earlier report.
        before: String,
        /// The addresses now.
        now: String,
    },
    /// etcd has values that were written before the earlier report, and that are not in that report.
    #[error(
        "etcd was restored: it has values of {resource} from revision {revision}, which the report of revision {before} \
         does not have"
    )]
    OlderValues {
        /// The resource of the values.
        resource: String,
        /// The least revision at which one of the values was written.
        revision: u64,
        /// The revision in the earlier report.
        before: u64,
    },
    /// The keyring was restored from a backup, or merged.
    #[error(
        "the keyring was restored or merged at generation {restored}, after the report, which names generation {before}"
    )]
    RestoredKeyring {
        /// The generation in the earlier report.
        before: u64,
        /// The generation that the restore or merge made.
        restored: u64,
    },
    /// The keyring is older than the one in the earlier report.
    #[error("the keyring is older than the report: it has generation {now}, and the report names generation {before}")]
    OlderKeyring {
        /// The generation in the earlier report.
        before: u64,
        /// The generation now.
        now: u64,
    },
    /// The keyring in the earlier report is not a predecessor of the keyring now.
    #[error("the keyring forked: its generation {generation} is not the one that the report names")]
    ForkedKeyring {
        /// The generation in the earlier report.
        generation: u64,
    },
}

/// One difference between two reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportChange {
    /// The thing that differs, in words for people.
    pub what: String,
    /// The value in the earlier report. `None` if it is not there.
    pub before: Option<String>,
    /// The value now. `None` if it is not there.
    pub now: Option<String>,
}

impl Comparison {
    /// Compares the report `now` with the earlier report `before` of the same keyring. `past` lists the predecessors of
    /// the record in `now`.
    pub fn new(before: &VerifyReport, now: &VerifyReport, past: &Past) -> Self {
        let mut comparison = Self::default();
        comparison.voided.extend(keyring_voids(&before.keyring, &now.keyring, past));
        for (place, etcd) in before.etcds.iter().enumerate() {
            comparison.compare_etcd(etcd, counterpart(etcd, place == 0, now));
        }
        let is_new = |etcd: &&ReadEtcd| counterpart(etcd, false, before).is_none();
        let new = now.etcds.iter().skip(1).filter(is_new);
        comparison.changes.extend(new.map(|etcd| change("etcd", None, Some(place(etcd)))));
        let has_etcd = comparison.voided.iter().any(Voided::is_of_etcd);
        comparison.voided.extend(older_values(before, now).filter(|_| !has_etcd));
        comparison.changes.extend(scope(before, now));
        comparison.changes.extend(counts(before, now));
        comparison
    }

    fn compare_etcd(&mut self, before: &ReadEtcd, now: Option<&ReadEtcd>) {
        let Some(now) = now else {
            self.changes.push(change("etcd", Some(place(before)), None));
            return;
        };
        self.voided.extend(etcd_void(before, now));
        let what = format!("revision of {}", place(now));
        self.changes.extend(differs(&what, &before.revision, &now.revision));
        self.changes.extend(differs("addresses of etcd", &place(before), &place(now)));
    }
}

impl Voided {
    /// Whether the reason lies in etcd, and not in the keyring.
    fn is_of_etcd(&self) -> bool {
        !matches!(self, Self::RestoredKeyring { .. } | Self::OlderKeyring { .. } | Self::ForkedKeyring { .. })
    }
}

/// Looks for values that are older than the report and missing from it. Only a restore can bring such values back, even
/// if etcd has passed the revision of the report since.
///
/// Revisions of several etcds cannot be compared, so this needs reports of one etcd. Only claviger's values are
/// compared, because two versions may name other providers differently.
fn older_values(before: &VerifyReport, now: &VerifyReport) -> Option<Voided> {
    let ([etcd], [_]) = (before.etcds.as_slice(), now.etcds.as_slice()) else { return None };
    if before.prefix != now.prefix || before.outcome() == VerifyOutcome::Incomplete {
        return None;
    }
    let was_seen = |group: &VerifiedGroup| {
        before.groups.iter().any(|other| other.names() == group.names() && other.first <= group.first)
    };
    let old = now.groups.iter().filter(|group| group.commitment.is_some() && group.first <= etcd.revision);
    let unseen = old.filter(|group| !was_seen(group)).min_by_key(|group| group.first)?;
    Some(Voided::OlderValues { resource: unseen.resource.clone(), revision: unseen.first, before: etcd.revision })
}

/// Returns why the keyring of a report voids it: the keyring now is older, was restored since, or is a fork.
fn keyring_voids(before: &KeyringNow, now: &KeyringNow, past: &Past) -> Option<Voided> {
    let generation = before.generation;
    if generation > now.generation {
        return Some(Voided::OlderKeyring { before: generation, now: now.generation });
    }
    if let Some(restored) = now.restored.filter(|restored| *restored > generation) {
        return Some(Voided::RestoredKeyring { before: generation, restored });
    }
    let is_forked = if generation == now.generation {
        before.record != now.record
    } else {
        // The past of a record reaches only some generations back. But a successor keeps the generation of an earlier
        // restore.
        let is_past = past.iter().any(|record| record.generation == generation);
        before.restored != now.restored || is_past && !past.names(generation, before.record)
    };
    is_forked.then_some(Voided::ForkedKeyring { generation })
}

/// Returns the etcd of `report` that corresponds to `etcd`: the etcd of the same cluster, or an etcd with a common
/// address. A main etcd always corresponds to the main etcd.
fn counterpart<'r>(etcd: &ReadEtcd, is_main: bool, report: &'r VerifyReport) -> Option<&'r ReadEtcd> {
    let is_same = |other: &&ReadEtcd| etcd.cluster.is_some() && other.cluster == etcd.cluster;
    let has_address = |other: &&ReadEtcd| other.addresses.iter().any(|address| etcd.addresses.contains(address));
    let found = report.etcds.iter().find(is_same).or_else(|| report.etcds.iter().find(has_address));
    found.or_else(|| report.etcds.first().filter(|_| is_main))
}

fn etcd_void(before: &ReadEtcd, now: &ReadEtcd) -> Option<Voided> {
    let shown = |cluster: Option<u64>| cluster.map_or_else(|| "without a number".to_owned(), |id| format!("{id:x}"));
    if before.cluster != now.cluster {
        return Some(Voided::OtherCluster { etcd: place(now), before: shown(before.cluster), now: shown(now.cluster) });
    }
    if before.cluster.is_none() && !before.addresses.iter().any(|address| now.addresses.contains(address)) {
        return Some(Voided::OtherServer { before: place(before), now: place(now) });
    }
    (now.revision < before.revision).then(|| Voided::OlderRevision {
        etcd: place(now),
        before: before.revision,
        now: now.revision,
    })
}

/// Compares outcome, keyring, provider, prefix, files, overrides and shortfalls of the two reports.
fn scope(before: &VerifyReport, now: &VerifyReport) -> Vec<ReportChange> {
    let (old, new) = (&before.keyring, &now.keyring);
    let files = [before, now].map(|report| report.encryption_config.sha256.to_hex());
    let [old_file, new_file] = files;
    let lines = [
        differs("outcome", before.outcome().as_str(), now.outcome().as_str()),
        differs("generation of the keyring", &old.generation, &new.generation),
        differs("primary key", &old.primary, &new.primary),
        differs("provider", &before.provider, &now.provider),
        differs("prefix", &before.prefix, &now.prefix),
        differs("SHA-256 of the EncryptionConfiguration", &old_file, &new_file),
    ];
    let overrides = [before, now].map(|report| {
        report.overrides.iter().map(|one| (one.resource.as_str(), one.addresses.join(","))).collect::<BTreeMap<_, _>>()
    });
    let shortfalls = [before, now]
        .map(|report| report.shortfalls.iter().map(|one| (one.as_str(), "yes".to_owned())).collect::<BTreeMap<_, _>>());
    let overrides = all(&overrides, |resource| format!("etcd of {resource}"));
    let shortfalls = all(&shortfalls, |word| format!("shortfall {word}"));
    lines.into_iter().flatten().chain(overrides).chain(shortfalls).collect()
}

/// Compares the numbers of values and findings.
fn counts(before: &VerifyReport, now: &VerifyReport) -> Vec<ReportChange> {
    let found = [before, now].map(|report| report.found.iter().map(|(kind, count)| (kind.as_str(), *count)).collect());
    let groups = [before, now].map(|report| report.groups.iter().map(|group| (group.names(), group.objects)).collect());
    let mut changes = all(&found, |kind| format!("found {kind}"));
    changes.extend(all(&groups, |(resource, provider, key_id, _): GroupNames<'_>| {
        let key_id = key_id.map_or_else(String::new, |key_id| format!(" {key_id}"));
        format!("{resource} under {provider}{key_id}")
    }));
    changes
}

fn place(etcd: &ReadEtcd) -> String {
    etcd.addresses.join(",")
}

fn change(what: &str, before: Option<String>, now: Option<String>) -> ReportChange {
    ReportChange { what: what.to_owned(), before, now }
}

fn differs<T: PartialEq + Display + ?Sized>(what: &str, before: &T, now: &T) -> Option<ReportChange> {
    (before != now).then(|| change(what, Some(before.to_string()), Some(now.to_string())))
}

/// Returns a change for each name that does not have the same value in both maps.
fn all<K: Ord + Copy, V: PartialEq + Display>(
    [before, now]: &[BTreeMap<K, V>; 2],
    what: impl Fn(K) -> String,
) -> Vec<ReportChange> {
    let names: BTreeSet<K> = before.keys().chain(now.keys()).copied().collect();
    let changed = names.into_iter().filter(|name| before.get(name) != now.get(name));
    let shown = |value: Option<&V>| value.map(ToString::to_string);
    changed.map(|name| change(&what(name), shown(before.get(&name)), shown(now.get(&name)))).collect()
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        crypto::{Digest, Uuid, root_key::RootKey},
        keyring::testing::{keyring, later},
        proof::{
            report::MovedResource,
            testing::{etcd, group, plaintext, report},
        },
        scan::judge::FindingKind,
    };

    const UUID: Uuid = Uuid([5; 16]);

    fn sample() -> VerifyReport {
        report(&RootKey::generate(&mut SysRng).unwrap(), UUID)
    }

    fn voided(before: &VerifyReport, now: &VerifyReport) -> Vec<String> {
        Comparison::new(before, now, &Past::default()).voided.iter().map(ToString::to_string).collect()
    }

    fn changes(before: &VerifyReport, now: &VerifyReport) -> Vec<String> {
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let line =
            |change: &ReportChange| format!("{}: {} -> {}", change.what, shown(&change.before), shown(&change.now));
        Comparison::new(before, now, &Past::default()).changes.iter().map(line).collect()
    }

    #[test]
    fn nothing_has_changed_between_a_report_and_itself() {
        let report = sample();
        assert_eq!(Comparison::new(&report, &report, &Past::default()), Comparison::default());
    }

    #[test]
    fn an_etcd_that_went_back_or_was_replaced_voids_a_report() {
        let before = sample();
        let main = |etcd: ReadEtcd| VerifyReport { etcds: vec![etcd, before.etcds[1].clone()], ..before.clone() };
        let restored = main(etcd("https://a", 99, Some(0xabc)));
        let expected = "etcd https://a was restored: it is at revision 99, and the report read revision 100";
        assert_eq!(voided(&before, &restored), [expected]);
        let other = main(etcd("https://a", 1000, Some(0xdef)));
        let expected = "etcd https://a was replaced or restored: it is cluster def, and the report read cluster abc";
        assert_eq!(voided(&before, &other), [expected]);
        let kine = main(etcd("https://a", 1000, None));
        let expected =
            "etcd https://a was replaced or restored: it is cluster without a number, and the report read cluster abc";
        assert_eq!(voided(&before, &kine), [expected]);
        // The same cluster has other addresses now, and a higher revision.
        let moved = main(etcd("https://c", 101, Some(0xabc)));
        assert_eq!(voided(&before, &moved), [""; 0]);
        assert_eq!(
            changes(&before, &moved),
            ["revision of https://c: 100 -> 101", "addresses of etcd: https://a -> https://c"]
        );
        // Other addresses do not hide that the cluster is another one.
        assert_eq!(voided(&before, &main(etcd("https://c", 1000, Some(0xdef)))).len(), 1);
    }

    #[test]
    fn an_etcd_of_an_override_voids_a_report_as_the_main_one_does() {
        let before = sample();
        let second = |etcd: ReadEtcd| VerifyReport { etcds: vec![before.etcds[0].clone(), etcd], ..before.clone() };
        let expected = "etcd https://b was restored: it is at revision 6, and the report read revision 7";
        assert_eq!(voided(&before, &second(etcd("https://b", 6, None))), [expected]);
        assert_eq!(voided(&before, &second(etcd("https://b", 8, Some(1)))).len(), 1);
        let gone = VerifyReport { etcds: before.etcds[..1].to_vec(), overrides: Vec::new(), ..before.clone() };
        assert_eq!(voided(&before, &gone), [""; 0]);
        assert_eq!(changes(&before, &gone), ["etcd: https://b -> -", "etcd of events: https://b -> -"]);
        assert_eq!(changes(&gone, &before), ["etcd: - -> https://b", "etcd of events: - -> https://b"]);
    }

    /// A restore brings values back. Later writes then raise etcd's revision above that of the report.
    #[test]
    fn values_from_before_a_report_that_it_does_not_have_void_it() {
        let one = |groups: Vec<VerifiedGroup>, revision| VerifyReport {
            etcds: vec![etcd("https://a", revision, Some(0xabc))],
            groups,
            ..sample()
        };
        let at = |first, key_id: &str| VerifiedGroup { first, key_id: Some(key_id.to_owned()), ..group("secrets", 3) };
        let before = one(vec![at(50, "k2")], 100);
        let expected = "etcd was restored: it has values of secrets from revision 30, which the report of revision 100 does not \
                        have";
        for older in [vec![at(30, "k1"), at(50, "k2")], vec![at(30, "k2")], vec![at(30, "k2"), at(90, "k1")]] {
            assert_eq!(voided(&before, &one(older, 200)), [expected]);
        }
        // Values that were rewritten since have newer revisions.
        for newer in [vec![at(60, "k2")], vec![at(101, "k3"), at(50, "k2")], vec![], vec![plaintext("secrets", 1, &[])]]
        {
            assert_eq!(voided(&before, &one(newer, 200)), [""; 0]);
        }
        // Revisions of two etcds cannot be compared.
        let two = VerifyReport { groups: vec![at(30, "k1")], ..sample() };
        assert_eq!(voided(&two, &two), [""; 0]);
        assert_eq!(voided(&before, &two), [""; 0]);
    }

    #[test]
    fn kine_is_compared_by_its_declared_address() {
        let kine = |address: &str, revision| VerifyReport { etcds: vec![etcd(address, revision, None)], ..sample() };
        let before = kine("unix:///a", 10);
        assert_eq!(voided(&before, &kine("unix:///a", 11)), [""; 0]);
        let expected = "etcd unix:///a was restored: it is at revision 9, and the report read revision 10";
        assert_eq!(voided(&before, &kine("unix:///a", 9)), [expected]);
        let expected =
            "the API server's etcd is unix:///b now, and the report read unix:///a, which has no number to compare";
        assert_eq!(voided(&before, &kine("unix:///b", 11)), [expected]);
    }

    #[test]
    fn a_keyring_that_went_back_or_forked_voids_a_report() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let before = report(&root, UUID);
        let at = |generation, byte| {
            let keyring = KeyringNow { generation, record: Digest([byte; 32]), ..before.keyring };
            VerifyReport { keyring, ..before.clone() }
        };
        let expected = "the keyring is older than the report: it has generation 4, and the report names generation 5";
        assert_eq!(voided(&before, &at(4, 5)), [expected]);
        let forked = "the keyring forked: its generation 5 is not the one that the report names";
        assert_eq!(voided(&before, &at(5, 6)), [forked]);
        // The keyring follows from generation 5, so its past lists that generation.
        let first = keyring(&root, UUID);
        let sixth = (0..5).fold(first, |keyring, _| later(&keyring, |_| {}));
        let with_past = |before: &VerifyReport| Comparison::new(before, &at(6, 9), sixth.past()).voided.len();
        let named = crate::keyring::testing::digest(5);
        let known = VerifyReport { keyring: KeyringNow { record: named, ..before.keyring }, ..before.clone() };
        assert_eq!((with_past(&known), with_past(&before)), (0, 1));
        assert_eq!(voided(&before, &at(600, 9)), [""; 0], "the past does not reach back so far");
    }

    #[test]
    fn a_keyring_that_was_restored_or_merged_since_voids_a_report() {
        let before = report(&RootKey::generate(&mut SysRng).unwrap(), UUID);
        let at = |generation, restored| {
            let keyring = KeyringNow { generation, restored, ..before.keyring };
            VerifyReport { keyring, ..before.clone() }
        };
        let since = |restored| {
            format!(
                "the keyring was restored or merged at generation {restored}, after the report, which names generation 5"
            )
        };
        // Three cases: no later change, some later changes, and so many that the past does not list the report's record
        // any more.
        for (now, restored) in [(6, 6), (9, 6), (600, 6), (600, 590)] {
            assert_eq!(voided(&before, &at(now, Some(restored))), [since(restored)]);
            assert_eq!(voided(&at(5, Some(3)), &at(now, Some(restored))), [since(restored)], "once more");
        }
        // A restore before the report does not matter, even if it made the report's own generation.
        for restored in [3, 5] {
            assert_eq!(voided(&at(5, Some(restored)), &at(5, Some(restored))), [""; 0]);
            assert_eq!(voided(&at(5, Some(restored)), &at(9, Some(restored))), [""; 0]);
        }
        // A restore from a backup that is older than the report makes an older keyring first, and then a fork.
        let older = "the keyring is older than the report: it has generation 4, and the report names generation 5";
        assert_eq!(voided(&before, &at(4, Some(4))), [older]);
        let forked = "the keyring forked: its generation 5 is not the one that the report names";
        for (reported, restored) in [(None, Some(4)), (Some(4), None), (Some(4), Some(3))] {
            assert_eq!(voided(&at(5, reported), &at(600, restored)), [forked]);
        }
    }

    #[test]
    fn what_was_counted_and_compared_is_listed_if_it_differs() {
        let before = sample();
        let mut now = before.clone();
        now.groups = vec![plaintext("secrets", 2, &[FindingKind::Plaintext]), group("secrets", 998)];
        now.found = [(FindingKind::Plaintext, 2)].into();
        now.encryption_config.sha256 = Digest([9; 32]);
        now.prefix = "/k8s/".to_owned();
        now.overrides.push(MovedResource { resource: "leases".to_owned(), addresses: vec!["https://c".to_owned()] });
        let shown = changes(&before, &now);
        let key_id = before.keyring.primary;
        for expected in [
            "outcome: clean -> left-over",
            "prefix: /registry/ -> /k8s/",
            "etcd of leases: - -> https://c",
            "found plaintext: - -> 2",
            "namespaces under identity: 4 -> -",
            "secrets under identity: - -> 2",
            &format!("secrets under kms:v2:claviger {key_id}: 1000 -> 998"),
        ] {
            assert!(shown.iter().any(|line| line == expected), "{expected}: {shown:#?}");
        }
        assert!(shown.iter().any(|line| line.starts_with("SHA-256 of the EncryptionConfiguration: 0606")));
        assert_eq!(shown.len(), 8, "{shown:#?}");
    }
}
