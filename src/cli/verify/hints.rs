//! What to do next: a hint for each thing that speaks against a clean cluster, and how the report is kept.

use std::path::Path;

use crate::{
    apiserver::coverage::Coverage,
    etcd::Servers,
    keyring::time::Time,
    plan::Timeouts,
    proof::{Shortfall, VerifyOutcome},
};

use super::{
    super::{
        given::{Given, quoted},
        scanning::{self, HintContext, SeenProviders, Unlisted, etcdctl},
        tables::span,
    },
    verified::Verified,
};

/// The inputs of hints besides the verification.
pub(super) struct HintInput<'a> {
    pub(super) given: &'a Given,
    /// The main etcd, if it is known.
    pub(super) etcd: Option<&'a Servers>,
    /// The providers in the configuration and in the values.
    pub(super) seen: SeenProviders,
    /// The file in which the report is kept.
    pub(super) kept: Option<&'a Path>,
    pub(super) now: Time,
    /// The time limits of the API servers.
    pub(super) timeouts: Timeouts,
    pub(super) coverage: Option<&'a Coverage>,
}

/// Returns the hints about a verification. If the prefix or the name of the provider is wrong, only that hint is
/// returned.
pub(super) fn hints(verified: &Verified, input: &HintInput<'_>) -> Vec<String> {
    let report = &verified.report;
    let promoted = verified.promoted.map(|time| (report.keyring.primary, time));
    let etcdctl = etcdctl(input.etcd);
    let HintInput { given, now, timeouts, coverage, .. } = *input;
    let context = HintContext { given, verb: "verify", etcdctl: &etcdctl, promoted, now, timeouts, coverage };
    let of_scan = scanning::hints(&verified.scan, &context);
    if report.shortfalls.contains(&Shortfall::WrongPrefix) {
        return of_scan;
    }
    if let Some(lack) = input.seen.lack(&report.provider)
        && report.shortfalls.contains(&Shortfall::NothingWritten)
    {
        // Every other hint would repeat the wrong name.
        return vec![lack.sentence()];
    }
    let unlisted = coverage.and_then(|coverage| Unlisted::find(&verified.scan, coverage));
    let is_misspelt = unlisted.is_some_and(|unlisted| unlisted.is_misspelt());
    // The hint of the scan names the misspelt name, which is the reason.
    let is_explained = |one: &&Shortfall| is_misspelt && **one == Shortfall::NothingWritten;
    let shortfalls = report.shortfalls.iter().filter(|one| !is_explained(one));
    let of_shortfalls = shortfalls.filter_map(|one| shortfall(*one, input));
    let last = if report.outcome() == VerifyOutcome::Clean { Some(clean(verified, input)) } else { None };
    of_shortfalls.chain(of_scan).chain(last).chain(early(verified)).collect()
}

fn shortfall(shortfall: Shortfall, input: &HintInput<'_>) -> Option<String> {
    let again = || input.given.command("claviger verify");
    Some(match shortfall {
        // The hints of the scan cover these shortfalls.
        Shortfall::WrongPrefix | Shortfall::TooManyGroups | Shortfall::PlaintextFirst => return None,
        Shortfall::Unread => format!("read all of it: {}", again()),
        Shortfall::SeveralRevisions => {
            format!("API servers compact etcd every 5 minutes, and a scan has to be faster: run it beside etcd: {}", again())
        }
        Shortfall::UnclearFlags => {
            "read the flags of the API server that runs: --apiserver-process; or give --etcd-servers and --etcd-prefix, \
             if no resource is kept in another etcd"
                .to_owned()
        }
        Shortfall::NoNamespaces => {
            "name the API server's etcd and its prefix: --etcd-servers URL --etcd-prefix PREFIX".to_owned()
        }
        Shortfall::NothingWritten => format!(
            "put the provider first in the entry that lists Secrets: {}; if it has another name: --provider-name NAME",
            input.given.command("claviger generate encryption-configuration")
        ),
        Shortfall::OtherCommitment => format!(
            "these values name the primary key and are under another key, so somebody has forged or damaged them; list them: {}",
            input.given.command("claviger scan --list")
        ),
    })
}

/// Returns the hint to keep the report of a clean cluster, or to check it later.
fn clean(verified: &Verified, input: &HintInput<'_>) -> String {
    let command = |text: &str| input.given.command(text);
    match input.kept {
        Some(path) => {
            format!("to check this report later: {}", command(&format!("claviger verify --report {}", quoted(path))))
        }
        None if verified.is_voided() => {
            format!("make a report of what is in etcd now: {}", command("claviger verify --to FILE"))
        }
        None => format!("to keep this as an authenticated report: {}", command("claviger verify --to FILE")),
    }
}

/// Returns the warning that an API server may still write under the previous key.
fn early(verified: &Verified) -> Option<String> {
    let (promoted, quiet) = verified.promoted.zip(verified.quiet)?;
    (verified.report.outcome() == VerifyOutcome::Clean).then(|| {
        format!(
            "{} is primary since {promoted}, and an API server may write under the previous key for {} after the plugin \
             began to serve this one: verify again after that",
            verified.report.keyring.primary,
            span(quiet)
        )
    })
}
