//! The [`Hands`] of a rotation on one node: look at the keyring file, the plugin of this node and etcd for the planner,
//! and carry out its actions.

use std::{collections::BTreeSet, ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use rand::rngs::SysRng;
use tokio::runtime::Runtime;

use crate::{
    apiclient::ApiClient,
    apiserver::coverage::Coverage,
    config::nearest_of,
    crypto::canary::Canary,
    keeper::{self, LoadPlanError, Opened},
    keyring::{Key, key_id::KeyId},
    plan::{Action, ClusterNow, NodeNow, PlanId, RotationPlan, RotationProgress, Ticks, Timeouts, Unsettled, Wait},
    probe::ProbeError,
    reencrypt::FailureList,
    rotate::{Acted, Hands, RotationClock, now},
    service::ConnectionReport,
    text::base64_array,
};

use super::{
    super::{
        Global, Site,
        etcd::{Declared, warn_of_timeout},
        failure::{Exit, Failure, warn},
        interrupt::Interrupt,
        named::named_keys,
        probe::ask_canary,
        reencrypt::{Census, Rate},
        scanning::{ScanInput, ScanKeys},
        verify::{KeptArgs, Verified, VerifyInput},
        world::{node_now, record_now, silent_node},
    },
    report::{RotateEvent, WaitGate},
    stops::{self, LastSeen},
    unsettled::never_settled,
    words::tell,
};

/// How long a rotation waits for a plugin.
const PATIENCE: Duration = Duration::from_mins(10);

/// How long a rotation waits for connected API servers to settle, unless their timeouts are longer. A running API
/// server settles within five minutes.
const SETTLE_PATIENCE: Duration = Duration::from_mins(30);

/// How long etcd keeps an event, unless `--event-ttl` of kube-apiserver is another.
const EVENT_TTL: Duration = Duration::from_hours(1);

/// How much longer than that a rotation waits for events. etcd may delete an expired event late.
const EVENTS_LATE: Duration = Duration::from_mins(10);

/// The time between two looks at a plugin.
const LOOK: Duration = Duration::from_millis(500);

/// The time between two looks at connections that are not settled.
const SETTLED_LOOK: Duration = Duration::from_secs(10);

/// The time between two lines about one wait.
const LINES: Duration = Duration::from_mins(1);

/// The operator's wishes for a rotation.
pub(super) struct RotateWishes {
    pub(super) leave: Vec<OsString>,
    pub(super) rate: Rate,
    pub(super) backup_dir: Option<PathBuf>,
    pub(super) without_backup: bool,
    pub(super) api_servers: Option<u64>,
    pub(super) is_compromise: bool,
    /// The files to which the report is written.
    pub(super) files: KeptArgs,
}

/// A wait that has begun.
struct Waiting {
    gate: WaitGate,
    /// Whether the wait is for named nodes.
    has_nodes: bool,
    since: Ticks,
    /// When the last line about the wait was printed.
    last_line: Ticks,
}

/// The hands of a rotation.
pub(super) struct RotateHands<'a> {
    pub(super) site: &'a Site,
    pub(super) opened: Opened,
    pub(super) wishes: RotateWishes,
    pub(super) clock: &'a dyn RotationClock,
    pub(super) runtime: Runtime,
    pub(super) api: Arc<ApiClient>,
    pub(super) interrupt: &'a Interrupt,
    pub(super) global: &'a Global,
    /// The plan on the disk, as it was last read.
    pub(super) plan: Option<RotationPlan>,
    /// The plan that this run continues, if it was announced.
    announced: Option<PlanId>,
    /// Whether a warning about the plan was printed.
    has_warned: bool,
    /// The census of the last scan.
    pub(super) census: Option<Census>,
    /// The objects that the last sweep could not rewrite.
    pub(super) failures: Option<FailureList>,
    /// The wait that has begun, if the rotation waits.
    waiting: Option<Waiting>,
    /// Since when API servers are not settled, without the time in which the machine was suspended.
    unsettled_since: Option<Duration>,
    /// Since when events are under another key, without the time in which the machine was suspended.
    events_since: Option<Duration>,
    /// The timeouts of the API servers.
    timeouts: Timeouts,
    /// The connections that the plugin named in its last answer.
    connections: Vec<ConnectionReport>,
    /// The reason why the plugin did not answer the last question. `None` if it did.
    pub(super) silence: Option<ProbeError>,
    /// The verification that proves the end of the rotation.
    pub(super) verified: Option<Verified>,
    pub(super) is_interrupted: bool,
}

impl<'a> RotateHands<'a> {
    /// Makes the hands for the keyring in `site`.
    pub(super) fn new(
        site: &'a Site,
        wishes: RotateWishes,
        (runtime, api): (Runtime, Arc<ApiClient>),
        interrupt: &'a Interrupt,
        clock: &'a dyn RotationClock,
        global: &'a Global,
    ) -> Result<Self, Failure> {
        Ok(Self {
            site,
            opened: site.open()?,
            wishes,
            clock,
            runtime,
            api,
            interrupt,
            global,
            plan: None,
            announced: None,
            has_warned: false,
            census: None,
            failures: None,
            waiting: None,
            unsettled_since: None,
            events_since: None,
            timeouts: Timeouts::default(),
            connections: Vec::new(),
            silence: None,
            verified: None,
            is_interrupted: false,
        })
    }

    /// Returns the key that is primary now.
    pub(super) fn primary(&self) -> KeyId {
        self.opened.keyring.primary().id()
    }

    /// Returns the plan that this command continues. With `--compromise`, only a plan that replaces compromised keys
    /// counts.
    pub(super) fn unfinished(&self) -> Option<&RotationPlan> {
        let goes_on = |plan: &&RotationPlan| plan.is_unfinished() && (plan.is_compromise || !self.wishes.is_compromise);
        self.plan.as_ref().filter(goes_on)
    }

    /// Returns what the last sweep and the last scan found.
    pub(super) fn seen(&self) -> LastSeen<'_> {
        LastSeen { failures: self.failures.as_ref(), census: self.census.as_ref() }
    }

    /// Returns the present moment.
    pub(super) fn now(&self) -> Ticks {
        now(self.clock)
    }

    /// Prints the event.
    pub(super) fn tell(&self, event: &RotateEvent) -> Result<(), Failure> {
        Ok(tell(event, self.global)?)
    }

    /// Returns the inputs of a scan: the etcds, and the keys with the present primary key.
    pub(super) fn input(&self) -> Result<ScanInput, Failure> {
        let VerifyInput { places, etcd, prefix, flags, judge, notes, subject, timeouts } =
            VerifyInput::read(&self.site.config, &self.opened)?;
        if !subject.is_provider_used {
            let stored = format!("kms:v2:{}", subject.provider);
            let is_listed = judge.coverage.iter().any(|coverage| coverage.providers().any(|one| one == stored));
            let names = judge.coverage.iter().flat_map(Coverage::providers);
            let names = names.filter_map(|name| name.strip_prefix("kms:v2:"));
            let listed = nearest_of(&subject.provider, names).map(ToOwned::to_owned);
            let given = &self.global.given;
            return Err(if is_listed {
                stops::only_read(given, &subject.provider)
            } else {
                stops::unused(&subject.provider, listed.as_deref())
            });
        }
        Ok(ScanInput { places, etcd, flags, prefix, judge, keys: ScanKeys::default(), timeouts, notes })
    }

    /// Returns the objects that are left by name, by this command or when the rotation began.
    pub(super) fn left(&self, prefix: &str) -> BTreeSet<Vec<u8>> {
        let before = self.plan.iter().flat_map(|plan| &plan.left).cloned();
        before.chain(named_keys(&self.wishes.leave, prefix)).collect()
    }

    /// Warns if nothing says how long a request to the API server may take.
    pub(super) fn warn_of_timeout(&self) -> Result<(), Failure> {
        if Declared::read(&self.site.config.cluster)?.found_in.is_none() {
            warn_of_timeout(self.global);
        }
        Ok(())
    }

    /// Reads the plan. A plan that cannot be used counts as missing, because a scan shows the remaining work.
    fn load_plan(&mut self) -> Result<Option<RotationPlan>, Failure> {
        match keeper::load_plan(&self.site.dir, &self.opened) {
            Err(LoadPlanError::Refused(error)) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    warn(
                        &error.to_string(),
                        "nothing is lost: the rotation looks at etcd and begins again",
                        self.global,
                    );
                }
                Ok(None)
            }
            plan => Ok(plan?),
        }
    }

    /// Prints the plan that this run continues.
    ///
    /// # Errors
    /// When another command has replaced, ended or removed the plan of this run.
    fn announce(&mut self) -> Result<(), Failure> {
        match (self.announced, self.unfinished()) {
            (Some(id), Some(plan)) if id == plan.id => Ok(()),
            (Some(_), _) => Err(stops::overtaken(&self.global.given)),
            (None, None) => Ok(()),
            (None, Some(plan)) => {
                let (id, event) = (plan.id, began(plan, true));
                self.announced = Some(id);
                self.tell(&event)
            }
        }
    }

    /// Notes that this command began the plan, so that it is not announced as continued.
    pub(super) fn begun(&mut self, plan: &RotationPlan) -> Result<(), Failure> {
        self.announced = Some(plan.id);
        self.tell(&began(plan, false))
    }

    /// Asks the plugin of this node for its report, and to open a canary under `key`.
    fn node(&mut self, key: KeyId) -> Result<NodeNow, Failure> {
        let Some(kek) = self.opened.keyring.keys().find(|one| one.id() == key).map(Key::kek) else {
            return Ok(silent_node());
        };
        let name = key.to_string();
        let canary = Canary::new(&mut SysRng, kek, &name).map_err(|error| Failure::new(Exit::Refused, &error, None))?;
        let answer = self.runtime.block_on(ask_canary(&self.site.config, &name, canary.wrapped()));
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.silence = Some(error);
                return Ok(silent_node());
            }
        };
        self.silence = None;
        self.connections = answer.report.iter().flat_map(|report| report.connections.iter().cloned()).collect();
        let opened = answer.report.as_ref().and_then(|report| base64_array(report.canary.as_deref()?));
        let has_opened = opened.is_some_and(|opened| canary.is_answered_by(&opened));
        Ok(node_now(&answer, has_opened.then_some(key), self.clock))
    }
}

impl RotateHands<'_> {
    /// Checks that the connected API servers have not been unsettled for longer than [`SETTLE_PATIENCE`].
    fn check_patience(&mut self, unsettled: &Unsettled) -> Result<(), Failure> {
        let now = self.clock.running();
        let since = *self.unsettled_since.get_or_insert(now);
        let patience = SETTLE_PATIENCE.max(self.timeouts.quiet() + self.timeouts.settled());
        // Converts the time that API servers need to this clock.
        if now.saturating_sub(since) <= self.clock.measured(patience) {
            return Ok(());
        }
        let primary = self.primary().to_string();
        let is_unsettled = |connection: &&ConnectionReport| {
            let steady = self.clock.measured(Duration::from_secs(connection.steady_s.unwrap_or(0)));
            connection.status_s.is_some()
                && (connection.key_id.as_ref() != Some(&primary) || steady < self.timeouts.settled())
        };
        let connections = self.connections.iter().filter(is_unsettled);
        Err(never_settled(&self.global.given, patience, unsettled, connections))
    }
}

impl RotateHands<'_> {
    /// Returns how much longer the rotation waits for these events to expire.
    ///
    /// # Errors
    /// When they should have expired long ago.
    fn left_for_events(&mut self, events: u64) -> Result<Duration, Failure> {
        let now = self.clock.running();
        let since = *self.events_since.get_or_insert(now);
        let patience = Declared::read(&self.site.config.cluster)?.event_ttl.unwrap_or(EVENT_TTL) + EVENTS_LATE;
        let left = (since + patience).saturating_sub(now);
        if left.is_zero() { Err(stops::never_expired(&self.global.given, events, patience)) } else { Ok(left) }
    }
}

impl Hands for RotateHands<'_> {
    type Error = Failure;

    fn look(&mut self) -> Result<(ClusterNow, Option<RotationPlan>), Failure> {
        self.opened = keeper::open_again(&self.site.dir, &self.site.means, &self.opened)?;
        self.plan = self.load_plan()?;
        self.announce()?;
        let record = record_now(&self.opened);
        let key = self.unfinished().and_then(|plan| plan.key).unwrap_or_else(|| self.primary());
        let ScanInput { timeouts, judge, .. } = self.input()?;
        let endpoint = self.site.config.socket.endpoint();
        self.timeouts = timeouts;
        let nodes = vec![self.node(key)?];
        let world = ClusterNow {
            now: self.now(),
            record,
            nodes,
            timeouts,
            entries: judge.coverage.map_or(1, |coverage| coverage.providers_at(&endpoint)),
            can_back_up: self.wishes.backup_dir.is_some(),
            needs_no_backup: self.wishes.without_backup,
            is_compromise: self.wishes.is_compromise,
        };
        Ok((world, self.plan.clone()))
    }

    fn act(&mut self, action: Action, progress: &mut RotationProgress) -> Result<Acted, Failure> {
        self.waiting = None;
        if matches!(action, Action::Disable(_)) {
            self.unsettled_since = None;
        }
        match action {
            Action::Scan { is_settled } => self.scan(is_settled, progress)?,
            Action::Count => self.count(progress)?,
            Action::Begin(aim) => self.begin(aim)?,
            Action::Add => self.add()?,
            Action::Take(key) => self.take(key)?,
            Action::BackUp(_) => self.back_up()?,
            Action::Promote(key) => self.promote(key)?,
            Action::Promoted => self.promoted()?,
            Action::Published => self.published(progress)?,
            Action::Disable(key) => self.disable(key)?,
            Action::Rewrite => self.rewrite(progress)?,
            Action::Finish => return self.finish(progress),
        }
        Ok(if self.is_interrupted { Acted::Over } else { Acted::GoOn })
    }

    fn wait(&mut self, wait: &Wait) -> Result<Acted, Failure> {
        let now = self.now();
        let (gate, nodes, pause, left) = match wait {
            Wait::Acknowledge(nodes) => (WaitGate::Acknowledge, nodes.clone(), LOOK, None),
            Wait::Publish(nodes) => (WaitGate::Publish, nodes.clone(), LOOK, None),
            Wait::Quiet(until) => {
                let left = until.0.saturating_sub(now.0);
                (WaitGate::Quiet, Vec::new(), left.min(LINES), Some(left.as_secs_f64().ceil()))
            }
            Wait::Settle(unsettled) => {
                let left = unsettled.left().map(|left| left.as_secs_f64().ceil());
                let nodes = unsettled.nodes().to_vec();
                (WaitGate::Settle, nodes, unsettled.left().map_or(LOOK, |left| left.min(SETTLED_LOOK)), left)
            }
            Wait::Events(events) => {
                let left = self.left_for_events(*events)?;
                (WaitGate::Events, Vec::new(), LINES.min(left), Some(left.as_secs_f64().ceil()))
            }
        };
        let has_nodes = !nodes.is_empty();
        let before = self.waiting.take().filter(|before| (before.gate, before.has_nodes) == (gate, has_nodes));
        let since = before.as_ref().map_or(now, |before| before.since);
        if has_nodes && now > since.after(PATIENCE) {
            return Err(stops::silent(&self.global.given, gate, self.silence.as_ref()));
        }
        if let Wait::Settle(unsettled) = wait {
            self.check_patience(unsettled)?;
        }
        let last_line = before.map(|before| before.last_line).filter(|last| now < last.after(LINES));
        let is_due = last_line.is_none();
        self.waiting = Some(Waiting { gate, has_nodes, since, last_line: last_line.unwrap_or(now) });
        if is_due {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "minutes, and positive")]
            self.tell(&RotateEvent::Waiting { gate, nodes, seconds: left.map(|left| left as u64) })?;
        }
        self.is_interrupted = self.interrupt.wait(self.clock.sleep(pause), &self.runtime);
        Ok(if self.is_interrupted { Acted::Over } else { Acted::GoOn })
    }
}

fn began(plan: &RotationPlan, resumed: bool) -> RotateEvent {
    RotateEvent::Began {
        rotation: plan.id.to_string(),
        key_id: plan.key.map(|key| key.to_string()),
        phase: plan.phase.as_str(),
        is_compromise: plan.is_compromise,
        resumed,
    }
}
