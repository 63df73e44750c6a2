//! Finds obstacles that may stop a rotation later: an API server that cannot be used, webhooks that may refuse a write,
//! and too little room in etcd.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    apiclient::{Admission, ApiError, ObjectApi},
    etcd::{Client, EtcdError, EtcdStatus, Servers, statuses},
    reencrypt::{SweepFailure, revision_of},
    scan::{names::Names, place::ScanPlace},
    telemetry::escape,
};

use super::{
    super::{
        failure::{Failure, no_space},
        reencrypt::{Census, ValueSum},
        waiting::AnswerWait,
    },
    hands::RotateHands,
    stops,
};

/// The object that every cluster has, by which an API server of another cluster is recognised.
const KUBE_SYSTEM: &str = "/api/v1/namespaces/kube-system";
const KUBE_SYSTEM_KEY: &[u8] = b"namespaces/kube-system";

/// The number of bytes that each value takes in etcd's database besides its own.
const BESIDE_VALUE: u64 = 256;

/// The obstacles that may stop a rotation later. As JSON it is a public interface.
#[derive(Debug, Serialize)]
pub(super) struct Foreseen {
    /// The webhooks and policies that may refuse a write. `None` if the API server did not tell.
    may_refuse: Option<Vec<MayRefuse>>,
    /// The databases of the members of etcd that answer. `None` if no member could be asked.
    etcd: Option<Vec<EtcdRoom>>,
    /// The approximate number of bytes that the rewritten values add to the database until etcd compacts it.
    added_bytes: u64,
    /// The facts that are not known, each with the reason.
    not_known: Vec<String>,
}

/// A webhook or policy that may refuse a write.
#[derive(Debug, Serialize)]
struct MayRefuse {
    kind: &'static str,
    name: String,
    webhook: Option<String>,
    /// The resources that would be rewritten and whose writes the webhook or policy may refuse.
    resources: Vec<String>,
}

/// The database of one member of etcd.
#[derive(Debug, Serialize)]
struct EtcdRoom {
    url: String,
    bytes: u64,
    bytes_in_use: u64,
    quota_bytes: Option<u64>,
    /// Whether the member refuses every write.
    no_space: bool,
}

impl Foreseen {
    /// Asks the API server and etcd. `is_before` tells whether the key is not promoted yet. After the promotion, every
    /// value has to be rewritten.
    pub(super) fn look(hands: &RotateHands<'_>, is_before: bool) -> Self {
        let rewritten = hands.census.as_ref().map(|census| rewritten(census, is_before)).unwrap_or_default();
        let mut not_known = Vec::new();
        let mut wait = AnswerWait::begin(&format!("the API server at {}", hands.api.url()), hands.global);
        let may_refuse = hands.runtime.block_on(hands.api.admissions());
        wait.end();
        let may_refuse = may_refuse.map(|found| may_refuse_of(&found, &rewritten));
        let may_refuse = may_refuse.map_err(|error| not_known.push(format!("whether a webhook may refuse: {error}")));
        let etcd = hands.etcd_statuses().map(|all| {
            let (known, unknown): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
            let unknown = unknown.into_iter().filter_map(Result::err);
            not_known.extend(unknown.map(|error| format!("how much room etcd has: {error}")));
            known.into_iter().flatten().map(EtcdRoom::of).collect()
        });
        let etcd = etcd.map_err(|failure| not_known.push(format!("how much room etcd has: {}", failure.message())));
        let added_bytes = rewritten.values().map(|sum| sum.bytes + sum.objects * BESIDE_VALUE).sum();
        Self { may_refuse: may_refuse.ok(), etcd: etcd.ok(), added_bytes, not_known }
    }

    /// Returns the lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let refusing = self.may_refuse.iter().flatten().map(|one| {
            let webhook = one.webhook.as_ref().map_or_else(String::new, |name| format!(", webhook {name}"));
            let what = escape::line(&one.resources.join(", "));
            format!(
                "  the API server asks {} {}{webhook} before it writes {what}, and it may refuse",
                one.kind, one.name
            )
        });
        let mut lines: Vec<String> = refusing.collect();
        lines.push(format!("  add about {} to etcd until it is compacted", mebibytes(self.added_bytes)));
        lines.extend(self.etcd.iter().flatten().map(|room| room.line(self.added_bytes)));
        lines.extend(self.not_known.iter().map(|what| format!("  unknown: {}", escape::line(what))));
        lines
    }
}

impl EtcdRoom {
    fn of(status: EtcdStatus) -> Self {
        let EtcdStatus { url, size, in_use, quota, has_no_space } = status;
        Self { url, bytes: size, bytes_in_use: in_use, quota_bytes: quota, no_space: has_no_space }
    }

    fn line(&self, added: u64) -> String {
        let (size, in_use) = (mebibytes(self.bytes), mebibytes(self.bytes_in_use));
        let begin = format!("  {} has {size}, and uses {in_use}", self.url);
        match self.quota_bytes {
            None => format!("{begin}; how much it may have is not known"),
            Some(quota) if self.grown(added) > quota => format!(
                "{begin}; it may have {}, so it may become full: compact and defragment it first, or raise --quota-backend-bytes",
                mebibytes(quota)
            ),
            Some(quota) => format!("{begin}; it may have {}", mebibytes(quota)),
        }
    }

    /// Returns the size that the file may reach. New values fill the free pages first.
    fn grown(&self, added: u64) -> u64 {
        self.bytes.max(self.bytes_in_use.saturating_add(added))
    }
}

/// Returns the values that would be rewritten, by resource.
fn rewritten(census: &Census, is_before: bool) -> BTreeMap<String, ValueSum> {
    let all = census.values.iter().filter(|(resource, _)| is_before || census.stale.contains_key(*resource));
    all.map(|(resource, sum)| (resource.clone(), *sum)).collect()
}

fn may_refuse_of(found: &[Admission], rewritten: &BTreeMap<String, ValueSum>) -> Vec<MayRefuse> {
    let asked = |admission: &Admission| {
        let is_asked = |resource: &&String| {
            let (name, group) = resource.split_once('.').unwrap_or((resource, ""));
            admission.is_asked_about(group, name)
        };
        let Admission { kind, name, webhook, .. } = admission.clone();
        MayRefuse { kind, name, webhook, resources: rewritten.keys().filter(is_asked).cloned().collect() }
    };
    found.iter().map(asked).filter(|one| !one.resources.is_empty()).collect()
}

/// Returns a number of bytes in MiB, rounded up.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", crate::scan::count::Count(bytes.div_ceil(1 << 20)))
}

impl RotateHands<'_> {
    /// Refuses to begin a rotation if etcd refuses every write. If etcd does not tell, the rotation begins, and its
    /// first write may fail.
    ///
    /// # Errors
    /// When the database of a member has reached its quota.
    pub(super) fn check_room(&self) -> Result<(), Failure> {
        let answers = self.etcd_statuses().ok().into_iter().flatten();
        let full = answers.flatten().find(|status| status.has_no_space);
        full.map_or(Ok(()), |status| Err(no_space(&status.url)))
    }

    /// Checks before the first change that the API server can have the objects in this etcd written again.
    ///
    /// # Errors
    /// When it does not answer, does not accept the credentials, or uses another etcd.
    pub(super) fn check_api(&self) -> Result<(), Failure> {
        let mut wait = AnswerWait::begin(&format!("the API server at {}", self.api.url()), self.global);
        let served = self.runtime.block_on(self.api.served(""));
        wait.end();
        let failure = match served {
            Ok(_) if self.is_elsewhere()? => Some(SweepFailure::OtherCluster),
            Ok(_) => None,
            Err(ApiError::Unreachable { reason, .. }) => Some(SweepFailure::Unreachable(reason)),
            Err(error) => SweepFailure::lasting(&error),
        };
        failure.map_or(Ok(()), |failure| Err(stops::swept(&self.global.given, &failure, self.api.url())))
    }

    /// Whether the API server keeps its objects in another etcd, as far as the user may see it.
    fn is_elsewhere(&self) -> Result<bool, Failure> {
        let Ok(there) = self.runtime.block_on(self.api.revision_of(KUBE_SYSTEM)) else { return Ok(false) };
        let input = self.input()?;
        let Some(ScanPlace::Etcd(servers)) = input.places.first() else { return Ok(false) };
        let key = [Names::new(&input.prefix).prefix(), KUBE_SYSTEM_KEY].concat();
        let here = self.runtime.block_on(revision_of(&mut Client::new(servers)?, &key));
        // Nobody changes this namespace but by hand.
        Ok(here.is_ok_and(|here| here != there))
    }

    fn etcd_statuses(&self) -> Result<Vec<Result<EtcdStatus, EtcdError>>, Failure> {
        let input = self.input()?;
        let servers = |place: &ScanPlace| match place {
            ScanPlace::Etcd(servers) => Some(servers.clone()),
            ScanPlace::Snapshot(_) => None,
        };
        let mut all = Vec::new();
        for servers in input.places.iter().filter_map(servers) {
            all.extend(self.ask(&servers)?);
        }
        Ok(all)
    }

    fn ask(&self, servers: &Servers) -> Result<Vec<Result<EtcdStatus, EtcdError>>, Failure> {
        self.runtime.block_on(statuses(servers)).map_err(Failure::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(bytes: u64, bytes_in_use: u64, quota_bytes: Option<u64>) -> EtcdRoom {
        let mib = |number: u64| number << 20;
        let url = "http://a".to_owned();
        EtcdRoom {
            url,
            bytes: mib(bytes),
            bytes_in_use: mib(bytes_in_use),
            quota_bytes: quota_bytes.map(mib),
            no_space: false,
        }
    }

    #[test]
    fn new_values_fill_what_is_free_before_the_file_grows() {
        let line = |room: EtcdRoom| room.line(1 << 20);
        assert_eq!(line(room(20, 12, Some(2048))), "  http://a has 20 MiB, and uses 12 MiB; it may have 2,048 MiB");
        assert_eq!(
            line(room(20, 12, None)),
            "  http://a has 20 MiB, and uses 12 MiB; how much it may have is not known"
        );
        let full = "so it may become full: compact and defragment it first, or raise --quota-backend-bytes";
        assert!(!line(room(20, 19, Some(20))).contains(full));
        assert!(line(room(20, 20, Some(20))).ends_with(full));
    }
}
