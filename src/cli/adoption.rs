//! Waits until every connected API server has adopted a key.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    config::Config,
    grpc::client::{ProbeAnswer, ProbeError},
    keeper::{Changed, UsageDoubt},
    keyring::key_id::KeyId,
    service::ConnectionReport,
};

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

/// Asks the plugin of this node why API servers may still write under `key_id`. Returns `None` if every connected API server has adopted
/// another key, or if nobody listens at the socket, because no API server is connected then.
///
/// # Errors
/// When this process cannot ask at all.
pub(super) fn doubt(config: &Config, key_id: KeyId) -> Result<Option<UsageDoubt>, Failure> {
    Ok(doubt_of(probe_plugin(config)?, &key_id.to_string()))
}

fn doubt_of(answer: Result<ProbeAnswer, ProbeError>, key_id: &str) -> Option<UsageDoubt> {
    let report = match answer {
        Ok(answer) => answer.report,
        Err(ProbeError::Absent | ProbeError::Refused) => return None,
        Err(
            error @ (ProbeError::Impostor(_)
            | ProbeError::Denied
            | ProbeError::Connect(_)
            | ProbeError::Closed(_)
            | ProbeError::Status(..)
            | ProbeError::Timeout(_)),
        ) => return Some(UsageDoubt::PluginSilent(Arc::new(error))),
    };
    let Some(report) = report else { return Some(UsageDoubt::NotReported) };
    let has_another = |connection: &&ConnectionReport| {
        connection.adopted && connection.key_id.as_deref().is_some_and(|announced| announced != key_id)
    };
    let alive = report.connections.iter().filter(|connection| connection.is_alive());
    let servers = alive.filter(|connection| !has_another(connection)).count();
    (servers > 0).then_some(UsageDoubt::NotAdopted(servers))
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

#[cfg(test)]
mod tests {
    use std::io;

    use tonic::Code;

    use super::*;

    fn doubt(answer: Result<ProbeAnswer, ProbeError>) -> Option<String> {
        doubt_of(answer, "k1-aa").map(|doubt| doubt.to_string())
    }

    #[test]
    fn only_a_socket_where_nobody_listens_proves_that_no_api_server_writes() {
        assert_eq!(doubt(Err(ProbeError::Absent)), None);
        assert_eq!(doubt(Err(ProbeError::Refused)), None);
        for error in [
            ProbeError::Impostor(1000),
            ProbeError::Denied,
            ProbeError::Connect(io::ErrorKind::WouldBlock.into()),
            ProbeError::Closed("all places are taken".to_owned()),
            ProbeError::Status(Code::Unavailable, "sealed".to_owned()),
            ProbeError::Timeout(Duration::from_secs(3)),
        ] {
            let text = format!("the plugin did not say which key each API server has adopted: {error}");
            assert_eq!(doubt(Err(error)), Some(text));
        }
    }

    #[test]
    fn an_answer_without_a_report_proves_nothing() {
        let (version, healthz, key_id) = ("v2".to_owned(), "ok".to_owned(), "k2-bb".to_owned());
        let text = "the plugin does not report to this user which key each API server has adopted";
        assert_eq!(doubt(Ok(ProbeAnswer { version, healthz, key_id, report: None })).as_deref(), Some(text));
    }
}
