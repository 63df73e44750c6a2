//! Waits until every connected API server has adopted a key. Asks the plugin on this node, which sees from the calls on
//! each connection which key its API server has adopted.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::{config::Config, keyring::key_id::KeyId, service::SelfReport};

use super::{
    Global,
    failure::{Exit, Failure},
    output,
    probe::ask_plugin,
    runtime::event_loop,
};

/// The time between two questions to the plugin.
const LOOK: Duration = Duration::from_millis(500);

/// How long to wait for the adoption. An API server calls Status every 60 s and adopts a key within three calls. If it
/// takes longer, an operator should look at the API server.
const PATIENCE: Duration = Duration::from_mins(10);

/// The primary key that the API servers should adopt, and a generation in which it is primary.
pub(super) struct Awaited {
    pub(super) key_id: KeyId,
    pub(super) generation: u64,
}

/// The number of connected API servers, and the number of those that have adopted the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Adopted {
    adopted: usize,
    connected: usize,
}

/// The end of a wait.
enum Waited {
    /// Every connected API server has adopted the key.
    Adopted(Exit),
    /// No API server is connected. A plugin that has just started does not know its API servers yet.
    Nobody,
}

/// Checks before a change that its adoption can be waited for.
///
/// # Errors
/// When the plugin does not answer, or does not report its connections to this user.
pub(super) fn check(config: &Config) -> Result<(), Failure> {
    event_loop()?.block_on(connections(config)).map(drop).map_err(|failure| failure.about("nothing was promoted"))
}

/// Waits, and prints how many API servers have adopted the key.
///
/// # Errors
/// When the plugin does not answer, does not report its connections to this user, an API server does not adopt the key
/// in time, or the user interrupts.
pub(super) fn wait(config: &Config, awaited: &Awaited, global: &Global) -> Result<Exit, Failure> {
    event_loop()?.block_on(async {
        let mut last = None;
        let adopted = tokio::select! {
            // The signal is polled first, so that it is caught before anything is printed.
            biased;
            _ = tokio::signal::ctrl_c() => None,
            adopted = timeout(PATIENCE, adopt(config, awaited, &mut last, global)) => Some(adopted),
        };
        match adopted {
            Some(Ok(Ok(Waited::Adopted(exit)))) => Ok(exit),
            Some(Ok(Ok(Waited::Nobody))) => Err(unadopted(awaited, Exit::Found, NOBODY)),
            Some(Ok(Err(failure))) => Err(lost(awaited, failure)),
            Some(Err(_)) => Err(unadopted(awaited, Exit::Found, &too_late())),
            None => Err(unadopted(awaited, Exit::Interrupted, &interrupted(awaited, last))),
        }
    })
}

fn unadopted(awaited: &Awaited, exit: Exit, reason: &str) -> Failure {
    let message = format!("{} is primary, but {reason}", awaited.key_id);
    Failure::new(exit, &message, format!("to see which API server has not: claviger status; {}", again(awaited)))
}

/// Returns the failure of a wait: the plugin answered before the promotion, and does not answer now.
fn lost(awaited: &Awaited, failure: Failure) -> Failure {
    let hint = format!("to see how the plugin is: claviger status; {}", again(awaited));
    failure.about(&format!("{} is primary", awaited.key_id)).with_hint(&hint)
}

fn again(awaited: &Awaited) -> String {
    format!("to go on waiting: claviger key promote {} --wait", awaited.key_id)
}

fn too_late() -> String {
    format!("not every API server adopted it within {} minutes", PATIENCE.as_secs() / 60)
}

fn interrupted(awaited: &Awaited, last: Option<Adopted>) -> String {
    let known =
        last.map_or_else(|| "no answer came yet".to_owned(), |last| progress(&awaited.key_id.to_string(), last));
    format!("you interrupted the wait: {known}")
}

const NOBODY: &str =
    "no API server is connected, so nobody has adopted it; one that runs connects within a minute or two";

/// Waits until every connected API server has adopted the key, or none is connected.
async fn adopt(
    config: &Config,
    awaited: &Awaited,
    last: &mut Option<Adopted>,
    global: &Global,
) -> Result<Waited, Failure> {
    let key_id = awaited.key_id.to_string();
    let mut printed = Ok(());
    loop {
        let report = connections(config).await?;
        if report.generation >= awaited.generation {
            let now = count(&report, &key_id);
            if last.replace(now) != Some(now) && printed.is_ok() {
                printed = output::advice(&progress(&key_id, now), global);
            }
            if now.connected == 0 {
                return Ok(Waited::Nobody);
            }
            if now.adopted == now.connected {
                return Ok(Waited::Adopted(output::end_change(printed, global)));
            }
        }
        sleep(LOOK).await;
    }
}

fn count(report: &SelfReport, key_id: &str) -> Adopted {
    let alive = || report.connections.iter().filter(|connection| connection.is_alive());
    let adopted = alive().filter(|connection| connection.has_adopted(key_id)).count();
    Adopted { adopted, connected: alive().count() }
}

fn progress(key_id: &str, Adopted { adopted, connected }: Adopted) -> String {
    match connected {
        0 => "no API server is connected".to_owned(),
        1 => format!("{adopted} of 1 connection has adopted {key_id}"),
        _ => format!("{adopted} of {connected} connections have adopted {key_id}"),
    }
}

/// Returns the plugin's report of itself, with its connections.
async fn connections(config: &Config) -> Result<SelfReport, Failure> {
    let unknown = |reason: &str, hint: &str| {
        let message = format!("cannot ask the plugin which key each API server has adopted: {reason}");
        Failure::new(Exit::Unreachable, &message, hint.to_owned())
    };
    let answer = ask_plugin(config).await.map_err(|error| {
        unknown(&error.to_string(), "see how the plugin is: claviger status; or promote without --wait")
    })?;
    let reason = "it reports that to root and to its own user only";
    answer.report.ok_or_else(|| unknown(reason, "run the command as root, or as the plugin's user"))
}
