//! Runs `claviger rotate`: reads its arguments, drives the rotation with its hands, and prints how it ended.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    apiclient::ApiClient,
    config::{Cluster, Settings},
    keeper,
    keyring::{Key, key_id::KeyId, state::State},
    plan::{Action, Aim, ClusterNow, NextStep, Phase, Refused, RotationPlan, RotationProgress, Wait, next},
    rotate::{Hands, RotationClock, RotationEnd, drive},
};

use super::{
    super::{
        Format, Global, Site,
        etcd::Declared,
        failure::{Exit, Failure},
        interrupt::Interrupt,
        live::ServesFrom,
        output::{self, OutputError},
        probe::{find_plugin, warn_if_absent},
        runtime::event_loop,
        scanning::nowhere,
        tables::{all_of, span},
        verify::{self, Verified},
    },
    acts::{changes_nothing, compromised},
    args::RotateArgs,
    foreseen::Foreseen,
    give_up::give_up,
    hands::{RotateHands, RotateWishes},
    remains::remains,
    stops,
    words::{counted, short},
};

/// The report of a finished rotation. As JSON it is a public interface.
#[derive(Serialize)]
struct RotateReport {
    format: &'static str,
    key_id: String,
    /// The outcome that the last scan proves.
    outcome: &'static str,
    /// The number of objects under the key.
    objects: u64,
    /// The SHA-256 of the report of the verification.
    report: String,
    /// The keys in etcd of the objects that were left by name.
    left: Vec<String>,
    /// The compromised keys, which are disabled now.
    compromised: Vec<String>,
}

/// The preview of a rotation. As JSON it is a public interface.
#[derive(Serialize)]
struct PlanReport {
    format: &'static str,
    /// The key that the rotation would make primary. `None` if the rotation would make a new key.
    key_id: Option<String>,
    phase: &'static str,
    #[serde(skip)]
    is_before: bool,
    stale: u64,
    /// About how many seconds the rewriting would take.
    rewrite_seconds: Option<u64>,
    /// The seconds of the wait until no API server writes under the old key: after the promotion, or, if the key is
    /// primary already, after the command is called again.
    quiet_seconds: u64,
    /// Whether the rotation would disable the older keys, because others may know them.
    compromise: bool,
    /// Whether the rotation would stop before the promotion, because no listed backup holds the key.
    needs_backup: bool,
    /// The obstacles that may stop the rotation later.
    #[serde(flatten)]
    foreseen: Foreseen,
    /// The reason that would stop the rotation at once.
    stop: Option<String>,
}

/// Runs `claviger rotate`.
///
/// # Errors
/// When the rotation cannot go on. Called again, it goes on where it was.
pub(in crate::cli) fn run(args: RotateArgs, clock: &dyn RotationClock, global: &Global) -> Result<Exit, Failure> {
    let RotateArgs { keyring, socket, etcd, encryption_config, feature_gates, provider_name, access, files, .. } = args;
    let settings =
        Settings { provider_name, encryption_config, feature_gates, socket: socket.socket, ..keyring.settings() };
    let site = Site::find(etcd.put_into(settings), global)?;
    if args.give_up {
        return give_up(&site, global);
    }
    files.check()?;
    check_place(&site.config.cluster)?;
    let wishes = RotateWishes {
        leave: args.leave,
        rate: args.rate.unwrap_or_default(),
        backup_dir: args.backup_dir,
        without_backup: args.without_backup,
        api_servers: args.api_servers,
        is_compromise: args.compromise,
        files,
    };
    let runtime = event_loop()?;
    let api = Arc::new(runtime.block_on(ApiClient::new(&access.access()))?);
    let interrupt = Interrupt::catch()?;
    let mut hands = RotateHands::new(&site, wishes, (runtime, api), &interrupt, clock, global)?;
    hands.warn_of_timeout()?;
    check_served(&hands, global)?;
    if hands.opened.is_being_rekeyed() {
        return Err(stops::rekeying());
    }
    if args.dry_run {
        return preview(&mut hands);
    }
    match drive(&mut hands, clock)? {
        RotationEnd::Refused(refused) => Err(stops::refused(&global.given, hands.seen(), &refused)),
        RotationEnd::Over if hands.is_interrupted => Err(stops::interrupted(&global.given, hands.plan.as_ref())),
        RotationEnd::Over => {
            if let Some(verified) = &hands.verified {
                show(&hands, verified)?;
            }
            let has_left = hands.plan.as_ref().is_some_and(|plan| !plan.left.is_empty());
            Ok(if has_left { Exit::Found } else { Exit::Done })
        }
    }
}

/// Refuses to rotate if nothing says where etcd is, before anything else is checked.
fn check_place(cluster: &Cluster) -> Result<(), Failure> {
    let declared = Declared::read(cluster)?;
    let is_nowhere = declared.servers.is_none() && declared.doubts.is_empty();
    if is_nowhere { Err(nowhere(&[])) } else { Ok(()) }
}

/// Refuses to rotate in two cases. If the plugin serves another directory, it can never prove that it reads with the
/// new key. If it serves keys that this keyring lacks, the rotation cannot end.
fn check_served(hands: &RotateHands<'_>, global: &Global) -> Result<(), Failure> {
    let config = &hands.site.config;
    let search = find_plugin(config)?;
    let Some(plugin) = search.plugin() else {
        warn_if_absent("a rotation", &search, &hands.opened.keyring, config, global);
        return Ok(());
    };
    if let ServesFrom::Elsewhere(path) = plugin.serves_from(&config.state_dir) {
        return Err(stops::elsewhere(&global.given, &path, &config.state_dir));
    }
    // Another command may have made a key in the meantime.
    let opened = keeper::open_again(&hands.site.dir, &hands.site.means, &hands.opened)?;
    let keyring = &opened.keyring;
    let lacking = if plugin.serves_keyring(keyring) { plugin.lacking_in(keyring) } else { Vec::new() };
    if lacking.is_empty() || hands.wishes.is_compromise { Ok(()) } else { Err(stops::lacking(&global.given, &lacking)) }
}

/// Prints the report of a finished rotation.
fn show(hands: &RotateHands<'_>, verified: &Verified) -> Result<(), OutputError> {
    let Some(plan) = &hands.plan else { return Ok(()) };
    let key_id = plan.key.map_or_else(String::new, |key| key.to_string());
    let left: Vec<String> = plan.left.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    let compromised = if plan.is_compromise { compromised(&hands.opened) } else { Vec::new() };
    if hands.global.output == Format::Json {
        return output::json_line(&RotateReport {
            format: "claviger/rotate/v1",
            key_id,
            outcome: verified.report.outcome().as_str(),
            objects: verified.report.under_primary(),
            report: verified.sha256().to_hex(),
            left,
            compromised,
        });
    }
    output::text_line("")?;
    let headline = match left.len() {
        0 => format!("The rotation to {key_id} is finished, and proven"),
        1 => format!("The rotation to {key_id} is finished, but for 1 object that you left as it is"),
        count => format!("The rotation to {key_id} is finished, but for {count} objects that you left as they are"),
    };
    output::headline(&headline, left.is_empty())?;
    output::text_line(&verify::page(verified, hands.global.quiet))?;
    if !compromised.is_empty() && !hands.global.quiet {
        output::text_line("")?;
        remains(&hands.opened, &compromised).iter().try_for_each(|line| output::text_line(line))?;
    }
    let next = format!(
        "next: make a backup in which this key is primary: {}",
        hands.global.given.command("claviger backup create FILE")
    );
    output::advice(&next, hands.global)
}

/// Prints what the rotation would do, and what would stop it. Changes nothing.
fn preview(hands: &mut RotateHands<'_>) -> Result<Exit, Failure> {
    let mut progress = RotationProgress::default();
    loop {
        let (world, plan) = hands.look()?;
        let step = next(&world, plan.as_ref(), &progress);
        let look = match step {
            NextStep::Do(action) if changes_nothing(action) => Some(action),
            // An existing plan continues without a scan up to the sweep.
            _ if progress.scanned.is_none() => Some(Action::Scan { is_settled: false }),
            _ => None,
        };
        let Some(action) = look else { return show_preview(hands, &world, &step, &progress) };
        hands.act(action, &mut progress)?;
    }
}

/// Prints what a rotation would do. Fails with the reason if it would stop at once.
fn show_preview(
    hands: &RotateHands<'_>,
    world: &ClusterNow,
    coming: &NextStep,
    progress: &RotationProgress,
) -> Result<Exit, Failure> {
    let stop = match coming {
        NextStep::Refuse(Refused::Count(doubt)) => Some(stops::miscounted_in_preview(*doubt)),
        NextStep::Refuse(refused) => Some(stops::refused(&hands.global.given, hands.seen(), refused)),
        NextStep::Wait(Wait::Acknowledge(_) | Wait::Publish(_)) => {
            Some(stops::no_plugin(&hands.global.given, hands.silence.as_ref()))
        }
        NextStep::Do(Action::Begin(Aim::Finish(_))) => hands.check_provable().err(),
        NextStep::Do(Action::Begin(_)) => hands.check_provable().and_then(|()| hands.check_backup_dir()).err(),
        NextStep::Do(Action::BackUp(_)) => hands.check_backup_dir().err(),
        _ => None,
    };
    let unfinished = hands.unfinished();
    let is_compromise = hands.wishes.is_compromise || unfinished.is_some_and(|plan| plan.is_compromise);
    let stop = stop.or_else(|| {
        let usable = || hands.check_room().and_then(|()| hands.check_api());
        if is_compromise { None } else { usable().err() }
    });
    let key_id = match coming {
        NextStep::Do(Action::Begin(Aim::Finish(key))) => Some(*key),
        NextStep::Do(Action::Begin(_)) => None,
        _ => unfinished.and_then(|plan| plan.key),
    };
    let stale = progress.scanned.map_or(0, |scanned| scanned.stale);
    // Before the promotion no value is stale yet; after it, every value is.
    let is_before = unfinished.map_or(key_id.is_none(), |plan| plan.phase == Phase::Prepare);
    let report = PlanReport {
        format: "claviger/rotate-plan/v1",
        key_id: key_id.map(|key| key.to_string()),
        phase: unfinished.map_or(Phase::Prepare, |plan| plan.phase).as_str(),
        is_before,
        stale: if is_before { stale.max(under_primary(hands)) } else { stale },
        needs_backup: is_before && !world.can_back_up && !world.needs_no_backup && !has_backup(world, key_id),
        compromise: is_compromise,
        rewrite_seconds: None,
        quiet_seconds: world.timeouts.quiet().as_secs(),
        foreseen: Foreseen::look(hands, is_before),
        stop: stop.as_ref().map(|stop| stop.message().to_owned()),
    };
    let rate = hands.wishes.rate.0.map(u64::from);
    let report = PlanReport { rewrite_seconds: rate.map(|rate| report.stale.div_ceil(rate)), ..report };
    if hands.global.output == Format::Json {
        output::json_line(&report)?;
    } else {
        output::text_line(&preview_lines(&report, unfinished, hands))?;
    }
    stop.map_or(Ok(Exit::Done), Err)
}

/// Returns a note about keys that were made by hand, which a rotation does not use.
fn pending(hands: &RotateHands<'_>) -> Option<String> {
    let is_pending = |key: &&Key| key.state() == State::Pending;
    let pending = hands.opened.keyring.keys().filter(is_pending).map(|key| key.id().to_string());
    let pending: Vec<String> = pending.collect();
    let promote = hands.global.given.command(&format!("claviger key promote {}", pending.first()?));
    Some(format!("  leave {} pending, as made by hand; to use it instead of a new key: {promote}", all_of(&pending)))
}

/// Whether a listed backup holds the key. A key that does not exist yet is in no backup.
fn has_backup(world: &ClusterNow, key: Option<KeyId>) -> bool {
    key.and_then(|key| world.record.key(key)).is_some_and(|key| key.is_backed_up)
}

/// Returns the number of values that are encrypted now. All of them have to be rewritten after the promotion of a new
/// key.
fn under_primary(hands: &RotateHands<'_>) -> u64 {
    let rows = hands.census.iter().flat_map(|census| &census.report.groups);
    let is_ours = |row: &&crate::scan::report::GroupRow| row.key_id.is_some() && row.resource != "events";
    let encrypted: u64 = rows.filter(is_ours).map(|row| row.objects).sum();
    encrypted + hands.census.as_ref().map_or(0, crate::cli::reencrypt::Census::plaintext)
}

/// Returns the preview for people: a line for each step.
fn preview_lines(report: &PlanReport, plan: Option<&RotationPlan>, hands: &RotateHands<'_>) -> String {
    let begin = match report.stop {
        None => "A rotation would now:",
        Some(_) => "A rotation would stop at once, for the reason below. Without that, it would:",
    };
    let mut lines = vec![String::new(), begin.to_owned()];
    match (&report.key_id, plan) {
        (Some(key_id), Some(plan)) => {
            lines.push(format!(
                "  go on with rotation {} to {key_id}, in the phase {}",
                short(&plan.id.to_string()),
                report.phase
            ));
        }
        (Some(key_id), None) => lines.push(format!("  finish an earlier rotation to {key_id}, without a new key")),
        (None, plan) => {
            lines.push("  make a key, and have the plugin prove that it can read with it".to_owned());
            lines.extend(pending(hands).filter(|_| plan.is_none()));
        }
    }
    if report.is_before {
        let backup = match (&hands.wishes.backup_dir, hands.wishes.without_backup) {
            (Some(dir), _) => format!("write a backup to {}", dir.display()),
            (None, true) => "need no backup".to_owned(),
            (None, false) if report.needs_backup => "stop unless a listed backup holds the key".to_owned(),
            (None, false) => "find the key in a listed backup".to_owned(),
        };
        lines.push(format!("  {backup}, then promote the key"));
    }
    let takes = report.rewrite_seconds.map_or_else(String::new, |seconds| {
        format!(", in about {}", span(std::time::Duration::from_secs(seconds.max(1))))
    });
    lines.push(format!("  have the API server re-encrypt {}{takes}", counted(report.stale, "object")));
    lines.extend(report.foreseen.lines());
    let quiet = span(std::time::Duration::from_secs(report.quiet_seconds));
    lines.push(if report.is_before {
        format!("  wait {quiet} from the promotion on, until no API server writes under the old key")
    } else {
        format!("  wait {quiet}, until no API server writes under the old key; each call of the command begins this wait anew")
    });
    if report.compromise {
        lines.push("  disable the keys before, which others may know, as soon as nothing needs them".to_owned());
    }
    lines.push("  scan again, and end with a report".to_owned());
    lines.join("\n")
}
