//! Counts the API servers that use an etcd, by what each of them keeps there.
//!
//! A kube-apiserver renews two things: a Lease with its identity, `leases/kube-system/apiserver-<hash>`, every 10 s,
//! and a key below `masterleases/`, which etcd removes 15 s after the last renewal. Some builds have only one of them.
//! A Lease remains for an hour after its API server has ended, so it counts only if it was renewed between two reads.
//! Source: `k8s.io/kubernetes`, `pkg/controlplane/apiserver/server.go` and
//! `pkg/controlplane/reconcilers/lease.go`.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};

use crate::etcd::{Client, EtcdError, Query};

/// The longest time between two renewals of a Lease, with a margin for a busy machine.
const RENEWAL: Duration = Duration::from_secs(30);
/// The time between two reads of the keys.
const LOOK: Duration = Duration::from_secs(1);
/// The greatest number of keys that are read at once.
const PAGE: u32 = 1000;

/// The keys that were found, with the revisions at which they were written.
type RevisionByKey = BTreeMap<Vec<u8>, u64>;

/// Counts the API servers whose keys begin with `prefix`. It takes up to 30 s, and ends when every Lease has been
/// renewed. Returns 0 if the etcd contains neither Leases nor keys of API servers.
///
/// # Errors
/// When etcd cannot be read.
pub async fn count_api_servers(client: &mut Client, prefix: &str) -> Result<u64, EtcdError> {
    let leases = below(prefix, "leases/kube-system/apiserver-");
    let first = written(client, &leases).await?;
    let end = Instant::now() + RENEWAL;
    let mut fresh = 0;
    while fresh < first.len() && Instant::now() < end {
        sleep(LOOK).await;
        fresh = renewed(&first, &written(client, &leases).await?);
    }
    let masters = written(client, &below(prefix, "masterleases/")).await?.len();
    Ok(u64::try_from(fresh.max(masters)).unwrap_or(u64::MAX))
}

/// Returns how many keys were written since the first look. A key that appeared later counts, too.
fn renewed(first: &RevisionByKey, now: &RevisionByKey) -> usize {
    now.iter().filter(|(key, revision)| first.get(*key) != Some(revision)).count()
}

fn below(prefix: &str, rest: &str) -> Vec<u8> {
    format!("{}/{rest}", prefix.trim_end_matches('/')).into_bytes()
}

async fn written(client: &mut Client, prefix: &[u8]) -> Result<RevisionByKey, EtcdError> {
    let mut to = prefix.to_vec();
    // Every prefix in this file ends in `-` or `/`.
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    let query = Query { from: prefix.to_vec(), to, limit: PAGE, revision: 0, keys_only: true };
    let page = client.range(&query).await?;
    Ok(page.entries.into_iter().map(|entry| (entry.key.to_vec(), entry.mod_revision)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lease_that_was_renewed_counts() {
        let at = |leases: &[(&str, u64)]| -> RevisionByKey {
            leases.iter().map(|(key, revision)| (key.as_bytes().to_vec(), *revision)).collect()
        };
        let first = at(&[("a", 1), ("b", 2)]);
        assert_eq!(renewed(&first, &first), 0);
        assert_eq!(renewed(&first, &at(&[("a", 5), ("b", 2)])), 1);
        assert_eq!(renewed(&first, &at(&[("b", 2)])), 0, "one that is gone");
        assert_eq!(renewed(&first, &at(&[("a", 5), ("b", 6), ("c", 7)])), 3, "one that came");
    }

    #[test]
    fn a_prefix_ends_in_one_slash() {
        assert_eq!(below("/registry", "masterleases/"), b"/registry/masterleases/");
        assert_eq!(below("/registry/", "masterleases/"), b"/registry/masterleases/");
    }
}
