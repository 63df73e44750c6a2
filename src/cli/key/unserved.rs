//! Asks the API server whether it serves the kind of an object that is left by name. A value whose kind is not served
//! any more can still be decrypted, and nobody can have it written again.

use clap::Args;

use super::super::{
    failure::{Exit, Failure},
    reencrypt::KubeArgs,
    runtime::event_loop,
};
use crate::{
    apiclient::{ApiClient, ApiError},
    etcd::{Client, Servers},
    reencrypt::{is_served, revision_of},
    scan::names::Names,
};

/// The object that every cluster has, by which an API server of another cluster is recognised.
const KUBE_SYSTEM: &str = "/api/v1/namespaces/kube-system";
const KUBE_SYSTEM_KEY: &str = "namespaces/kube-system";

/// How the API server is reached.
#[derive(Args, Default)]
pub(super) struct UnservedArgs {
    #[command(flatten)]
    access: KubeArgs,
}

impl UnservedArgs {
    /// Whether the API server, which uses the etcd at `servers`, serves the kind of the object with this key in etcd.
    ///
    /// # Errors
    /// When the API server does not say so, or uses another etcd.
    pub(super) fn is_served(&self, key: &[u8], prefix: &str, servers: &Servers) -> Result<bool, Failure> {
        let (runtime, names) = (event_loop()?, Names::new(prefix));
        let api = runtime.block_on(ApiClient::new(&self.access.access()));
        let api = api.map_err(|error| unknown(key, &error.to_string()))?;
        let unknown = |error: &ApiError| unknown(key, &error.to_string());
        let revision = runtime.block_on(api.revision_of(KUBE_SYSTEM)).map_err(|error| unknown(&error))?;
        let namespace = [names.prefix(), KUBE_SYSTEM_KEY.as_bytes()].concat();
        let mut client = Client::new(servers)?;
        if revision.is_none() || runtime.block_on(revision_of(&mut client, &namespace))? != revision {
            return Err(elsewhere(key, api.url()));
        }
        runtime.block_on(is_served(key, &names, &api)).map_err(|error| unknown(&error))
    }
}

fn unknown(key: &[u8], reason: &str) -> Failure {
    let name = String::from_utf8_lossy(key);
    let message =
        format!("--leave {name}: this object can be read, and it is not known whether its kind is served: {reason}");
    let hint = "name the API server, with a user who may read namespaces: --kubeconfig FILE";
    Failure::new(Exit::Refused, &message, hint.to_owned())
}

fn elsewhere(key: &[u8], url: &str) -> Failure {
    let name = String::from_utf8_lossy(key);
    let message = format!(
        "--leave {name}: this object can be read, and the API server at {url}, which says what is served, uses another etcd"
    );
    Failure::new(Exit::Usage, &message, "name the API server that uses this etcd: --kubeconfig FILE".to_owned())
}
