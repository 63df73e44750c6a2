//! Finds out whether the API server keeps its objects in the etcds that are scanned. A kubeconfig may name another
//! cluster, whose API server may have objects with the same names.

use std::mem;

use crate::etcd::{Client, EtcdError, Query, Servers};

use super::stale::StaleObject;

/// Reads from etcd the first object about which the API server says that it wrote it, or that it is not found.
pub(super) struct Witness {
    places: Vec<Servers>,
    /// The object to look for. `None` if there is none, or it was looked for already.
    object: Option<StaleObject>,
    is_over: bool,
}

impl Witness {
    pub(super) fn new(places: &[Servers]) -> Self {
        Self { places: places.to_vec(), object: None, is_over: false }
    }

    /// Notes that the API server says that this object has changed since the scan found it.
    pub(super) fn says_changed(&mut self, object: StaleObject) {
        if !self.is_over {
            self.object.get_or_insert(object);
        }
    }

    /// Whether etcd still has the object as the scan found it. Then the API server uses another etcd. If etcd cannot be
    /// asked, the next object is looked for.
    pub(super) async fn contradicts(&mut self) -> bool {
        let Some(object) = mem::take(&mut self.object) else { return false };
        for servers in &self.places {
            // A certificate may have been replaced since the scan read it.
            let Ok(mut client) = Client::new(servers) else { continue };
            match revision_of(&mut client, &object.key).await {
                Ok(Some(revision)) if revision == object.mod_revision => return true,
                Ok(_) => self.is_over = true,
                Err(_) => {}
            }
        }
        false
    }
}

/// Returns the revision at which etcd has `key` now. `None` if etcd does not have it.
///
/// # Errors
/// When etcd does not answer.
pub async fn revision_of(client: &mut Client, key: &[u8]) -> Result<Option<u64>, EtcdError> {
    let query = Query { from: key.to_vec(), to: [key, &[0]].concat(), limit: 1, revision: 0, keys_only: true };
    let page = client.range(&query).await?;
    Ok(page.entries.first().map(|entry| entry.mod_revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_etcd_that_cannot_be_asked_is_no_proof() {
        let object = StaleObject { key: b"/registry/secrets/default/a".to_vec().into(), mod_revision: 7 };
        let no_file = Some("/nonexistent/ca.pem".into());
        let without_a_client =
            Servers { urls: vec!["https://127.0.0.1:1".to_owned()], cafile: no_file, ..Servers::default() };
        let silent = Servers { urls: vec!["http://127.0.0.1:1".to_owned()], ..Servers::default() };
        assert!(Client::new(&without_a_client).is_err() && Client::new(&silent).is_ok());
        for servers in [without_a_client, silent] {
            let mut witness = Witness::new(&[servers]);
            witness.says_changed(object.clone());
            assert!(!witness.contradicts().await);
            // The error is ignored, and the next object is looked for.
            assert!(!witness.is_over && witness.object.is_none());
            witness.says_changed(object.clone());
            assert_eq!(witness.object.as_ref(), Some(&object));
        }
    }
}
