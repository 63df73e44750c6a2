//! Where etcd is, and which files secure the connection to it.

use std::path::PathBuf;

/// Where etcd is, in the words of kube-apiserver's flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers {
    /// `http://…`, `https://…`, `unix://…` or `unixs://…`, at least one.
    pub urls: Vec<String>,
    /// The authority that signs etcd's certificate.
    pub cafile: Option<PathBuf>,
    /// This client's certificate.
    pub certfile: Option<PathBuf>,
    /// The key of that certificate.
    pub keyfile: Option<PathBuf>,
}
