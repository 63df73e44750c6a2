//! Waits until every connected API server has adopted a key.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{config::Config, keeper::Changed, keyring::key_id::KeyId, service::ConnectionReport};

use super::{
    Format, Global,
    failure::{Exit, Failure},
    output,
    probe::probe_plugin,
};

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// An API server calls Status every 60 s and adopts a key within three calls. If it takes longer, an operator should look at it.
const PATIENCE: Duration = Duration::from_mins(10);

/// Waits, and prints how many API servers have adopted the key.
///
/// # Errors
/// When the plugin does not answer, does not report its connections to this user, or an API server does not adopt the key in time.
pub(super) fn wait(config: &Config, changed: &Changed, global: &Global) -> Result<Exit, Failure> {
    let key_id = changed.key_id.to_string();
    let (begin, mut printed) = (Instant::now(), None);
    while begin.elapsed() < PATIENCE {
        if let Some(connections) = alive(config, changed.keyring.generation())? {
            let adopted = connections.iter().filter(|connection| connection.has_adopted(&key_id)).count();
            let state = (adopted, connections.len());
            if printed != Some(state) && !global.quiet && global.output == Format::Text {
                output::text_line(&progress(&key_id, state))?;
            }
            if adopted == connections.len() {
                return Ok(Exit::Done);
            }
            printed = Some(state);
        }
        thread::sleep(LOOK);
    }
    let message =
        format!("{key_id} is promoted, but not every API server adopted it within {} minutes", PATIENCE.as_secs() / 60);
    Err(Failure::new(Exit::Found, &message, "which one has not: claviger status".to_owned()))
}

/// How many connected API servers may still write under `key_id`, because they have not adopted another key. Returns zero if no plugin
/// answers here, because no API server is connected then.
///
/// # Errors
/// When this process cannot ask at all.
pub(super) fn may_still_write(config: &Config, key_id: KeyId) -> Result<usize, Failure> {
    let name = key_id.to_string();
    let report = probe_plugin(config)?.ok().and_then(|answer| answer.report);
    let connections = report.iter().flat_map(|report| &report.connections).filter(|connection| connection.is_alive());
    let has_another = |connection: &&ConnectionReport| {
        connection.adopted && connection.key_id.as_deref().is_some_and(|announced| announced != name)
    };
    Ok(connections.filter(|connection| !has_another(connection)).count())
}

fn progress(key_id: &str, (adopted, of): (usize, usize)) -> String {
    match of {
        0 => "no API server is connected".to_owned(),
        1 => format!("{adopted} of 1 connection has adopted {key_id}"),
        _ => format!("{adopted} of {of} connections have adopted {key_id}"),
    }
}

/// The connections of live API servers; `None` until the plugin serves this generation.
fn alive(config: &Config, generation: u64) -> Result<Option<Vec<ConnectionReport>>, Failure> {
    let unknown = |reason: String| {
        let message = format!("the key is promoted, and cannot be waited for: {reason}");
        Failure::new(Exit::Unreachable, &message, "see whether the plugin serves: claviger status".to_owned())
    };
    let answer = probe_plugin(config)?.map_err(|error| unknown(error.to_string()))?;
    let report =
        answer.report.ok_or_else(|| unknown("the plugin does not report its connections to this user".to_owned()))?;
    let alive = report.connections.into_iter().filter(ConnectionReport::is_alive).collect();
    Ok((report.generation >= generation).then_some(alive))
}
