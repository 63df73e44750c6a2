//! Reads kube-apiserver's flags from its static pod.
//!
//! Paths in flags are the container's. The pod's mounts show where they are on the host. The kubelet replaces `$(NAME)`
//! by a variable of the container before the command starts, and `$$` by a dollar sign.
//!
//! Source: `k8s.io/kubernetes`, `third_party/forked/golang/expansion/expand.go`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    error::{FlagsError, NoApiServer},
    flags::{CommandLine, ReadFlags},
    program::{api_server, is_program},
    variables::Variables,
    words::Words,
};

/// The greatest number of mounts of a container. Each path in a flag is compared with all of them.
const MOUNTS_MAX: usize = 1000;

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
    image: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    #[serde(default)]
    volume_mounts: Vec<Mount>,
    working_dir: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    /// The value of the variable. `None` if it comes from another object.
    value: Option<String>,
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

/// Reads a static pod.
///
/// # Errors
/// When `text` is not the pod of one kube-apiserver, or its flags cannot be used.
pub(super) fn read(text: &str) -> Result<ReadFlags, FlagsError> {
    let pod: Pod = serde_saphyr::from_str(text).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        FlagsError::Syntax(first.strip_prefix("error: ").unwrap_or(first).to_owned())
    })?;
    let Spec { containers, volumes } = &pod.spec;
    let mut found = containers.iter().filter_map(|one| Some((one, one.api_server()?)));
    let (container, command) = found.next().ok_or(FlagsError::NoApiServer(NoApiServer::Pod))?;
    if found.next().is_some() {
        return Err(FlagsError::SeveralApiServers);
    }
    let mounts = container.volume_mounts.len().max(volumes.len());
    if mounts > MOUNTS_MAX {
        return Err(FlagsError::Mounts(mounts));
    }
    let locate = |path: &str| container.on_host(Path::new(path), volumes);
    CommandLine { words: &command.words, unknown: command.unknown, locate: &locate }.read()
}

impl Container {
    /// Returns the arguments of kube-apiserver, if this container runs it.
    fn api_server(&self) -> Option<Words> {
        let variables = self.variables();
        let mut command = Words::default();
        for text in self.command.iter().chain(&self.args) {
            let word = expand(text, &variables, &mut command.unknown);
            command.words.push(word);
        }
        // Without a command, the container runs the program that its image names.
        let image = self.image.split(['@', ':']).next().unwrap_or_default();
        if self.command.is_empty() && is_program(image) {
            return Some(command);
        }
        api_server(command, &|name| variables.value(name))
    }

    /// Returns the variables whose value is known. A value may refer to the variables before it.
    fn variables(&self) -> Variables {
        let mut variables = Variables::default();
        for Variable { name, value } in &self.env {
            let mut unknown = BTreeSet::new();
            let value = value.as_ref().map(|value| expand(value, &variables, &mut unknown));
            variables.set(name.clone(), value.filter(|_| unknown.is_empty()));
        }
        variables
    }

    /// Returns the path on the host of a path in the container, according to the longest mount that contains it. A path
    /// outside of all mounts is returned unchanged: the manifest may leave out mounts although the path is the host's.
    fn on_host(&self, path: &Path, volumes: &[Volume]) -> Option<PathBuf> {
        let path = if path.is_absolute() { path.to_owned() } else { self.working_dir.as_ref()?.join(path) };
        let mounts = self.volume_mounts.iter().filter(|mount| path.starts_with(&mount.path));
        let Some(mount) = mounts.max_by_key(|mount| mount.path.components().count()) else { return Some(path) };
        let volume = volumes.iter().find(|volume| volume.name == mount.name)?;
        let rest = path.strip_prefix(&mount.path).ok()?;
        let base = &volume.host_path.as_ref()?.path;
        let base = mount.sub_path.as_ref().map_or_else(|| base.clone(), |sub| base.join(sub));
        // Joining an empty path would append a slash.
        Some(if rest.as_os_str().is_empty() { base } else { base.join(rest) })
    }
}

/// Replaces each `$(NAME)` by its value, and each `$$` by a dollar sign. An expression without a known value stays, and
/// is added to `unknown`.
fn expand(text: &str, variables: &Variables, unknown: &mut BTreeSet<String>) -> String {
    let (mut expanded, mut rest, mut is_closed) = (String::new(), text, true);
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let inner = rest.strip_prefix('(').filter(|_| is_closed);
        let Some((name, after)) = inner.and_then(|inner| inner.split_once(')')) else {
            // If nothing closes this expression, nothing closes a later one.
            is_closed &= inner.is_none();
            expanded.push('$');
            continue;
        };
        if let Some(value) = variables.value(name) {
            expanded.push_str(&value);
        } else {
            let written = format!("$({name})");
            expanded.push_str(&written);
            unknown.insert(written);
        }
        rest = after;
    }
    expanded + rest
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
    - --encryption-provider-config=/enc/config.yaml
    volumeMounts:
    - {name: pki, mountPath: /etc/kubernetes/pki}
    - {name: keys, mountPath: /keys, subPath: etcd}
    - {name: enc, mountPath: /enc/config.yaml}
    - {name: other, mountPath: /other}
  volumes:
  - {name: pki, hostPath: {path: /etc/kubernetes/pki, type: Directory}}
  - {name: keys, hostPath: {path: /srv/keys}}
  - {name: enc, hostPath: {path: /etc/kubernetes/enc.yaml}}
  - {name: other, emptyDir: {}}
";

    fn pod(container: &str) -> String {
        format!("spec: {{containers: [{container}]}}")
    }

    fn doubts(text: &str) -> Vec<String> {
        read(text).unwrap().doubts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn flags_are_read_and_paths_translated_to_the_host() {
        let ReadFlags { flags, doubts } = read(POD).unwrap();
        assert_eq!(flags.servers.urls, ["https://127.0.0.1:2379", "https://10.0.0.2:2379"]);
        assert_eq!(flags.servers.cafile, Some("/etc/kubernetes/pki/etcd/ca.crt".into()));
        assert_eq!(flags.servers.certfile, Some("/etc/kubernetes/pki/apiserver-etcd-client.crt".into()));
        assert_eq!(flags.servers.keyfile, Some("/srv/keys/etcd/client.key".into()));
        assert_eq!(flags.encryption_config, Some("/etc/kubernetes/enc.yaml".into()));
        assert_eq!(doubts, []);
    }

    #[test]
    fn a_path_in_a_volume_that_is_not_the_hosts_is_a_doubt() {
        let text = POD.replace("/enc/config.yaml", "/other/config.yaml");
        let expected =
            "--encryption-provider-config names /other/config.yaml, and it is not known where that is on this machine";
        assert_eq!(doubts(&text.replacen("mountPath: /other/config.yaml", "mountPath: /enc", 1)), [expected]);
        let relative = "{command: [kube-apiserver, --etcd-servers=a, --etcd-cafile=ca], workingDir: /pki}";
        assert_eq!(read(&pod(relative)).unwrap().flags.servers.cafile, Some("/pki/ca".into()));
    }

    /// Without a limit, a thousand bytes could ask for terabytes of memory.
    #[test]
    fn variables_that_contain_each_other_many_times_fill_no_memory() {
        let nested =
            |number: usize| format!("{{name: V{}, value: '{}'}}", number + 1, format!("$(V{number})").repeat(10));
        let variables: Vec<String> = (0..12).map(nested).collect();
        let env = format!("{{name: V0, value: xxxxxxxxxx}}, {}", variables.join(", "));
        for command in ["[kube-apiserver, '--etcd-servers=$(V12)']", "[sh, -c, 'kube-apiserver --etcd-servers=$V12']"] {
            let doubts = doubts(&pod(&format!("{{command: {command}, env: [{env}]}}")));
            assert_eq!(doubts.len(), 1, "{doubts:?}");
            assert!(doubts[0].ends_with("V12, whose value is not known") || doubts[0].contains("$(V12)"), "{doubts:?}");
        }
        let many = "--etcd-servers=$(V5) ".repeat(100);
        let ReadFlags { flags, doubts } =
            read(&pod(&format!("{{image: kube-apiserver, args: ['{many}'], env: [{env}]}}"))).unwrap();
        assert!(flags.servers.urls.iter().map(String::len).sum::<usize>() < 16 << 20);
        assert!(!doubts.is_empty());
    }

    #[test]
    fn a_pod_with_more_mounts_than_any_has_is_refused() {
        let mounts = vec!["{name: a, mountPath: /a}"; 1001].join(", ");
        let text = pod(&format!("{{command: [kube-apiserver, --etcd-servers=a], volumeMounts: [{mounts}]}}"));
        assert_eq!(read(&text).unwrap_err().to_string(), "its kube-apiserver has 1001 mounts, expected at most 1000");
    }

    #[test]
    fn a_shells_script_is_read() {
        let script = "exec /usr/local/bin/kube-apiserver --etcd-servers=http://a --etcd-prefix=\\\"$P\\\" 1>>/log 2>&1";
        let container = format!("{{command: [/bin/sh, -c, \"{script}\"], env: [{{name: P, value: /k8s}}]}}");
        let ReadFlags { flags, .. } = read(&pod(&container)).unwrap();
        assert_eq!((flags.servers.urls, flags.prefix.as_deref()), (vec!["http://a".to_owned()], Some("/k8s")));
    }

    #[test]
    fn the_kubelets_variables_are_replaced_and_unknown_ones_are_doubts() {
        let env =
            "env: [{name: A, value: /a}, {name: B, value: $(A)/b}, {name: C, valueFrom: {}}, {name: D, value: $(C)}]";
        let of = |flags: &str| pod(&format!("{{command: [kube-apiserver, --etcd-servers=x, {flags}], {env}}}"));
        let ReadFlags { flags, doubts: found } =
            read(&of("--etcd-prefix=$(B)$$(A)$, --encryption-provider-config=$$$(A)")).unwrap();
        assert_eq!((flags.prefix.as_deref(), flags.encryption_config), (Some("/a/b$(A)$"), None));
        assert_eq!(found.len(), 1, "the path $/a is relative");
        for name in ["C", "D", "E"] {
            let expected = format!("--etcd-prefix contains $({name}), whose value is not known");
            assert_eq!(doubts(&of(&format!("--etcd-prefix=/x$({name})"))), [expected]);
        }
    }

    #[test]
    fn a_container_without_a_command_runs_what_its_image_names() {
        let container = "{image: 'registry.k8s.io/kube-apiserver:v1.36.2@sha256:0', args: [--etcd-servers=http://a]}";
        assert_eq!(read(&pod(container)).unwrap().flags.servers.urls, ["http://a"]);
    }

    #[test]
    fn anything_but_a_pod_of_one_api_server_is_refused() {
        let error = |text: &str| read(text).unwrap_err();
        assert!(matches!(error("]"), FlagsError::Syntax(_)));
        assert!(matches!(error("spec: 3"), FlagsError::Syntax(_)));
        assert_eq!(error("spec: {}").to_string(), "no container runs kube-apiserver");
        let bare = "{command: [kube-apiserver]}";
        assert_eq!(error(&pod(bare)).to_string(), "its kube-apiserver has no --etcd-servers");
        let text = error(&pod(&format!("{bare}, {bare}"))).to_string();
        assert_eq!(text, "several containers run kube-apiserver, expected one");
    }
}
