//! Explains why a rotation stopped before its end: the error text, the hint and the exit code for each [`Refused`].

use std::{fmt::Display, path::Path, time::Duration};

use crate::{
    keeper::{BeginError, UnfinishedRekey},
    plan::{CountDoubt, Hold, Refused, RotationPlan},
    probe::ProbeError,
    reencrypt::{FailureList, SweepFailure},
    scan::{count::Count, judge::FindingKind, report::GroupRow},
};

use super::{
    super::{
        failure::{
            self, Exit, Failure, credentials, miscounted, needs_kubeconfig, no_space, silent_api_server,
            written_in_plaintext,
        },
        given::{Given, quoted},
        reencrypt::Census,
        tables::{all_of, span},
        verify::Verified,
    },
    report::WaitGate,
    words::counted,
};

/// The greatest number of objects that a message names.
const NAMED: usize = 3;

/// What a rotation has seen last.
pub(super) struct LastSeen<'a> {
    /// The objects that the last sweep could not have written.
    pub(super) failures: Option<&'a FailureList>,
    /// The last scan.
    pub(super) census: Option<&'a Census>,
}

/// Returns the failure of a rotation that the planner stops.
pub(super) fn refused(given: &Given, LastSeen { failures, census }: LastSeen<'_>, refused: &Refused) -> Failure {
    let command = |command: &str| given.command(command);
    let again = command("claviger rotate");
    let (exit, message, hint) = match refused {
        Refused::Incomplete => (
            Exit::Damaged,
            "the rotation stops: the scan is incomplete".to_owned(),
            format!("to see what is missing: {}", command("claviger scan")),
        ),
        Refused::Count(doubt) => (Exit::Refused, doubt.to_string(), miscounted("claviger rotate", *doubt)),
        Refused::NotBackedUp(key) => (
            Exit::Refused,
            format!("no listed backup holds {key}, so it is not promoted"),
            format!(
                "write a backup to another disk: {}; if it does not count yet, open it: {}; then go on: {again}. To have it \
                 written there: {again} --backup-dir DIR",
                command("claviger backup create FILE"),
                command("claviger backup check FILE")
            ),
        ),
        Refused::Unreadable(objects) => return unreadable(given, *objects, census),
        Refused::Uncovered(objects) => (
            Exit::Found,
            format!(
                "{} would stay in plaintext: no entry of the EncryptionConfiguration encrypts them",
                counted(*objects, "Secret")
            ),
            format!("see which: {}", command("claviger scan")),
        ),
        Refused::InNeed(objects) => (
            Exit::Found,
            format!("the compromised keys are not disabled: {} one of them", left_in_need(*objects)),
            format!("see which: {}; rewrite or delete them, and go on: {again}", command("claviger scan --list")),
        ),
        Refused::Hold(hold) => return held(failures, *hold, &again),
    };
    Failure::new(exit, &message, hint)
}

fn left_in_need(objects: u64) -> String {
    match objects {
        1 => "1 object that --leave names still needs".to_owned(),
        _ => format!("{} that --leave names still need", counted(objects, "object")),
    }
}

/// Returns the failure that names the values whose provider the EncryptionConfiguration does not list. Other values
/// that cannot be read need another remedy, which a scan shows.
fn unreadable(given: &Given, objects: u64, census: Option<&Census>) -> Failure {
    let rows = census.iter().flat_map(|census| &census.report.groups);
    let is_unlisted = |row: &&GroupRow| row.objects > 0 && row.found.contains(&FindingKind::NoProvider);
    let unlisted: Vec<&GroupRow> = rows.filter(is_unlisted).collect();
    let what = format!("not rotating: the API server cannot read {}", counted(objects, "object"));
    let despite = format!("to rotate in spite of them: {} --leave ETCD_KEY", given.command("claviger rotate"));
    if unlisted.is_empty() {
        let hint = format!("see which: {}; {despite}", given.command("claviger scan"));
        return Failure::new(Exit::Found, &what, hint);
    }
    let name = |row: &&GroupRow| format!("{} ({}: {})", row.provider, row.resource, Count(row.objects));
    let named: Vec<String> = unlisted.iter().take(NAMED).map(name).collect();
    let more = if unlisted.len() > NAMED { ", and others" } else { "" };
    let message = format!("{what}: the EncryptionConfiguration does not list {}{more}", named.join(", "));
    let hint = format!(
        "list the provider again, after the first one, on every API server, until nothing is under it: {}; {despite}",
        given.command("claviger reencrypt")
    );
    Failure::new(Exit::Found, &message, hint)
}

/// Returns some of the objects that were not re-encrypted, with reasons. Returns `None` if there are no such objects.
pub(super) fn examples(failures: Option<&FailureList>) -> Option<String> {
    let named = failures.map(FailureList::named).unwrap_or_default().iter().take(NAMED);
    let named: Vec<String> = named.map(|failure| format!("{} ({})", failure.key, failure.reason)).collect();
    (!named.is_empty()).then(|| named.join("; "))
}

/// Returns the failure of a preview because of the count of the API servers.
pub(super) fn miscounted_in_preview(doubt: CountDoubt) -> Failure {
    Failure::new(Exit::Refused, &doubt, miscounted("claviger rotate --dry-run", doubt))
}

/// Returns the failure of a rotation that cannot finish, because objects were not re-encrypted or cannot be read.
fn held(failures: Option<&FailureList>, hold: Hold, again: &str) -> Failure {
    let Hold { stale, unchangeable } = hold;
    let examples = examples(failures).map_or_else(String::new, |examples| format!(": {examples}"));
    let rest = if unchangeable > 0 {
        format!(", and {} cannot be read", counted(unchangeable, "object"))
    } else {
        String::new()
    };
    let message = format!(
        "the rotation is unfinished: {} not re-encrypted{rest}{examples}",
        if stale == 1 { "1 object was".to_owned() } else { format!("{} were", counted(stale, "object")) },
    );
    let first = failures.map(FailureList::named).unwrap_or_default().first();
    let key = first.map_or_else(|| "ETCD_KEY".to_owned(), |failure| quoted(&failure.key));
    let hint = format!(
        "fix the cause that the API server gives, and go on: {again}; to leave an object as it is: {again} --leave {key}"
    );
    Failure::new(Exit::Found, &message, hint)
}

/// Returns the failure of a rotation that has waited in vain for the plugin. `silence` is the reason why the plugin did
/// not answer the last question.
pub(super) fn silent(given: &Given, gate: WaitGate, silence: Option<&ProbeError>) -> Failure {
    let waited = match gate {
        WaitGate::Publish => "the plugin did not serve the new key within 10 minutes",
        WaitGate::Settle => {
            "for 10 minutes, no API server was connected to the plugin, or the plugin did not serve the keyring as it is now"
        }
        WaitGate::Acknowledge | WaitGate::Quiet | WaitGate::Events => {
            "the plugin did not serve the keyring and prove that it can read with its keys within 10 minutes"
        }
    };
    let message = silence.map_or_else(|| waited.to_owned(), |error| format!("{waited}: {error}"));
    let hint = format!(
        "see how it is: {}; then go on: {}",
        given.command("claviger status"),
        given.command("claviger rotate")
    );
    Failure::new(Exit::Unreachable, &message, hint)
}

/// Returns the failure of a rotation that has waited in vain for events to expire.
pub(super) fn never_expired(given: &Given, events: u64, patience: Duration) -> Failure {
    let message = format!(
        "the rotation is unfinished: after {}, {} still under another key, and should have expired",
        span(patience),
        if events == 1 { "1 event is".to_owned() } else { format!("{} are", counted(events, "event")) }
    );
    let hint = format!(
        "see them: {}; delete them from etcd if they do not expire; then go on: {}",
        given.command("claviger scan --list"),
        given.command("claviger rotate")
    );
    Failure::new(Exit::Found, &message, hint)
}

/// Returns the failure of a rotation whose sweep ended early.
pub(super) fn swept(given: &Given, failure: &SweepFailure, api: &str) -> Failure {
    let (exit, message, hint) = match failure {
        SweepFailure::Denied(reason) => (
            Exit::Refused,
            format!("the API server at {api} denies it: {reason}"),
            "to make an account with this right, also with --resource RESOURCE for each resource besides Secrets: claviger generate reencrypt-rbac | kubectl apply -f -; then go on with a token of it: claviger rotate --kubeconfig FILE".to_owned(),
        ),
        SweepFailure::NoCredentials(reason) => (
            Exit::Refused,
            format!("there are no credentials for the API server at {api}: {reason}"),
            format!("{}; then go on: claviger rotate", credentials(reason)),
        ),
        SweepFailure::Unauthenticated(reason) => (
            Exit::Refused,
            format!("the API server at {api} does not accept the credentials: {reason}"),
            "take another kubeconfig: claviger rotate --kubeconfig FILE".to_owned(),
        ),
        SweepFailure::NotAnApiServer(reason) => (
            Exit::Usage,
            format!("the server at {api} is not an API server: {reason}"),
            "name the API server: claviger rotate --kubeconfig FILE".to_owned(),
        ),
        SweepFailure::OtherCluster => (
            Exit::Usage,
            format!("the API server at {api} keeps its objects in another etcd"),
            "name the API server that uses this etcd: claviger rotate --kubeconfig FILE".to_owned(),
        ),
        SweepFailure::NoSpace(url) => return no_space(url),
        SweepFailure::Unreachable(reason) => {
            let advice = silent_api_server(reason);
            let next = if needs_kubeconfig(advice) {
                "then go on: claviger rotate --kubeconfig FILE"
            } else {
                "nothing is lost; go on when it answers: claviger rotate"
            };
            let message = format!("the API server at {api} did not answer: {reason}");
            (Exit::Unreachable, message, format!("{advice}; {next}"))
        }
    };
    Failure::new(exit, &message, given.repeat_in(&hint).into_owned())
}

/// Returns the failure of a rotation whose last scan is clean but proves nothing.
pub(super) fn unproven(verified: &Verified) -> Failure {
    let words: Vec<&str> = verified.report.shortfalls.iter().map(|shortfall| shortfall.as_str()).collect();
    let words = if words.is_empty() { "something was written during the scan".to_owned() } else { words.join(", ") };
    let message = format!("everything is re-encrypted, but a scan does not prove it: {words}");
    Failure::new(Exit::Damaged, &message, "see what is missing: claviger verify".to_owned())
}

/// Returns the failure of a rotation that could not be proven at its end.
pub(super) fn unprovable(reason: &str) -> Failure {
    let message = format!("no scan would prove that the rotation is finished: {reason}");
    let hint = "see what is missing: claviger verify; then give `claviger rotate` the same flags";
    Failure::new(Exit::Damaged, &message, hint.to_owned())
}

/// Returns the failure of a rotation that cannot write a backup to `dir`. If `dir` is missing, the hint says where it
/// was looked for.
pub(super) fn no_backup(dir: &Path, error: &impl Display) -> Failure {
    let other = format!("name {OTHER_DISK}");
    let missing = dir.metadata().err();
    let exit = if missing.is_some() { Exit::Usage } else { Exit::Refused };
    let found = missing.and_then(|error| failure::unreadable(dir, &error));
    let hint = found.map_or_else(|| other.clone(), |found| format!("{found}; or {other}"));
    Failure::new(exit, &format!("cannot keep the backup in {}: {error}", dir.display()), hint)
}

/// Returns the failure of a rotation whose `--backup-dir` names no directory, but a file.
pub(super) fn no_directory(file: &Path) -> Failure {
    let message = format!("--backup-dir {}: it is not a directory", file.display());
    Failure::new(Exit::Refused, &message, format!("rotate chooses the name of the file: name {OTHER_DISK}"))
}

/// Returns the failure of a rotation whose backup would be lost together with the state directory.
pub(super) fn lost_too(dir: &Path, is_state_dir: bool) -> Failure {
    let what = if is_state_dir { "it is the state directory" } else { "it is in the state directory" };
    let message = format!("--backup-dir {}: {what}, and a backup there is lost with it", dir.display());
    Failure::new(Exit::Refused, &message, format!("name {OTHER_DISK}"))
}

/// The hint about the directory in which a backup is written.
const OTHER_DISK: &str = "a directory on another disk: claviger rotate --backup-dir DIR";

pub(super) fn no_recipient() -> Failure {
    let message = "a backup would not count: the keyring has no recovery recipient";
    Failure::new(Exit::Refused, &message, "add one: claviger recovery add RECIPIENT".to_owned())
}

pub(super) fn to_plaintext(resource: &str) -> Failure {
    Failure::new(Exit::Refused, &written_in_plaintext(resource), "put the provider that encrypts first".to_owned())
}

/// Returns the failure if the provider is listed but not first: no value would be written under a new key.
pub(super) fn only_read(given: &Given, provider: &str) -> Failure {
    let message = format!(
        "the EncryptionConfiguration lists the provider {provider} after another one, so API servers write with that one, and nothing would be under a new key"
    );
    let hint = format!(
        "once every API server lists it, put it first on each of them, then re-encrypt: {}; if you move away from {provider}, \
         do not rotate any more",
        given.command("claviger reencrypt")
    );
    Failure::new(Exit::Refused, &message, hint)
}

/// Returns the failure if no entry of the EncryptionConfiguration writes with the provider. `listed` is a listed
/// provider with a similar name.
pub(super) fn unused(provider: &str, listed: Option<&str>) -> Failure {
    let message = format!(
        "the EncryptionConfiguration writes nothing with the provider {provider}, so nothing would be under a new key"
    );
    let hint = match listed {
        Some(listed) => format!(
            "it lists {listed}: if that is misspelt, write {provider} there; if values are under that name: --provider-name {}",
            quoted(listed)
        ),
        None => "put it first among the providers of what it has to encrypt; if claviger's provider has another name there: \
                 --provider-name NAME; if another keyring is used: --state-dir DIR"
            .to_owned(),
    };
    Failure::new(Exit::Refused, &message, hint)
}

/// Returns the failure of a rotation whose plan was replaced on the disk.
pub(super) fn overtaken(given: &Given) -> Failure {
    let message = "another command has replaced or ended the plan of this rotation";
    let hint = format!("see how the keyring is: {}", given.command("claviger status"));
    Failure::new(Exit::Refused, &message, hint)
}

/// Returns the failure of a rotation of a keyring that the plugin does not serve.
pub(super) fn elsewhere(given: &Given, served: &Path, here: &Path) -> Failure {
    let message = format!("the plugin serves from {}, and not from {}", served.display(), here.display());
    let hint = format!("see what it serves: {}", given.command("claviger status"));
    Failure::new(Exit::Refused, &message, hint)
}

/// Returns the failure of a rotation of a keyring that lacks keys which the plugin serves.
pub(super) fn lacking(given: &Given, keys: &[String]) -> Failure {
    let message =
        format!("the plugin serves {}, which this keyring does not hold, so no rotation could finish", all_of(keys));
    let hint = format!("see how to bring the keys back: {}", given.command("claviger status"));
    Failure::new(Exit::Damaged, &message, hint)
}

/// Returns the failure of a rotation that would wait for the plugin in vain. `silence` is the reason why the plugin
/// does not answer.
pub(super) fn no_plugin(given: &Given, silence: Option<&ProbeError>) -> Failure {
    let unserved =
        "the plugin does not serve this keyring as it is now, or does not report to this user what it serves";
    let message = silence.map_or_else(|| unserved.to_owned(), |error| format!("the plugin does not answer: {error}"));
    Failure::new(Exit::Unreachable, &message, format!("see how it is: {}", given.command("claviger status")))
}

pub(super) fn rekeying() -> Failure {
    BeginError::from(UnfinishedRekey).into()
}

/// Returns the failure of a rotation that the operator has interrupted.
pub(super) fn interrupted(given: &Given, plan: Option<&RotationPlan>) -> Failure {
    let Some(plan) = plan.filter(|plan| plan.is_unfinished()) else {
        let message = "you interrupted the command before a rotation began, and nothing was changed";
        return Failure::new(Exit::Interrupted, &message, format!("begin again: {}", given.command("claviger rotate")));
    };
    let phase = plan.phase.as_str();
    let key = plan.key.map_or_else(String::new, |key| format!(" to {key}"));
    let message = format!("you interrupted the rotation{key} in the phase {phase}");
    Failure::new(Exit::Interrupted, &message, format!("go on: {}", given.command("claviger rotate")))
}
