//! What to do next: a hint for each reason why objects are left.

use crate::{reencrypt::FailureKind, scan::judge::FindingKind};

use super::{
    super::{
        failure::{credentials, make_room, needs_kubeconfig, silent_api_server},
        given::{Given, quoted},
    },
    report::{ReencryptEnd, ReencryptReport, ReencryptTarget},
    rounds::SWEEPS,
};

/// Returns the hints. `of_scan` are the hints about values that a patch does not change.
pub(super) fn hints(report: &ReencryptReport, of_scan: Vec<String>, given: &Given) -> Vec<String> {
    let again = given.command("claviger reencrypt");
    let of_end = of_end(report, given, &again);
    let of_failures = report.failures.keys().map(|kind| of_failure(*kind, report, &again));
    let of_found = report.found.keys().filter_map(|kind| of_finding(*kind, given));
    let is_over = matches!(report.end, ReencryptEnd::Done | ReencryptEnd::LeftOver);
    let is_plaintext_wanted = report.end == ReencryptEnd::Done && report.target == ReencryptTarget::Plaintext;
    let of_values = of_found.filter(|_| !is_plaintext_wanted).chain(of_scan);
    of_end.into_iter().chain(of_failures.filter(|_| is_over)).chain(of_values.filter(|_| is_over)).collect()
}

fn of_end(report: &ReencryptReport, given: &Given, again: &str) -> Option<String> {
    Some(match report.end {
        ReencryptEnd::Done if report.target != ReencryptTarget::PrimaryKey => format!(
            "before you remove a provider, look again when every API server uses this EncryptionConfiguration: {}",
            given.command("claviger scan")
        ),
        ReencryptEnd::Done => format!("keep a proof: {}", given.command("claviger verify --to FILE")),
        ReencryptEnd::DryRun if report.rest == 0 => return None,
        ReencryptEnd::DryRun => format!("re-encrypt them: {again}"),
        ReencryptEnd::Incomplete => format!("see what is wrong: {}", given.command("claviger scan")),
        ReencryptEnd::Interrupted => format!("go on: {again}"),
        ReencryptEnd::NotAdopted if has_unread(report) => format!(
            "it may not have taken up the EncryptionConfiguration: restart it, or wait a minute if it reloads the file. Then go on: {again}"
        ),
        ReencryptEnd::NotAdopted => format!(
            "see which key each API server has: {}. It may use another EncryptionConfiguration than the scan. \
             Then go on: {again}",
            given.plugin_command("claviger status")
        ),
        ReencryptEnd::Denied => of_denial(report, given),
        ReencryptEnd::OtherCluster => format!("name the API server that uses this etcd: {}", other(given)),
        ReencryptEnd::Unauthenticated => format!("take another kubeconfig: {}", other(given)),
        ReencryptEnd::NoCredentials => {
            let advice = report.credentials.as_ref().map_or("take another kubeconfig: --kubeconfig FILE", credentials);
            format!("{advice}; then go on: {again}")
        }
        ReencryptEnd::MigrationFailed | ReencryptEnd::NoMigrator => of_migrator(report.end, again),
        ReencryptEnd::NoSpace => {
            format!("{}; then go on: {again}", make_room(report.full.as_deref().unwrap_or_default()))
        }
        ReencryptEnd::Unreachable => {
            let advice = silent_api_server(report.reason.as_deref().unwrap_or_default());
            let again = if needs_kubeconfig(advice) { other(given) } else { again.to_owned() };
            format!("{advice}; then go on: {again}")
        }
        ReencryptEnd::LeftOver if report.events > 0 && report.rest == 0 => {
            "events expire an hour after they were written, unless --event-ttl is another".to_owned()
        }
        ReencryptEnd::NotAnApiServer => {
            format!("see the address of the cluster in the kubeconfig; or take another one: {}", other(given))
        }
        ReencryptEnd::LeftOver if report.sweeps >= SWEEPS => format!(
            "after {SWEEPS} sweeps, objects are still written under an old key: see which API server writes them: {}. \
             Then go on: {again}",
            given.plugin_command("claviger status")
        ),
        ReencryptEnd::LeftOver => return None,
    })
}

/// Returns the hint after a migration that failed, or that nobody takes up.
fn of_migrator(end: ReencryptEnd, again: &str) -> String {
    if end == ReencryptEnd::MigrationFailed {
        format!(
            "fix the cause that the migrator gives, then go on: {again}; or leave out --via: then claviger goes on with the other objects \
             after one that is refused"
        )
    } else {
        format!(
            "the migrator is a part of kube-controller-manager: see whether it runs, and with --feature-gates=StorageVersionMigrator=true \
             before 1.37; then go on: {again}; or leave out --via: then claviger patches the objects itself"
        )
    }
}

/// Returns the hint for a user who lacks a right.
fn of_denial(report: &ReencryptReport, given: &Given) -> String {
    let (resources, via) = if report.is_via_migrator {
        ("", " --via storage-version-migration")
    } else {
        (", also with --resource RESOURCE for each resource besides Secrets", "")
    };
    format!(
        "to make an account with this right{resources}: claviger generate reencrypt-rbac{via} | kubectl apply -f -; take a kubeconfig with a \
         token of it, or an administrator's: {}",
        other(given)
    )
}

/// Whether the API server has probably not read the EncryptionConfiguration yet: it writes with another provider than
/// the first one, or in plaintext.
fn has_unread(report: &ReencryptReport) -> bool {
    report.target != ReencryptTarget::PrimaryKey || report.found.contains_key(&FindingKind::PlaintextAlthoughCovered)
}

fn of_failure(kind: FailureKind, report: &ReencryptReport, again: &str) -> String {
    let failed = report.failed.iter().find(|failed| failed.kind == kind);
    let key = failed.map_or_else(|| "ETCD_KEY".into(), |failed| quoted(&failed.key));
    match kind {
        FailureKind::Denied => {
            "denied: give this user the right for this resource, too: claviger generate reencrypt-rbac --resource RESOURCE; name all \
             resources that are encrypted, each with --resource".to_owned()
        }
        FailureKind::Refused => {
            if let Some(no_plugin) = &report.no_plugin {
                return format!("refused: {no_plugin}; then go on: {again}");
            }
            format!(
                "refused: fix the cause that the API server gives; to leave an object as it is: {again} --leave {key}"
            )
        }
        FailureKind::NotServed => {
            format!("not-served: serve the resource again; to leave an object as it is: {again} --leave {key}")
        }
        FailureKind::NoObject => "no-object: see what wrote these keys to etcd".to_owned(),
        FailureKind::Conflict | FailureKind::Busy => format!("{}: try again: {again}", kind.as_str()),
    }
}

/// Returns the hint about values that a rewrite does not change.
fn of_finding(kind: FindingKind, given: &Given) -> Option<String> {
    match kind {
        FindingKind::UnknownKey => Some(format!(
            "unknown-key: the keyring here does not hold the keys of these objects; see whether the plugin serves another one: {}",
            given.plugin_command("claviger status")
        )),
        FindingKind::Damaged | FindingKind::Plaintext => Some(format!(
            "{}: rewriting these changes nothing; see them: {}",
            kind.as_str(),
            given.command("claviger scan")
        )),
        _ => None,
    }
}

fn other(given: &Given) -> String {
    given.command("claviger reencrypt --kubeconfig FILE")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn left_over(sweeps: u32) -> ReencryptReport {
        ReencryptReport {
            target: ReencryptTarget::PrimaryKey,
            format: "claviger/reencrypt/v1",
            end: ReencryptEnd::LeftOver,
            credentials: None,
            no_plugin: None,
            full: None,
            reason: None,
            api_server: None,
            resources: Vec::new(),
            found: BTreeMap::from([(FindingKind::OldKey, 3)]),
            revision: 9,
            sweeps,
            written: 60,
            writes: 60,
            unchanged: 0,
            gone: 0,
            conflicts: 0,
            busy: 0,
            failures: BTreeMap::new(),
            failed: Vec::new(),
            damaged: Vec::new(),
            left: Vec::new(),
            rest: 3,
            events: 0,
            seconds: 1.0,
            migrations: Vec::new(),
            is_via_migrator: false,
            incomplete: Vec::new(),
        }
    }

    #[test]
    fn an_api_server_that_writes_with_another_provider_is_not_said_to_lack_a_key() {
        let ended = |end| ReencryptReport { end, target: ReencryptTarget::OtherProvider, ..left_over(1) };
        let hint = |end| hints(&ended(end), Vec::new(), &Given::default()).remove(0);
        assert!(hint(ReencryptEnd::NotAdopted).starts_with("it may not have taken up the EncryptionConfiguration: "));
        assert!(hint(ReencryptEnd::Done).ends_with("uses this EncryptionConfiguration: claviger scan"));
        let headline = super::super::text::headline(&ended(ReencryptEnd::NotAdopted));
        let expected = "The API server does not write as the EncryptionConfiguration says: 60 objects were rewritten, 3 objects are left";
        assert_eq!(headline, expected);
    }

    #[test]
    fn a_migration_that_nobody_takes_up_is_said_to_lack_a_migrator() {
        let report = ReencryptReport { end: ReencryptEnd::NoMigrator, is_via_migrator: true, ..left_over(1) };
        let headline = super::super::text::headline(&report);
        assert_eq!(headline, "No migrator takes up the migration: 60 objects were rewritten, 3 objects are left");
        let hint = hints(&report, Vec::new(), &Given::default()).remove(0);
        assert!(hint.starts_with("the migrator is a part of kube-controller-manager: see whether it runs"), "{hint}");
        assert_eq!(report.exit(), crate::cli::failure::Exit::Unreachable);
        let denied = ReencryptReport { end: ReencryptEnd::Denied, ..report };
        let hint = hints(&denied, Vec::new(), &Given::default()).remove(0);
        assert!(hint.contains("claviger generate reencrypt-rbac --via storage-version-migration | kubectl"), "{hint}");
    }

    #[test]
    fn an_api_server_that_leaves_plaintext_has_probably_not_read_the_configuration() {
        let ended = |kind| ReencryptReport {
            end: ReencryptEnd::NotAdopted,
            found: BTreeMap::from([(kind, 3)]),
            ..left_over(1)
        };
        let hint = |kind| hints(&ended(kind), Vec::new(), &Given::default()).remove(0);
        let restart = "it may not have taken up the EncryptionConfiguration: restart it, or wait a minute if it reloads the file. ";
        assert!(hint(FindingKind::PlaintextAlthoughCovered).starts_with(restart));
        assert!(hint(FindingKind::OldKey).starts_with("see which key each API server has: claviger status. "));
    }

    /// The API server can read the object as soon as the plugin runs, so no hint offers to leave the object.
    #[test]
    fn an_api_server_without_its_plugin_is_answered_with_the_start_of_the_plugin() {
        let no_plugin = Some("no plugin answers".to_owned());
        let failures = BTreeMap::from([(FailureKind::Refused, 3)]);
        let report = ReencryptReport { no_plugin, failures, ..left_over(1) };
        let hints = hints(&report, Vec::new(), &Given::default());
        assert_eq!(hints, ["refused: no plugin answers; then go on: claviger reencrypt"]);
    }

    #[test]
    fn a_command_that_gives_up_after_its_last_sweep_says_so() {
        let given = Given::default();
        assert_eq!(hints(&left_over(SWEEPS - 1), Vec::new(), &given), [""; 0]);
        assert_eq!(
            hints(&left_over(SWEEPS), Vec::new(), &given),
            [
                "after 20 sweeps, objects are still written under an old key: see which API server writes them: claviger \
              status. Then go on: claviger reencrypt"
            ]
        );
    }
}
