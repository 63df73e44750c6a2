//! Asks the plugin of this node how it is.

use std::time::Duration;

use super::{failure::Failure, runtime::event_loop};
use crate::{
    config::Config,
    grpc::client::{ProbeAnswer, ProbeError, probe},
};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the plugin how it is.
///
/// # Errors
/// When this process cannot ask at all.
pub(super) fn probe_plugin(config: &Config) -> Result<Result<ProbeAnswer, ProbeError>, Failure> {
    Ok(event_loop()?.block_on(probe(&config.socket, TIMEOUT)))
}
