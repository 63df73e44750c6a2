//! Asks the plugin of this node how it is.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use super::{failure::Failure, runtime::event_loop};
use crate::{
    config::Config,
    grpc::client::{ProbeAnswer, ProbeError, probe},
};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the plugin how it is, from a thread without an event loop.
///
/// # Errors
/// When this process cannot ask at all.
pub(super) fn probe_plugin(config: &Config) -> Result<Result<ProbeAnswer, ProbeError>, Failure> {
    Ok(event_loop()?.block_on(ask_plugin(config)))
}

/// Asks the plugin how it is.
///
/// # Errors
/// When it does not answer.
pub(super) async fn ask_plugin(config: &Config) -> Result<ProbeAnswer, ProbeError> {
    let owner = fs::metadata(&config.state_dir).ok().map(|dir| dir.uid());
    probe(&config.socket, owner, TIMEOUT).await
}
