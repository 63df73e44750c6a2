//! Runs kube-controller-manager with the migrator of storage versions, and the garbage collector that it needs.

use std::fs;

use super::api_server::ApiServer;
use super::binaries::Program;
use super::commands::isolated;
use super::error::{Context, Result};
use super::processes::{Process, Run};

/// A running kube-controller-manager. It is killed when dropped.
pub(crate) struct ControllerManager {
    _process: Process,
}

impl ControllerManager {
    /// Starts it with the administrator's kubeconfig of an API server. Does not wait: it serves nothing.
    pub(crate) fn start(run: &Run, api: &ApiServer) -> Result<Self> {
        let name = run.unique_name("kube-controller-manager");
        let directory = run.path(&name);
        fs::create_dir(&directory).during(|| format!("making {}", directory.display()))?;
        let mut command = isolated(&Program::KubeControllerManager.path()?, &directory);
        command.arg(format!("--kubeconfig={}", api.kubeconfig().display())).args([
            "--controllers=garbage-collector-controller,storage-version-migrator-controller",
            "--leader-elect=false",
            "--secure-port=0",
        ]);
        Ok(Self { _process: run.start(&name, command)? })
    }
}
