//! Reads the manifest of kube-apiserver's static pod: the flags that name etcd and the EncryptionConfiguration.
//!
//! Paths in flags are the container's. The pod's mounts show where they are on the host.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::etcd::Servers;

/// Where kubeadm writes the manifest.
pub const KUBEADM: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/// The longest file that is read, in bytes.
pub const MANIFEST_MAX: usize = 1024 * 1024;

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is not a pod in YAML.
    #[error("not a pod: {0}")]
    Syntax(String),
    /// No container runs kube-apiserver.
    #[error("no container runs kube-apiserver")]
    NoApiServer,
    /// Several containers run kube-apiserver, so it is not clear whose flags count.
    #[error("several containers run kube-apiserver, expected one")]
    SeveralApiServers,
    /// An entry of `--etcd-servers-overrides` is not `resource#servers`, so it is not clear which etcd it means.
    #[error("--etcd-servers-overrides has the entry {0:?}, expected resource#server;server")]
    Override(String),
    /// The flags name no etcd.
    #[error("its kube-apiserver has no --etcd-servers")]
    NoEtcd,
}

/// What a manifest says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// `--etcd-servers`, and the files that secure the connection.
    pub servers: Servers,
    /// `--etcd-prefix`.
    pub prefix: Option<String>,
    /// `--etcd-servers-overrides`: the resources that are in other etcds.
    pub overrides: Vec<Override>,
    /// `--encryption-provider-config`.
    pub encryption_config: Option<PathBuf>,
}

/// A resource that is in an etcd of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The name in the flag, without slashes around it: `events`, `apps/deployments`.
    pub resource: String,
    /// The addresses of that etcd, at least one.
    pub urls: Vec<String>,
}

impl Override {
    /// Parses `group/resource#server;server`.
    fn parse(text: &str) -> Result<Self, ManifestError> {
        let parts = text.split_once('#').map(|(resource, servers)| Self {
            resource: resource.trim_matches('/').to_owned(),
            urls: list(servers, ';'),
        });
        parts.filter(|one| !one.urls.is_empty()).ok_or_else(|| ManifestError::Override(text.to_owned()))
    }
}

#[derive(Deserialize)]
struct Pod {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    volumes: Vec<Volume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    volume_mounts: Vec<Mount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    name: String,
    #[serde(rename = "mountPath")]
    path: PathBuf,
    #[serde(default)]
    sub_path: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: String,
    host_path: Option<HostPath>,
}

#[derive(Deserialize)]
struct HostPath {
    path: PathBuf,
}

impl Manifest {
    /// Reads a static pod.
    ///
    /// # Errors
    /// When `text` is not the static pod of one kube-apiserver with an etcd.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let pod: Pod = serde_saphyr::from_str(text).map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            ManifestError::Syntax(first.strip_prefix("error: ").unwrap_or(first).to_owned())
        })?;
        let spec = pod.spec;
        let mut containers = spec.containers.iter().filter(|one| one.words().any(is_api_server));
        let container = containers.next().ok_or(ManifestError::NoApiServer)?;
        if containers.next().is_some() {
            return Err(ManifestError::SeveralApiServers);
        }
        let words: Vec<&str> = container.words().collect();
        let path = |name| flag(&words, name).map(|path| on_host(Path::new(path), container, &spec.volumes));
        // If such a flag is given several times, all of them count.
        let list = |name| flags(&words, name).into_iter().flat_map(|text| list(text, ',')).collect::<Vec<_>>();
        let servers = Servers {
            urls: list("etcd-servers"),
            cafile: path("etcd-cafile"),
            certfile: path("etcd-certfile"),
            keyfile: path("etcd-keyfile"),
        };
        if servers.urls.is_empty() {
            return Err(ManifestError::NoEtcd);
        }
        Ok(Self {
            servers,
            prefix: flag(&words, "etcd-prefix").map(ToOwned::to_owned),
            overrides: list("etcd-servers-overrides")
                .iter()
                .map(|one| Override::parse(one))
                .collect::<Result<_, _>>()?,
            encryption_config: path("encryption-provider-config"),
        })
    }
}

impl Container {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.command.iter().chain(&self.args).map(String::as_str)
    }
}

fn is_api_server(word: &str) -> bool {
    Path::new(word).file_name().is_some_and(|name| name == "kube-apiserver")
}

fn list(text: &str, between: char) -> Vec<String> {
    text.split(between).map(str::trim).filter(|part| !part.is_empty()).map(ToOwned::to_owned).collect()
}

/// Returns all values of `--name=value` or `--name value`. As for kube-apiserver, an underscore in a flag's name means
/// a dash.
fn flags<'a>(words: &[&'a str], name: &str) -> Vec<&'a str> {
    let value = |(index, word): (usize, &&'a str)| {
        let flag = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
        let (found, value) = flag.split_once('=').map_or((flag, None), |(found, value)| (found, Some(value)));
        let is_it = found.replace('_', "-") == name;
        if is_it { value.or_else(|| words.get(index + 1).copied()) } else { None }
    };
    words.iter().enumerate().filter_map(value).collect()
}

/// Returns the value of a flag. If it is given several times, the last one counts.
fn flag<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    flags(words, name).pop()
}

/// Returns where a container's path is on the host, judging by the longest mount that contains it.
fn on_host(path: &Path, container: &Container, volumes: &[Volume]) -> PathBuf {
    let mounts = container.volume_mounts.iter().filter(|mount| path.starts_with(&mount.path));
    let longest = mounts.max_by_key(|mount| mount.path.components().count());
    let host = longest.and_then(|mount| {
        let volume = volumes.iter().find(|volume| volume.name == mount.name)?;
        let rest = path.strip_prefix(&mount.path).ok()?;
        let base = &volume.host_path.as_ref()?.path;
        let base = mount.sub_path.as_ref().map_or_else(|| base.clone(), |sub| base.join(sub));
        // Joining an empty path would append a slash.
        Some(if rest.as_os_str().is_empty() { base } else { base.join(rest) })
    });
    host.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: kube-apiserver}
spec:
  containers:
  - name: sidecar
    command: [sleep]
  - name: kube-apiserver
    command:
    - kube-apiserver
    - --etcd-servers=https://127.0.0.1:2379, https://10.0.0.2:2379
    - --etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt
    - --etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt
    args:
    - --etcd-keyfile
    - /keys/client.key
    - --etcd-prefix=/ignored
    - --etcd-prefix=/kubernetes.io
    - --etcd-servers-overrides=/events#https://127.0.0.1:2381;https://127.0.0.2:2381,apps/deployments#http://a
    - --encryption-provider-config=/enc/config.yaml
    volumeMounts:
    - {name: pki, mountPath: /etc/kubernetes/pki}
    - {name: keys, mountPath: /keys, subPath: etcd}
    - {name: enc, mountPath: /enc/config.yaml}
  volumes:
  - {name: pki, hostPath: {path: /etc/kubernetes/pki, type: Directory}}
  - {name: keys, hostPath: {path: /srv/keys}}
  - {name: enc, hostPath: {path: /etc/kubernetes/enc.yaml}}
  - {name: other, emptyDir: {}}
";

    #[test]
    fn every_flag_of_a_list_counts_and_underscores_are_dashes() {
        let flags = "--etcd-servers=http://a, --etcd_servers=http://b, --etcd-servers-overrides=/events#http://c, \
                     --etcd_servers_overrides=/secrets#http://d, --etcd_prefix=/k8s";
        let pod = |container: &str| format!("spec: {{containers: [{container}]}}");
        let one = format!(
            "{{command: [kube-apiserver, {}]}}",
            flags.replace(", ", "', '").replace("--etcd", "'--etcd") + "'"
        )
        .replace("''", "'");
        let manifest = Manifest::parse(&pod(&one)).unwrap();
        assert_eq!(manifest.servers.urls, ["http://a", "http://b"]);
        let others: Vec<&str> = manifest.overrides.iter().map(|one| one.resource.as_str()).collect();
        assert_eq!((others, manifest.prefix.as_deref()), (vec!["events", "secrets"], Some("/k8s")));
        let twice = format!("{one}, {one}");
        assert_eq!(Manifest::parse(&pod(&twice)), Err(ManifestError::SeveralApiServers));
    }

    #[test]
    fn flags_are_read_and_paths_translated_to_the_host() {
        let manifest = Manifest::parse(POD).unwrap();
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(manifest.servers.urls, ["https://127.0.0.1:2379", "https://10.0.0.2:2379"]);
        assert_eq!(manifest.servers.cafile, path("/etc/kubernetes/pki/etcd/ca.crt"));
        assert_eq!(manifest.servers.certfile, path("/etc/kubernetes/pki/apiserver-etcd-client.crt"));
        assert_eq!(manifest.servers.keyfile, path("/srv/keys/etcd/client.key"));
        assert_eq!(manifest.prefix.as_deref(), Some("/kubernetes.io"));
        let overrides: Vec<_> = manifest.overrides.iter().map(|one| (&*one.resource, one.urls.join(" "))).collect();
        let events = ("events", "https://127.0.0.1:2381 https://127.0.0.2:2381".to_owned());
        assert_eq!(overrides, [events, ("apps/deployments", "http://a".to_owned())]);
        assert_eq!(manifest.encryption_config, path("/etc/kubernetes/enc.yaml"));
    }

    #[test]
    fn anything_but_a_pod_of_an_api_server_is_refused() {
        let error = |text: &str| Manifest::parse(text).unwrap_err();
        assert!(matches!(error("]"), ManifestError::Syntax(_)));
        assert!(matches!(error("spec: 3"), ManifestError::Syntax(_)));
        assert_eq!(error("spec: {}").to_string(), "no container runs kube-apiserver");
        let bare = "{command: [kube-apiserver]}";
        let text = error(&format!("spec: {{containers: [{bare}]}}")).to_string();
        assert_eq!(text, "its kube-apiserver has no --etcd-servers");
        let text = error(&format!("spec: {{containers: [{bare}, {bare}]}}")).to_string();
        assert_eq!(text, "several containers run kube-apiserver, expected one");
        for entry in ["events", "events#", "/events#;"] {
            let command = format!("[kube-apiserver, --etcd-servers=a, '--etcd-servers-overrides={entry}']");
            let text = error(&format!("spec: {{containers: [{{command: {command}}}]}}")).to_string();
            let expected = format!("--etcd-servers-overrides has the entry {entry:?}, expected resource#server;server");
            assert_eq!(text, expected);
        }
    }
}
