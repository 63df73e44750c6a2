//! The work of a daemon besides answering calls: follow the keyring, react to signals, report to systemd.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use tokio::time::{Interval, interval, sleep};
use tracing::{error, info, warn};

use super::{
    error::DaemonError,
    signals::{Signals, Wish},
    unsealer::Unsealer,
};
use crate::{
    keeper::{Followed, Unsealed},
    keyring::mark::Standing,
    service::Sealed,
    systemd::Systemd,
    telemetry::{advice, event},
};

/// How long systemd's start jobs wait for the keyring. The kubelet is ordered after this unit, and must not wait for
/// ever for a slot that opens late: an API server can wait for a sealed plugin.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// The state of the daemon, as `systemctl status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The keyring is not open yet, so calls are refused.
    Sealed,
    /// The keyring of this generation is served, with this primary key.
    Serving { generation: u64, key_id: Arc<str> },
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sealed => Sealed.fmt(f),
            Self::Serving { generation, key_id } => write!(f, "serving generation {generation}, primary {key_id}"),
        }
    }
}

/// Everything that a daemon does besides answering calls.
pub(super) struct Daemon {
    pub(super) signals: Signals,
    systemd: Systemd,
    pub(super) unsealer: Unsealer,
    stage: Stage,
}

impl Daemon {
    /// Returns a daemon that has not opened its keyring yet.
    pub(super) fn new(signals: Signals, systemd: Systemd, unsealer: Unsealer) -> Self {
        Self { signals, systemd, unsealer, stage: Stage::Sealed }
    }

    /// Waits until the keyring is open and published.
    ///
    /// # Errors
    /// When it does not open.
    pub(super) async fn unseal(&mut self) -> Result<(), DaemonError> {
        match self.unsealer.outcome().await {
            Some(outcome) => self.note(outcome),
            None => Ok(()),
        }
    }

    /// Follows the keyring, answers signals and reports to systemd, until a signal ends it.
    ///
    /// # Errors
    /// When the keyring does not open for the first time.
    pub(super) async fn attend(&mut self) -> Result<(), DaemonError> {
        let mut ready = self.stage != Stage::Sealed;
        if ready {
            self.systemd.ready(&self.stage).await;
        }
        let mut patience = pin!(sleep(READY_WITHIN));
        let mut heartbeat = self.systemd.heartbeat().map(interval);
        loop {
            tokio::select! {
                wish = self.signals.next() => match wish {
                    Wish::End => break,
                    Wish::LookAgain => self.look_again().await,
                },
                Some(outcome) = self.unsealer.outcome() => {
                    self.note(outcome)?;
                    ready = true;
                    self.systemd.ready(&self.stage).await;
                }
                () = &mut patience, if !ready => {
                    ready = true;
                    self.systemd.ready(&self.stage).await;
                }
                () = beat(heartbeat.as_mut()) => self.systemd.alive().await,
            }
        }
        info!(message = event::STOPPING);
        self.systemd.stopping().await;
        Ok(())
    }

    async fn look_again(&self) {
        info!(message = event::RELOADING);
        self.systemd.reloading().await;
        self.unsealer.again();
    }

    /// Logs the outcome of an attempt to open the keyring. A failure ends the daemon only before the keyring was open
    /// for the first time: after that, the earlier keyring is served.
    fn note(&mut self, outcome: Followed) -> Result<(), DaemonError> {
        match outcome {
            Followed::Unchanged => info!(message = event::UNCHANGED),
            Followed::Published(unsealed) => self.note_served(unsealed),
            Followed::GoodAgain(unsealed) => {
                info!(message = event::OPENS_AGAIN);
                if let Some(unsealed) = unsealed {
                    self.note_served(unsealed);
                }
            }
            Followed::Failed(error) if self.stage == Stage::Sealed => return Err(error.into()),
            Followed::Failed(error) => {
                error!(message = event::RELOAD_FAILED, %error, advice = advice::whole(advice::RELOAD_FAILED));
            }
        }
        Ok(())
    }

    fn note_served(&mut self, unsealed: Unsealed) {
        log(&unsealed);
        self.stage = Stage::Serving { generation: unsealed.generation, key_id: unsealed.key_id };
    }
}

/// Waits for the next beat of the heartbeat. Waits for ever if there is no heartbeat.
async fn beat(heartbeat: Option<&mut Interval>) {
    match heartbeat {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

fn log(unsealed: &Unsealed) {
    let Unsealed { standing, expected, expect, keyring, generation, key_id, slot_opened, audited } = unsealed;
    match standing {
        Some(Standing::Current) => {}
        Some(Standing::Ahead) => warn!(message = event::MARK_ADVANCED, generation),
        None if *expected => info!(message = event::MARK_ADVANCED, generation),
        None => warn!(message = event::TRUSTED_ON_FIRST_USE, %expect),
    }
    if let Err(error) = audited {
        error!(message = event::NOT_AUDITED, %error, advice = advice::NOT_AUDITED);
    }
    let message = if *slot_opened { event::UNSEALED } else { event::FOLLOWED };
    info!(message, keyring, generation, key_id = &**key_id);
}
