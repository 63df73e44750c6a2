//! Tests Pods of a real kubelet and a real containerd, which read Secrets that claviger encrypts, also during a
//! rotation. Tests claviger as the static Pod in `deploy/`, which starts in any order with the other programs.
//!
//! Each test begins as after a loss of power: etcd's data and claviger's keys are on the disk, and nothing runs.

mod rig;
mod rotation;

use std::{env, fs, path::Path};

use rustix::process::Pid;

use crate::harness::wait::wait_until;
use rig::Rig;

/// The values of the Secrets. None of them may be readable in etcd.
const VALUES: [&str; 4] = ["s-pod-from-file", "s-pod-alice", "s-pod-pa$$w0rd", "s-pod-from-yaml"];

/// Two Secrets as files and one in the environment. `POD_NAME` is replaced. There is no scheduler, so `nodeName` is
/// set.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: POD_NAME}
spec:
  nodeName: localhost
  hostNetwork: true
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  containers:
  - name: reader
    image: localhost/reader:1
    imagePullPolicy: Never
    args: [show, /etc/credentials]
    env:
    - {name: USER_NAME, valueFrom: {secretKeyRef: {name: from-literals, key: user}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: from-literals, key: password}}}
    volumeMounts:
    - {name: credentials, mountPath: /etc/credentials, readOnly: true}
  volumes:
  - name: credentials
    projected:
      sources:
      - secret: {name: from-file, items: [{key: username.txt, path: file/username}]}
      - secret: {name: from-yaml, items: [{key: token, path: token}]}
";

/// The lines that the Pod prints about its Secrets. The last bytes of the file are no text.
const PRINTED: [&str; 4] = [
    r#"file /etc/credentials/file/username "s-pod-from-file\n\x00\xff""#,
    r#"file /etc/credentials/token "s-pod-from-yaml""#,
    r#"variable PASSWORD "s-pod-pa$$w0rd""#,
    r#"variable USER_NAME "s-pod-alice""#,
];

/// Creates the Secrets in the three ways that users have.
fn create_secrets(rig: &Rig) {
    let file = rig.run.path("username.txt");
    fs::write(&file, b"s-pod-from-file\n\x00\xff").unwrap();
    let from_file = format!("--from-file={}", file.display());
    rig.api.kubectl(&["create", "secret", "generic", "from-file", &from_file]).unwrap();
    let literals = ["--from-literal=user=s-pod-alice", "--from-literal=password=s-pod-pa$$w0rd"];
    rig.api.kubectl(&[&["create", "secret", "generic", "from-literals"], &literals[..]].concat()).unwrap();
    let yaml = "{apiVersion: v1, kind: Secret, metadata: {name: from-yaml}, stringData: {token: s-pod-from-yaml}}";
    rig.api.kubectl_stdin(&["apply", "-f", "-"], yaml).unwrap();
}

/// Creates the Secrets, and a Pod that waits for its node, which is not up yet.
fn create_secrets_and_a_pod(rig: &Rig) {
    create_secrets(rig);
    create_pod(rig, "waiting");
}

fn create_pod(rig: &Rig, name: &str) {
    rig.api.kubectl_stdin(&["create", "-f", "-"], &POD.replace("POD_NAME", name)).unwrap();
}

/// Waits until the Pod has ended with success, and checks what it printed.
fn assert_pod_read_the_secrets(rig: &mut Rig, name: &str) {
    rig.wait_for_phase("default", name, "Succeeded");
    let log = rig.api.kubectl(&["logs", name]).unwrap();
    let ours = |line: &&str| line.starts_with("file ") || PRINTED.iter().any(|printed| is_of_the_same(printed, line));
    let mut printed: Vec<&str> = log.lines().filter(ours).collect();
    printed.sort_unstable();
    assert_eq!(printed, PRINTED, "{log}");
}

/// Whether two lines are about the same variable or file.
fn is_of_the_same(one: &str, other: &str) -> bool {
    one.split(' ').take(2).eq(other.split(' ').take(2))
}

fn assert_secrets_are_unreadable_in_etcd(rig: &Rig) {
    for name in ["from-file", "from-literals", "from-yaml"] {
        let value = rig.etcd.get(&format!("/registry/secrets/default/{name}")).unwrap().expect("the Secret is in etcd");
        assert!(value.starts_with(b"k8s:enc:kms:v2:claviger:"), "{name} is not under our provider");
        for needle in VALUES {
            let readable = value.windows(needle.len()).any(|window| window == needle.as_bytes());
            assert!(!readable, "{needle} can be read in {name}");
        }
    }
}

/// Checks with the kernel that the static Pod has given up everything that it should.
fn assert_is_confined(plugin: Pid) {
    let status = fs::read_to_string(format!("/proc/{}/status", plugin.as_raw_nonzero())).unwrap();
    for expected in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.lines().any(|line| line == expected), "{expected} is not in\n{status}");
    }
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", plugin.as_raw_nonzero())).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.split(' ').nth(3).unwrap().split(',').any(|option| option == "ro"), "{root}");
}

#[test]
fn the_plugin_starts_on_a_dead_cluster_and_pods_read_secrets_also_after_both_were_killed() {
    let Some(mut rig) = Rig::after_a_power_cut(create_secrets_and_a_pod) else { return };
    rig.start_node();
    rig.add_plugin();
    rig.wait_for_plugin();
    assert_is_confined(rig.plugin_process());

    rig.etcd.launch(0).unwrap();
    rig.etcd.wait_until_healthy(0).unwrap();
    rig.api.launch().unwrap();
    rig.api.wait_until_ready().unwrap();
    assert_pod_read_the_secrets(&mut rig, "waiting");
    assert_secrets_are_unreadable_in_etcd(&rig);
    // The kubelet reports the static Pod when an API server runs.
    rig.wait_for_phase("kube-system", "claviger-localhost", "Running");
    assert!(!rig.node_log().contains("mirror pod creation may fail"), "the kubelet doubts the static Pod");

    let before = rig.plugin_process();
    rig.kill_plugin();
    rig.api.restart().unwrap();
    assert_ne!(rig.plugin_process(), before, "the kubelet has started another one");
    create_pod(&rig, "second");
    assert_pod_read_the_secrets(&mut rig, "second");
    assert_nothing_is_left_of(rig);
}

#[test]
fn a_cluster_comes_up_in_the_worst_order() {
    let Some(mut rig) = Rig::after_a_power_cut(create_secrets_and_a_pod) else { return };
    // The kubelet runs without an API server, and the API server without etcd.
    rig.start_node();
    rig.api.launch().unwrap();
    let etcd = rig.etcd.endpoints().replace("http://", "dial tcp ");
    wait_until("the API server misses etcd", || {
        rig.api.log().unwrap().contains(&format!("{etcd}: connect: connection refused"))
    });
    // The API server runs without the plugin, and says what is missing.
    rig.etcd.launch(0).unwrap();
    rig.etcd.wait_until_healthy(0).unwrap();
    rig.keep_api_server_until(|api| api.readyz().is_err_and(|error| error.to_string().contains("kms-provider")));
    assert!(rig.api.kubectl(&["get", "secret", "from-file"]).is_err());

    rig.add_plugin();
    rig.wait_for_plugin();
    rig.keep_api_server_until(|api| api.readyz().is_ok());
    let secret = rig.api.kubectl(&["get", "secret", "from-yaml", "-o", "go-template={{.data.token | base64decode}}"]);
    assert_eq!(secret.unwrap(), "s-pod-from-yaml");
    assert_pod_read_the_secrets(&mut rig, "waiting");
}

/// Ends everything, as at the end of a test or after a panic, and checks that nothing is left.
fn assert_nothing_is_left_of(rig: Rig) {
    let directory = rig.run.directory().to_owned();
    assert!(is_named(&directory), "the kubelet's command line names the directory");
    drop(rig);
    wait_until("every process has ended", || !is_named(&directory));
    let kept = env::var_os("CLAVIGER_TEST_KEEP").is_some();
    assert!(kept || !directory.exists(), "{} is left behind", directory.display());
}

/// Whether a process has the directory on its command line, or a mount below it exists.
fn is_named(directory: &Path) -> bool {
    let name = directory.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.chain(fs::read("/proc/self/mountinfo")).any(|line| String::from_utf8_lossy(&line).contains(name))
}
