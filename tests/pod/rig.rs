//! A cluster of one node that was shut down by force: the files on its disks, and how each part is started again.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::wait::wait_until;
use crate::harness::{
    api_server::{ApiServer, Options},
    etcd::Etcd,
    images::{Image, image},
    node::Node,
    plugin::Plugin,
    processes::{Process, Run},
    progress::skipped,
};
use crate::rotate::hurried;

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// The time limit for anything that happens by itself. It takes seconds, unless the machine is busy.
const PATIENCE: Duration = Duration::from_mins(3);

pub struct Rig {
    pub api: ApiServer,
    pub etcd: Etcd,
    /// The plugin's keys and command line. Its process is that of the static Pod.
    plugin: Plugin,
    /// The image with the binary of these tests.
    image: Image,
    node: Node,
    pub run: Run,
}

impl Rig {
    /// Brings up a cluster with the plugin as a process, lets `fill` use it, and kills all of it; the node was never
    /// up.
    ///
    /// Starts everything as after a power cut. If this machine cannot have a node, prints that and returns `None`.
    pub fn after_a_power_cut(fill: impl FnOnce(&Self)) -> Option<Self> {
        if let Some(reason) = Node::impossible() {
            skipped(&format!("no Pods on this machine: {reason}"));
            return None;
        }
        let mut rig = Self::start();
        fill(&rig);
        rig.api.kill().unwrap();
        rig.etcd.kill(0).unwrap();
        rig.plugin.kill().unwrap();
        // The directory is removed, because nothing in /run survives.
        fs::remove_dir_all(rig.run.path("socket")).unwrap();
        Some(rig)
    }

    fn start() -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let mut plugin = Plugin::init(&run, BINARY, "state").unwrap();
        fs::create_dir(run.path("socket")).unwrap();
        plugin.serve(run.socket("socket/kms.sock").unwrap().display().to_string()).unwrap();
        let config = plugin.encryption_config(&["secrets"], true).unwrap();
        let image = image(&run, Path::new(BINARY), "localhost/claviger:test").unwrap();
        let node = Node::plan(&run, std::slice::from_ref(&image)).unwrap();
        let options = ApiServer::on(&run, &etcd).encryption_config(config);
        let api = node.flags_for_api_server().into_iter().fold(options, Options::argument);
        Self { api: api.start().unwrap(), etcd, plugin, image, node, run }
    }

    pub fn start_node(&mut self) {
        self.node.start(&self.api.kubeconfig()).unwrap();
    }

    /// Gives the kubelet `deploy/static-pod.yaml` unchanged, except for the image and the host's directories.
    pub fn add_plugin(&self) {
        let shipped = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/static-pod.yaml")).unwrap();
        let placeholder = shipped.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap();
        let manifest = shipped
            .replace(placeholder, &self.image.reference)
            .replace(" path: /run/claviger\n", &format!(" path: {}\n", self.run.path("socket").display()))
            .replace(" path: /var/lib/claviger\n", &format!(" path: {}\n", self.plugin.state_dir().display()));
        assert_eq!(manifest.matches(self.run.directory().to_str().unwrap()).count(), 2, "{manifest}");
        self.node.add_static_pod("claviger.yaml", &manifest).unwrap();
    }

    /// Waits until `claviger status` on the host reaches the static Pod.
    pub fn wait_for_plugin(&mut self) {
        let socket = self.socket().display().to_string();
        let (node, plugin) = (&mut self.node, &self.plugin);
        let answers = || plugin.claviger(&["status", "--backups", "none", "--socket", &socket]).is_ok();
        node.process().unwrap().wait_until("running the plugin", PATIENCE, answers).unwrap();
    }

    /// Returns the process that listens on the plugin's socket, by its PID outside of the namespaces.
    pub fn plugin_process(&self) -> Pid {
        let connection = UnixStream::connect(self.socket()).unwrap();
        rustix::net::sockopt::socket_peercred(&connection).unwrap().pid
    }

    /// Kills the plugin in its container. The kubelet starts another one.
    pub fn kill_plugin(&self) {
        kill_process(self.plugin_process(), Signal::KILL).unwrap();
    }

    /// Runs a verb that needs only the keyring.
    pub fn claviger(&self, arguments: &[&str]) -> String {
        self.plugin.claviger(arguments).unwrap()
    }

    /// Returns the flags that say where etcd is and what has to be encrypted.
    pub fn places(&self) -> [String; 2] {
        let config = self.run.path("state-encryption.yaml");
        [format!("--etcd-servers={}", self.etcd.endpoints()), format!("--encryption-config={}", config.display())]
    }

    /// Starts a rotation of the static Pod's keys, with the clock of the tests.
    pub fn rotate(&self, more: &[&str]) -> Process {
        let mut command = Command::new(hurried());
        command.arg("rotate").args(more).args(self.places());
        command.arg("--state-dir").arg(self.plugin.state_dir()).arg("--socket").arg(self.socket());
        command.arg("--kubeconfig").arg(self.api.kubeconfig());
        self.run.start("rotation", command).unwrap()
    }

    /// Returns the log of the kubelet and of containerd.
    pub fn node_log(&mut self) -> String {
        self.node.process().unwrap().log()
    }

    pub fn wait_for_phase(&mut self, namespace: &str, pod: &str, phase: &str) {
        let api = &self.api;
        let ask = ["get", "pod", pod, "--namespace", namespace, "--output", "jsonpath={.status.phase}"];
        let reached = || api.kubectl(&ask).is_ok_and(|found| found == phase);
        self.node.process().unwrap().wait_until(&format!("done with {pod}, {phase}"), PATIENCE, reached).unwrap();
    }

    /// Starts the API server again whenever it ends, as the kubelet does, until `wanted` returns true.
    pub fn keep_api_server_until(&mut self, wanted: impl Fn(&ApiServer) -> bool) {
        wait_until("the API server is as wanted", || {
            if self.api.process().unwrap().ended().unwrap().is_some() {
                self.api.launch().unwrap();
            }
            wanted(&self.api)
        });
    }

    fn socket(&self) -> PathBuf {
        self.run.path("socket/kms.sock")
    }
}
