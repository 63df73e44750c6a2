//! Asks a live etcd whether clients can still read it at an older revision.

use super::{
    live::{LiveError, runtime},
    names::Names,
    prefixes::end_of_prefix,
};
use crate::etcd::{Client, EtcdError, Query, Servers};

/// Whether etcd has compacted the revisions before `revision`. Then clients can list the objects below `prefix` at
/// `revision` or at a newer one only.
///
/// # Errors
/// When etcd does not answer, or refuses.
pub fn has_compacted(servers: &Servers, prefix: &str, revision: u64) -> Result<bool, LiveError> {
    let Some(older) = revision.checked_sub(1).filter(|older| *older > 0) else { return Ok(true) };
    let (runtime, mut client) = (runtime()?, Client::new(servers)?);
    let from = Names::new(prefix).prefix().to_vec();
    let query = Query { to: end_of_prefix(&from), from, limit: 1, revision: older, keys_only: true };
    match runtime.block_on(client.range(&query)) {
        Ok(_) => Ok(false),
        Err(EtcdError::Compacted(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{etcd::Etcd, processes::Run};

    #[test]
    fn a_revision_is_compacted_when_etcd_reads_no_older_one() {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        for value in [b"1", b"2", b"3", b"4"] {
            etcd.put("/registry/secrets/a/b", value).unwrap();
        }
        let servers = Servers { urls: etcd.client_urls(), ..Servers::default() };
        let compacted = || [1, 2, 3, 4, 5].map(|revision| has_compacted(&servers, "/registry/", revision).unwrap());
        assert_eq!(compacted(), [true, false, false, false, false], "there is nothing before the first revision");
        etcd.run_etcdctl(&["compact", "3"]).unwrap();
        assert_eq!(compacted(), [true, true, true, false, false]);
        etcd.run_etcdctl(&["compact", "5"]).unwrap();
        assert_eq!(compacted(), [true; 5]);
        assert!(has_compacted(&servers, "/registry/", 50).is_err(), "a revision that is still to come");
    }
}
