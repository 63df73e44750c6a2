//! Finds the address of the API server and the credentials for it, as kubectl does: in a kubeconfig, its contexts, and
//! the programs that it names.
//!
//! Invariant: a kubeconfig is read only if nobody but root and this user can change it, because it names programs to
//! run and files to send.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use kube::{
    Config,
    config::{AuthInfo, InClusterError, KubeConfigOptions, Kubeconfig},
};
use secrecy::ExposeSecret;

use crate::durable::{InputError, Untrusted, open_trusted};

use super::{
    program::lasting_token,
    reason::{CredentialsError, KubeconfigFault, can_be_sent},
};

/// The environment variable that names kubeconfig files, and the variable that every Pod has.
const KUBECONFIG: &str = "KUBECONFIG";
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// The kubeconfig of the administrator, where kubeadm, k3s, RKE2 and MicroK8s write it.
const ADMINS: [&str; 4] = [
    "/etc/kubernetes/admin.conf",
    "/etc/rancher/k3s/k3s.yaml",
    "/etc/rancher/rke2/rke2.yaml",
    "/var/snap/microk8s/current/credentials/client.config",
];

/// The operator's wishes for reaching the API server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubeAccess {
    /// The path of a kubeconfig. `None` means the kubeconfig that kubectl uses or, if there is none, the
    /// administrator's kubeconfig of this node.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig. `None` means its current context.
    pub context: Option<String>,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// No kubeconfig was found.
    #[error("there is no kubeconfig: no option names one, and neither ~/.kube/config nor {} exists", ADMINS[0])]
    NoKubeconfig,
    /// A kubeconfig cannot be read, or does not say which cluster to use or how to authenticate.
    #[error("kubeconfig {path}: {reason}")]
    Kubeconfig {
        /// The path of the kubeconfig, or the places where it was looked for.
        path: String,
        /// The reason, without any line of the kubeconfig.
        reason: KubeconfigFault,
    },
    /// Other users could change the kubeconfig, which names programs to run and files to send.
    #[error("kubeconfig {}: {reason}", path.display())]
    Untrusted {
        /// The path of the kubeconfig.
        path: PathBuf,
        /// The user or group that may write the kubeconfig.
        reason: Untrusted,
    },
    /// The token in the kubeconfig cannot be sent.
    #[error("kubeconfig {path}: {reason}")]
    Token {
        /// The path of the kubeconfig, or the places where it was looked for.
        path: String,
        /// The reason.
        reason: CredentialsError,
    },
    /// This Pod has no service account.
    #[error("the service account of this Pod: {0}")]
    ServiceAccount(#[source] InClusterError),
    /// The credentials or certificates do not make a client.
    #[error("the credentials for the API server: {0}")]
    Credentials(#[from] CredentialsError),
}

/// Runs the program that a kubeconfig names for credentials, unless the kubeconfig has other credentials that take
/// precedence. If the program prints a token that does not expire, the token replaces the program.
fn run_program(user: &mut AuthInfo) -> Result<(), CredentialsError> {
    let has_others = user.auth_provider.is_some() || user.token.is_some() || user.token_file.is_some();
    let Some(exec) = user.exec.as_ref().filter(|_| !has_others && user.username.is_none()) else { return Ok(()) };
    if let Some(token) = lasting_token(exec)? {
        (user.token, user.exec) = (Some(token), None);
    }
    Ok(())
}

impl KubeAccess {
    /// Reads the configuration for the client.
    ///
    /// # Errors
    /// When there is none, or a file is not valid or not trusted.
    pub(super) async fn read(&self) -> Result<Config, AccessError> {
        self.check_files()?;
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let named = std::env::var(KUBECONFIG).ok().filter(|named| !named.is_empty());
        let (path, read) = match self.file() {
            Some(file) => (file.display().to_string(), Kubeconfig::read_from(&file)),
            None if std::env::var_os(KUBECONFIG).is_some() => {
                (named.unwrap_or_else(|| format!("${KUBECONFIG}")), Kubeconfig::read())
            }
            None if self.context.is_none() && std::env::var_os(IN_CLUSTER).is_some() => {
                return Config::incluster().map_err(AccessError::ServiceAccount);
            }
            None => return Err(AccessError::NoKubeconfig),
        };
        let fault = |error, contexts| AccessError::Kubeconfig {
            path: path.clone(),
            reason: KubeconfigFault::of(&error, contexts),
        };
        let read = read.map_err(|error| fault(error, Vec::new()))?;
        let contexts = read.contexts.iter().map(|context| context.name.clone()).collect();
        let config = Config::from_custom_kubeconfig(read, &options).await;
        let mut config = config.map_err(|error| fault(error, contexts))?;
        run_program(&mut config.auth_info)?;
        // The client would panic at such a token.
        if config.auth_info.token.as_ref().is_some_and(|token| !can_be_sent(token.expose_secret())) {
            return Err(AccessError::Token { path, reason: CredentialsError::Unsendable });
        }
        Ok(config)
    }

    /// Checks that no other user can change one of the files.
    fn check_files(&self) -> Result<(), AccessError> {
        let named = std::env::var_os(KUBECONFIG).filter(|_| self.kubeconfig.is_none());
        let files = named.as_deref().map_or_else(|| self.file().into_iter().collect(), listed);
        files.iter().try_for_each(|file| check(file))
    }

    /// Returns the path of the one kubeconfig to read. Returns `None` if the environment names several.
    fn file(&self) -> Option<PathBuf> {
        if self.kubeconfig.is_some() || std::env::var_os(KUBECONFIG).is_some() {
            return self.kubeconfig.clone();
        }
        own().into_iter().chain(ADMINS.map(PathBuf::from)).find(|file| file.exists())
    }
}

/// Returns the path of this user's own kubeconfig.
fn own() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".kube/config"))
}

/// Splits `$KUBECONFIG` into paths. If it is empty, returns the kubeconfig of this user.
fn listed(list: &OsStr) -> Vec<PathBuf> {
    let files: Vec<_> = std::env::split_paths(list).filter(|file| !file.as_os_str().is_empty()).collect();
    if files.is_empty() { own().into_iter().collect() } else { files }
}

/// Checks that only root and this user can change the file.
fn check(path: &Path) -> Result<(), AccessError> {
    match open_trusted(path) {
        Ok(_) => Ok(()),
        Err(InputError::Io(error)) => {
            Err(AccessError::Kubeconfig { path: path.display().to_string(), reason: KubeconfigFault::unread(&error) })
        }
        Err(InputError::Untrusted(reason)) => Err(AccessError::Untrusted { path: path.to_owned(), reason }),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_kubeconfig_that_others_may_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("a.conf"), directory.path().join("b.conf"));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        let refusal = |mode: u32| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let access = KubeAccess { kubeconfig: Some(file.clone()), context: None };
            access.check_files().err().map(|error| error.to_string())
        };
        assert_eq!([0o600, 0o644].map(refusal), [None, None]);
        for mode in [0o666, 0o620] {
            let expected =
                format!("kubeconfig {}: its mode is {mode:04o}, so other users may write it", file.display());
            assert_eq!(refusal(mode), Some(expected));
        }
        // Each file of a list is checked before one of them is read.
        let list = std::env::join_paths([&other, Path::new(""), &file]).unwrap();
        let refused = listed(&list).iter().filter(|file| check(file).is_err()).count();
        assert_eq!((listed(&list), refused), (vec![other, file.clone()], 1));
        assert_eq!(listed(OsStr::new("")), own().into_iter().collect::<Vec<_>>());

        fs::remove_file(&file).unwrap();
        let expected = format!("kubeconfig {}: reading it: No such file or directory (os error 2)", file.display());
        assert_eq!(refused_as(&file), expected);
    }

    #[tokio::test]
    async fn each_fault_of_a_kubeconfig_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        let whole = "current-context: a
contexts: [{name: a, context: {cluster: c, user: u}}, {name: b, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]
users: [{name: u, user: {token: t}}]
";
        for (from, to, context, expected) in [
            ("current-context: a\n", "", None, "it has no current context"),
            ("current-context: a", "current-context: x", None, "it has no context x"),
            ("", "", Some("z"), "it has no context z"),
            ("cluster: c,", "cluster: d,", None, "its context names the cluster d, which it does not have"),
            ("server: 'https://127.0.0.1:1'", "", None, "its cluster has no server"),
            ("current-context: a", "}{", None, "it is not the YAML of a kubeconfig (line 1, column 1)"),
        ] {
            fs::write(&file, whole.replacen(from, to, 1)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            let access = KubeAccess { kubeconfig: Some(file.clone()), context: context.map(ToOwned::to_owned) };
            let error = access.read().await.unwrap_err();
            assert_eq!(error.to_string(), format!("kubeconfig {}: {expected}", file.display()));
            if let AccessError::Kubeconfig {
                reason: KubeconfigFault::NoCurrentContext { contexts } | KubeconfigFault::NoContext { contexts, .. },
                ..
            } = error
            {
                assert_eq!(contexts, ["a", "b"], "{expected}");
            }
        }
    }

    fn refused_as(path: &Path) -> String {
        check(path).unwrap_err().to_string()
    }
}
