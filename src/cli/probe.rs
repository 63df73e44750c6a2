//! Asks the plugin on this node for its health and its report, and explains a missing answer.

use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use tokio::runtime::Runtime;

#[cfg(feature = "scan")]
use super::{arguments::Global, failure::warn};
use super::{
    failure::Failure,
    live::{LivePlugin, PluginSearch},
    runtime::event_loop,
};
use crate::{
    config::Config,
    listen::Address,
    probe::{ProbeAnswer, ProbeError, probe, probe_with},
};
#[cfg(feature = "scan")]
use crate::{durable::LifeLock, keyring::Keyring};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the plugin for its health and report, from a thread without an event loop.
///
/// # Errors
/// When it does not answer.
pub(super) fn probe_plugin(runtime: &Runtime, config: &Config) -> Result<ProbeAnswer, ProbeError> {
    runtime.block_on(ask_plugin(config))
}

/// Asks the plugin for its health and report.
///
/// # Errors
/// When it does not answer.
pub(super) async fn ask_plugin(config: &Config) -> Result<ProbeAnswer, ProbeError> {
    probe(&config.socket, owner(config), TIMEOUT).await
}

/// Asks the plugin for its health and report, and to open a canary under the key `key_id`.
///
/// # Errors
/// When it does not answer.
#[cfg(feature = "reencrypt")]
pub(super) async fn ask_canary(config: &Config, key_id: &str, canary: &[u8]) -> Result<ProbeAnswer, ProbeError> {
    probe_with(&config.socket, owner(config), Some((key_id, canary)), TIMEOUT).await
}

/// Looks for a running plugin, at the configured socket and nowhere else.
///
/// # Errors
/// When this process cannot ask at all.
pub(super) fn find_plugin(config: &Config) -> Result<PluginSearch, Failure> {
    let socket = config.socket.endpoint();
    Ok(match probe_plugin(&event_loop()?, config) {
        Err(error @ (ProbeError::Absent | ProbeError::Refused)) => {
            PluginSearch::Absent { socket, reason: error.to_string() }
        }
        Err(error) => PluginSearch::Unanswered { socket, error: Arc::new(error) },
        Ok(answer) => match answer.report.and_then(|report| LivePlugin::of(socket.clone(), report)) {
            Some(plugin) => PluginSearch::Found(Box::new(plugin)),
            None => PluginSearch::Silent { socket, reason: "it does not say so to this user".to_owned() },
        },
    })
}

/// The hint if a plugin serves from the state directory, and not at the socket that the command asks.
pub(super) const SERVES_ELSEWHERE: &str = "a plugin serves from this state directory at another socket: give its socket, which its log \
                                           line `listening` names, here and to later commands: --socket SOCKET";

/// Warns that `what` needs the plugin, if nobody listens at its socket, and names the command that starts a plugin.
/// Returns whether it has warned.
#[cfg(feature = "scan")]
pub(super) fn warn_if_absent(
    what: &str,
    search: &PluginSearch,
    keyring: &Keyring,
    site: &Config,
    global: &Global,
) -> bool {
    let (PluginSearch::Absent { .. }, Some(absence)) = (search, search.absence()) else { return false };
    let hint = match LifeLock::is_held(&site.state_dir) {
        Ok(true) => SERVES_ELSEWHERE.to_owned(),
        // If the lock cannot be asked, the plugin's own start reports why.
        Ok(false) | Err(_) => format!("start it: {}", search.start(keyring, &site.state_dir)),
    };
    warn(&format!("{what} needs the plugin, and {absence}"), &hint, global);
    true
}

/// Returns the user who may listen at the socket, besides root and this user: the owner of the state directory. Without
/// a state directory, or if root owns it, returns the owner of the socket's directory, because that user controls the
/// socket anyway.
fn owner(config: &Config) -> Option<u32> {
    let owner_of = |path: &Path| fs::metadata(path).ok().map(|found| found.uid());
    owner_of(&config.state_dir).filter(|owner| *owner != 0).or_else(|| match &config.socket {
        Address::Path(path) => owner_of(path.parent()?),
        Address::Abstract(_) => None,
    })
}
