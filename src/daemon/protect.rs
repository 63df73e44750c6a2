//! Confines the process before any key is in its memory, and logs which layers of protection are in force.

use std::{error::Error, fs, os::unix::fs::MetadataExt};

use tracing::{error, info};

use crate::{
    config::Config,
    hardening::{self, FilesError, Layer, LayerState, Layers, OwnFacts, Restricted},
    memory::Protection,
    telemetry::{advice, event},
};

/// Gives up the system calls that a started daemon does not need, and logs which layers of protection are in force.
/// `files` is the outcome of restricting the files of this process.
pub(super) fn protect(config: &Config, files: &Result<Option<Restricted>, FilesError>) -> Layers {
    let landlock = match files {
        Ok(restricted) => restricted.as_ref().map_or(LayerState::Off, |restricted| restricted.state),
        Err(error) => failed(Layer::Landlock, error),
    };
    let seccomp = if config.without.contains(&Layer::Seccomp) {
        LayerState::Off
    } else {
        hardening::restrict_calls(own_facts(config)).unwrap_or_else(|error| failed(Layer::Seccomp, &error))
    };
    // If this fails, opening the keyring fails for the same reason, and reports it.
    let memory = Protection::here().map_or(LayerState::Failed.as_str(), Protection::as_str);
    let layers = Layers { memory, landlock, seccomp };
    info!(message = event::PROTECTED, memory = layers.memory, %landlock, %seccomp);
    layers
}

fn own_facts(config: &Config) -> OwnFacts {
    let owner = fs::metadata(&config.state_dir).ok().map(|dir| (dir.uid(), dir.gid()));
    OwnFacts {
        pid: std::process::id(),
        is_root: rustix::process::geteuid().is_root(),
        group: rustix::process::getgid().as_raw(),
        socket_group: config.socket_access.group,
        owner,
    }
}

fn failed(layer: Layer, error: &dyn Error) -> LayerState {
    error!(message = event::UNPROTECTED, %layer, %error, advice = advice::UNPROTECTED);
    LayerState::Failed
}
