//! The addresses of etcd's endpoints, and the files that secure the connection to them.

use std::path::PathBuf;

/// Where etcd is, in the words of kube-apiserver's flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers {
    /// The addresses of the endpoints, at least one: `http://…`, `https://…`, `unix://…` or `unixs://…`.
    pub urls: Vec<String>,
    /// The file of the authority that signs etcd's certificate.
    pub cafile: Option<PathBuf>,
    /// The file of this client's certificate.
    pub certfile: Option<PathBuf>,
    /// The file of the key for that certificate.
    pub keyfile: Option<PathBuf>,
}
