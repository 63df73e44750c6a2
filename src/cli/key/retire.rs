//! Finds out whether a key may be given up: asks the plugin, scans etcd, and counts the API servers.
//!
//! The planner decides what comes next. With `--wait`, the command waits for conditions that only need time.

use std::{
    mem::{self, Discriminant},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::runtime::Runtime;

use super::{
    super::{
        Global,
        etcd::{Declared, warn_of_timeout},
        failure::{Exit, Failure},
        interrupt::Interrupt,
        needed,
        output::{self, OutputError},
        probe::{ask_plugin, find_plugin, warn_if_absent},
        runtime::event_loop,
        scanning::{ReadConfig, nowhere},
        world::{node_now, record_now, silent_node},
    },
    left::{LeaveArgs, LeftIn, LeftObject, warn_of},
    retiring::Retiring,
};
use crate::{
    apiserver::count_api_servers,
    durable::LifeLock,
    etcd::{Client, Servers},
    keeper::{self, Opened, Usage, UsageDoubt},
    keyring::{key_id::KeyId, state::Verb, unused::EtcdRevision},
    plan::{
        ApiServers, ClusterNow, History, KeyScan, NodeNow, RetireProgress, RetireStep, Ticks, Timeouts, Unsettled,
        retire,
    },
    probe::{ProbeAnswer, ProbeError},
    rotate::{RotationClock, now},
    scan::{compaction::has_compacted, needs::ScannedEtcd},
};

/// How long a command waits in all, unless the timeouts of the API server are longer. With the default timeouts, a
/// running API server settles within five minutes, and compacts etcd within another ten.
const PATIENCE: Duration = Duration::from_mins(20);

/// The longest time between two looks at the cluster.
const LOOK: Duration = Duration::from_secs(10);

/// The time between two lines about the same wait.
const LINES: Duration = Duration::from_mins(1);

/// How long a command waits for a plugin to take up a change that was just made. A plugin looks for changes four times
/// a second.
const TAKE_UP: Duration = Duration::from_secs(3);

/// The time between two looks at a plugin that takes up a change.
const TAKE_UP_LOOK: Duration = Duration::from_millis(200);

/// What the operator says about the API servers.
#[derive(Args, Default)]
pub(super) struct GateArgs {
    /// How many API servers use this etcd, instead of as many as etcd shows. With 0, which means that none runs, the
    /// command refuses if etcd shows one or one is connected to the plugin
    #[arg(long, value_name = "NUMBER")]
    api_servers: Option<u64>,
    /// Wait until no API server can write under the key any more, instead of refusing
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    leave: LeaveArgs,
}

/// Finds out whether values need the key. Returns the [`Usage`] from which the keyring decides.
///
/// # Errors
/// When the keyring does not open, this process cannot ask at all, etcd cannot be counted, or the operator interrupts.
pub(super) fn usage(retiring: &Retiring<'_>, opened: Opened, gates: &GateArgs) -> Result<Usage, Failure> {
    let mut run = Run::new(retiring, opened, gates)?;
    loop {
        let world = match run.look()? {
            Ok(world) => world,
            Err(doubt) => return Ok(Usage::Unknown(doubt)),
        };
        match retire(&world, &run.progress) {
            RetireStep::Scan { is_proof } => {
                run.scan(is_proof)?;
                if run.progress.scanned.is_none() {
                    return Ok(run.usage);
                }
            }
            RetireStep::Count => run.count()?,
            // The keyring reports that the ledger was refused.
            RetireStep::Note if run.opened.snapshots().is_err() => return Ok(run.usage),
            RetireStep::Note => run.note()?,
            // The keyring reports which value or snapshot needs the key.
            RetireStep::Needed(_) => return Ok(run.usage),
            RetireStep::Retire => {
                warn_of(&run.left, retiring.global);
                return Ok(run.usage);
            }
            RetireStep::Listed(_) => return Ok(Usage::Unknown(UsageDoubt::SnapshotForgotten)),
            RetireStep::Refuse(doubt) => return Ok(Usage::Unknown(UsageDoubt::Count(doubt))),
            RetireStep::Wait(unsettled) if run.may_be_taking_up(&world) => run.pause(&unsettled)?,
            RetireStep::Wait(unsettled) if run.may_wait() => run.wait(&unsettled)?,
            RetireStep::Wait(unsettled) => return Ok(Usage::Unknown(UsageDoubt::Unsettled(unsettled))),
        }
    }
}

struct Run<'a> {
    retiring: &'a Retiring<'a>,
    opened: Opened,
    gates: &'a GateArgs,
    timeouts: Timeouts,
    /// How many provider entries of each API server name the plugin.
    entries: u64,
    /// The prefix of all keys of the API server in etcd.
    prefix: String,
    runtime: Runtime,
    /// Ends a wait if the operator interrupts. `None` if the command does not wait.
    interrupt: Option<Interrupt>,
    began: Ticks,
    /// The start of the run by the real clock, by which plugins look for changes.
    started: Instant,
    /// When the last line about a wait was printed, and about which kind of wait.
    told: Option<(Ticks, Discriminant<Unsettled>)>,
    /// Whether the warning that no plugin listens was printed.
    has_warned: bool,
    progress: RetireProgress,
    /// The result of the last scan.
    usage: Usage,
    /// The etcds that the last scan read.
    etcds: Vec<ScannedEtcd>,
    /// The objects that the last scan found and that are left by name.
    left: Vec<LeftObject>,
}

impl<'a> Run<'a> {
    fn new(retiring: &'a Retiring<'a>, opened: Opened, gates: &'a GateArgs) -> Result<Self, Failure> {
        let config = &retiring.site.config;
        let declared = Declared::read(&config.cluster)?;
        // Without API servers, it does not matter how long they may take.
        let read = if gates.api_servers == Some(0) { None } else { ReadConfig::read(config, &declared)? };
        if declared.found_in.is_none() && declared.servers.is_some() && gates.api_servers != Some(0) {
            warn_of_timeout(retiring.global);
        }
        let listed = if retiring.verb == Verb::Destroy { needing(&opened, retiring.key) } else { 0 };
        let progress = RetireProgress {
            listed: u64::try_from(listed).unwrap_or(u64::MAX),
            has_no_api_servers: gates.api_servers == Some(0),
            ..RetireProgress::default()
        };
        Ok(Self {
            retiring,
            opened,
            gates,
            timeouts: declared.timeouts(read.as_ref().map(|read| &read.coverage)),
            entries: read.map_or(1, |read| read.coverage.providers_at(&config.socket.endpoint())),
            prefix: declared.prefix.clone(),
            runtime: event_loop()?,
            interrupt: gates.wait.then(Interrupt::catch).transpose()?,
            began: now(retiring.clock),
            started: Instant::now(),
            told: None,
            has_warned: false,
            progress,
            usage: Usage::Unknown(UsageDoubt::NotRead),
            etcds: Vec::new(),
            left: Vec::new(),
        })
    }

    fn now(&self) -> Ticks {
        now(self.retiring.clock)
    }

    /// Looks at the keyring and the plugin.
    fn look(&mut self) -> Result<Result<ClusterNow, UsageDoubt>, Failure> {
        let site = self.retiring.site;
        self.opened = keeper::open_again(&site.dir, &site.means, &self.opened)?;
        if self.retiring.verb == Verb::Destroy {
            self.progress.history = Some(self.history()?);
        }
        Ok(self.node()?.map(|node| ClusterNow {
            now: self.now(),
            record: record_now(&self.opened),
            nodes: vec![node],
            timeouts: self.timeouts,
            entries: self.entries,
            can_back_up: false,
            needs_no_backup: false,
            is_compromise: false,
        }))
    }

    /// Compares the revisions that the ledger notes about the key with those that each etcd has compacted.
    fn history(&self) -> Result<History, Failure> {
        let Ok(noted) = self.opened.unused(self.retiring.key) else { return Ok(History::Unnoted) };
        let is_compacted = |servers: &Servers, before| Ok(has_compacted(servers, &self.prefix, before)?);
        history_of(&noted, &self.etcds, is_compacted)
    }

    /// Notes in the ledger that no value needs the key at the revision of the last scan.
    fn note(&mut self) -> Result<(), Failure> {
        let Retiring { site, key, global, .. } = self.retiring;
        let etcds: Vec<EtcdRevision> = self.etcds.iter().map(needed::at).collect();
        self.opened = keeper::note_unused(&site.dir, &site.means, *key, &etcds)?;
        output::aside(&format!("noted in the ledger that no value needs {key} now"), global);
        Ok(())
    }

    /// Asks the plugin of this node for its report.
    fn node(&self) -> Result<Result<NodeNow, UsageDoubt>, Failure> {
        let config = &self.retiring.site.config;
        let answer = self.runtime.block_on(ask_plugin(config));
        let is_absent = matches!(answer, Err(ProbeError::Absent | ProbeError::Refused));
        if is_absent && LifeLock::is_held(&config.state_dir)? {
            return Ok(Err(UsageDoubt::OtherSocket(config.socket.endpoint())));
        }
        Ok(node_of(answer, self.retiring.clock))
    }

    /// Scans every etcd for values under the key.
    fn scan(&mut self, is_proof: bool) -> Result<(), Failure> {
        let Retiring { site, key, global, .. } = self.retiring;
        let Some(key) = self.opened.keyring.keys().find(|one| one.id() == *key) else {
            // Another command has destroyed the key.
            self.progress.scanned = None;
            return Ok(());
        };
        let leave = &self.gates.leave;
        let names = leave.names(&self.prefix);
        let needed::KeyUsage { usage, etcds, left } = needed::usage(&site.config, &self.opened, key, &names, global)?;
        // An etcd that cannot be read is the better reason to refuse.
        let (mut usage, mut checked) = (usage, Vec::new());
        if let (Usage::Scanned { left: names, .. }, Some(etcd)) = (&mut usage, etcds.first()) {
            let keyring = &self.opened.keyring;
            let place = LeftIn { keyring, key, prefix: &self.prefix, etcd: &etcd.servers };
            checked = leave.check(&place, &left)?;
            names.extend(checked.iter().map(|one| one.name.clone()));
        }
        (self.usage, self.etcds, self.left) = (usage, etcds, checked);
        self.progress.scanned = match &self.usage {
            Usage::Scanned { needing, record, .. } => {
                Some(KeyScan { record: *record, objects: needing.objects, is_proof })
            }
            Usage::Unknown(_) | Usage::Waived => None,
        };
        Ok(())
    }

    fn count(&mut self) -> Result<(), Failure> {
        let count = if let Some(count) = self.gates.api_servers.filter(|count| *count > 0) {
            count
        } else {
            output::aside(output::COUNTING, self.retiring.global);
            let declared = Declared::read(&self.retiring.site.config.cluster)?;
            let mut client = Client::new(&declared.servers.ok_or_else(|| nowhere(&[]))?)?;
            self.runtime.block_on(count_api_servers(&mut client, &declared.prefix))?
        };
        self.progress.counted = Some(ApiServers { at: self.now(), count });
        Ok(())
    }

    /// Whether the plugin serves another record than the one here, and may still be taking up the change of this
    /// command.
    fn may_be_taking_up(&self, world: &ClusterNow) -> bool {
        let serves_other = |node: &NodeNow| node.serves.as_ref().is_some_and(|one| one.record != world.record.digest);
        self.started.elapsed() < TAKE_UP && world.nodes.iter().any(serves_other)
    }

    /// Waits until the next look at a plugin that takes up a change.
    fn pause(&self, unsettled: &Unsettled) -> Result<(), Failure> {
        match &self.interrupt {
            Some(interrupt) if interrupt.wait(TAKE_UP_LOOK, &self.runtime) => {
                Err(interrupted(self.retiring, unsettled))
            }
            Some(_) => Ok(()),
            // Without --wait, Ctrl-C ends the process as usual.
            None => {
                thread::sleep(TAKE_UP_LOOK);
                Ok(())
            }
        }
    }

    fn may_wait(&self) -> bool {
        let needed = self.timeouts.quiet() + self.timeouts.settled();
        self.interrupt.is_some() && self.now() < self.began.after(PATIENCE.max(needed))
    }

    /// Prints what the command waits for, at most once a minute for the same reason, and waits for a while.
    fn wait(&mut self, unsettled: &Unsettled) -> Result<(), Failure> {
        let Some(interrupt) = &self.interrupt else { return Ok(()) };
        if !self.has_warned && matches!(unsettled, Unsettled::NotServed(_)) {
            let Retiring { site, global, .. } = self.retiring;
            let search = find_plugin(&site.config)?;
            self.has_warned = warn_if_absent("the wait", &search, &self.opened.keyring, &site.config, global);
        }
        let now = self.now();
        let reason = mem::discriminant(unsettled);
        if self.told.is_none_or(|(told, before)| before != reason || now >= told.after(LINES)) {
            self.told = Some((now, reason));
            tell(unsettled, self.retiring.global)?;
        }
        let pause = self.retiring.clock.sleep(unsettled.left().map_or(LOOK, |left| left.min(LOOK)));
        if interrupt.wait(pause, &self.runtime) {
            return Err(interrupted(self.retiring, unsettled));
        }
        Ok(())
    }
}

/// Decides from the noted revisions whether `etcds` still have revisions at which values needed the key. An etcd whose
/// revision is lower than the noted one was restored, so the note does not apply to it. If no etcd was scanned, nothing
/// is known about any.
fn history_of(
    noted: &[EtcdRevision],
    etcds: &[ScannedEtcd],
    is_compacted: impl Fn(&Servers, u64) -> Result<bool, Failure>,
) -> Result<History, Failure> {
    let mut oldest = if etcds.is_empty() { History::Unnoted } else { History::Compacted };
    for etcd in etcds {
        let is_about = |noted: &&EtcdRevision| noted.etcd == etcd.name && noted.revision <= etcd.revision;
        let Some(noted) = noted.iter().find(is_about) else { return Ok(History::Unnoted) };
        if !is_compacted(&etcd.servers, noted.revision)? {
            oldest = History::Kept(noted.clone());
        }
    }
    Ok(oldest)
}

/// Returns what an answer of the plugin proves. Only a socket where nobody listens proves that no plugin runs there.
fn node_of(answer: Result<ProbeAnswer, ProbeError>, clock: &dyn RotationClock) -> Result<NodeNow, UsageDoubt> {
    match answer {
        Err(ProbeError::Absent | ProbeError::Refused) => Ok(silent_node()),
        Err(error) => Err(UsageDoubt::PluginSilent(Arc::new(error))),
        Ok(answer) if answer.report.is_none() => Err(UsageDoubt::NotReported),
        Ok(answer) => Ok(node_now(&answer, None, clock)),
    }
}

/// Counts the listed snapshots that need the key. If the ledger was refused, returns 0: the keyring then refuses to
/// destroy any key.
fn needing(opened: &Opened, key: KeyId) -> usize {
    opened.snapshots().map_or(0, |snapshots| snapshots.iter().filter(|one| one.keys().contains(&key)).count())
}

fn tell(unsettled: &Unsettled, global: &Global) -> Result<(), OutputError> {
    output::advice(&format!("waiting: {unsettled}"), global)
}

fn interrupted(Retiring { key, verb, global, .. }: &Retiring<'_>, unsettled: &Unsettled) -> Failure {
    let message = format!("you interrupted the wait, and nothing was changed: {unsettled}");
    let verb = if *verb == Verb::Destroy { "destroy" } else { "disable" };
    let again = global.given.command(&format!("claviger key {verb} {key} --wait"));
    Failure::new(Exit::Interrupted, &message, format!("wait again: {again}"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use tonic::Code;

    use super::*;
    use crate::{
        rotate::BootClock,
        service::{ConnectionReport, SelfReport},
    };

    fn answer(report: Option<SelfReport>) -> ProbeAnswer {
        let (version, healthz, key_id) = ("v2".to_owned(), "ok".to_owned(), KEY.to_owned());
        ProbeAnswer { version, healthz, key_id, report, uid: 0 }
    }

    const KEY: &str = "k2-00112233445566778899aabbccddeeff";

    #[test]
    fn only_a_socket_where_nobody_listens_shows_that_no_plugin_runs() {
        for error in [ProbeError::Absent, ProbeError::Refused] {
            assert_eq!(node_of(Err(error), &BootClock).unwrap(), silent_node());
        }
        for error in [
            ProbeError::Impostor(1000),
            ProbeError::Denied,
            ProbeError::Connect(io::ErrorKind::WouldBlock.into()),
            ProbeError::Closed("all places are taken".to_owned()),
            ProbeError::Status(Code::Unavailable, "sealed".to_owned()),
            ProbeError::Timeout(Duration::from_secs(3)),
        ] {
            let text = format!("the plugin did not say which key each API server has adopted: {error}");
            assert_eq!(node_of(Err(error), &BootClock).unwrap_err().to_string(), text);
        }
        let text = "the plugin does not report to this user which key each API server has adopted";
        assert_eq!(node_of(Ok(answer(None)), &BootClock).unwrap_err().to_string(), text);
    }

    #[test]
    fn only_etcds_that_were_scanned_can_have_compacted_their_history() {
        let noted = [EtcdRevision { etcd: "a".to_owned(), revision: 7 }];
        let scanned =
            |name: &str, revision| ScannedEtcd { servers: Servers::default(), name: name.to_owned(), revision };
        let history = |etcds: &[ScannedEtcd], is_compacted: bool| {
            history_of(&noted, etcds, |_, _| Ok(is_compacted)).unwrap_or_else(|failure| panic!("{}", failure.message()))
        };
        assert_eq!(history(&[], true), History::Unnoted, "no etcd was scanned");
        assert_eq!(history(&[scanned("a", 9)], true), History::Compacted);
        assert_eq!(history(&[scanned("a", 9)], false), History::Kept(noted[0].clone()));
        assert_eq!(history(&[scanned("a", 9), scanned("b", 9)], true), History::Unnoted, "nothing is noted about b");
        assert_eq!(history(&[scanned("a", 6)], true), History::Unnoted, "it was restored");
    }

    #[test]
    fn a_node_has_the_live_connections_and_how_steady_they_are() {
        let connection = ConnectionReport {
            uid: 0,
            pid: None,
            connected_s: 900,
            status_s: Some(1),
            key_id: Some(KEY.to_owned()),
            adopted: true,
            announced_s: Some(800),
            in_use_s: Some(790),
            adopted_s: Some(700),
            steady_s: Some(600),
        };
        let stale = ConnectionReport { status_s: Some(150), steady_s: None, ..connection.clone() };
        let unsteady = ConnectionReport { steady_s: None, ..connection.clone() };
        let report = SelfReport {
            primary_s: Some(900),
            record: Some("07".repeat(32)),
            connections: vec![connection.clone(), stale, unsteady, ConnectionReport { status_s: None, ..connection }],
            ..SelfReport::default()
        };
        let node = node_of(Ok(answer(Some(report))), &BootClock).unwrap();
        let serves = node.serves.unwrap();
        assert_eq!((serves.record.0, serves.primary_for), ([7; 32], Duration::from_mins(15)));
        let seen = node.connections.iter().map(|connection| (connection.steady, connection.is_alive));
        let seen: Vec<(Duration, bool)> = seen.collect();
        let (steady, zero) = (Duration::from_mins(10), Duration::ZERO);
        assert_eq!(seen, [(steady, true), (zero, false), (zero, true)], "one that is paused counts, too");
        assert!(node.connections.iter().all(|connection| connection.announced == KEY.parse().ok()));
    }
}
