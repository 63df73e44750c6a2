//! `claviger status`

use std::{collections::BTreeMap, path::Path, thread, time::Duration};

use clap::Args;
use serde::Serialize;

use crate::{
    config::{Config, Settings},
    grpc::client::{ProbeAnswer, ProbeError},
    hardening::{LayerState, MEMORY},
    keeper::{self, Expect, Opened},
    keyring::{home::Home, ledger::ListedBackup, mark::Standing, node::Node},
    service::{ConnectionReport, SelfReport},
};

use super::{
    Format, Global, KeyringArgs, Site, Socket,
    failure::{Exit, Failure, no_backup_counts},
    output::{self, OutputError},
    probe::probe_plugin,
    tables::{KeyRow, key_rows, key_table},
};

/// How long `--watch` waits before it updates the screen.
const WATCH: Duration = Duration::from_secs(1);

/// Show the keyring, its keys, slots and recovery recipients, and whether the plugin answers
///
/// Exits with 1 if something needs attention, and says what.
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger status --watch
  claviger status --output json | jq .plugin")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    keyring: KeyringArgs,
    #[command(flatten)]
    socket: Socket,
    /// Update the screen every second
    #[arg(long)]
    watch: bool,
}

#[derive(Serialize)]
struct StatusReport {
    format: &'static str,
    keyring: KeyringReport,
    keys: Vec<KeyRow>,
    slots: Vec<SlotReport>,
    recovery_recipients: Vec<String>,
    backup: BackupReport,
    plugin: PluginReport,
    findings: Vec<String>,
}

#[derive(Serialize)]
struct KeyringReport {
    uuid: String,
    generation: u64,
    /// `file`, or `etcd` and the prefix.
    home: String,
    mark: &'static str,
    expect: String,
    nodes: Vec<NodeReport>,
}

#[derive(Serialize)]
struct NodeReport {
    name: String,
    coordinator: bool,
    left: Option<String>,
    gone: Option<String>,
}

#[derive(Serialize)]
struct SlotReport {
    name: String,
    kind: &'static str,
    opened: bool,
}

#[derive(Serialize)]
struct BackupReport {
    /// When the last proven backup was opened.
    checked: Option<String>,
    /// When the last proven backup was written to another disk.
    written: Option<String>,
    generation: Option<u64>,
    /// Keys that no listed backup contains.
    unbacked: Vec<String>,
    /// Why the ledger cannot be trusted.
    error: Option<String>,
}

#[derive(Default, Serialize)]
struct PluginReport {
    socket: String,
    answers: bool,
    healthz: Option<String>,
    key_id: Option<String>,
    instance: Option<String>,
    generation: Option<u64>,
    degraded: Option<String>,
    /// Whether no other plugin serves from its state directory.
    alone: Option<bool>,
    unwrapped: BTreeMap<String, u64>,
    layers: BTreeMap<String, String>,
    connections: Vec<ConnectionReport>,
    error: Option<String>,
}

/// Runs `claviger status`.
///
/// # Errors
/// When the keyring does not open.
pub(super) fn run(args: StatusArgs, global: &Global) -> Result<Exit, Failure> {
    let site = Site::find(Settings { socket: args.socket.socket, ..args.keyring.settings() }, global)?;
    let mut opened = site.open()?;
    loop {
        let report = report(&site.config, &opened, probe_plugin(&site.config)?);
        show(&report, args.watch, global)?;
        if !args.watch {
            return Ok(if report.findings.is_empty() { Exit::Done } else { Exit::Found });
        }
        thread::sleep(WATCH);
        opened = keeper::open_again(&site.dir, &site.means, &opened)?;
    }
}

/// Prints the report. If it stays on the screen, it replaces what was printed before.
fn show(report: &StatusReport, stays: bool, global: &Global) -> Result<(), OutputError> {
    match global.output {
        Format::Json => output::json(report),
        Format::Text if stays => output::screen(&text(report)),
        Format::Text => output::text_line(&text(report)),
    }
}

fn report(config: &Config, opened: &Opened, answer: Result<ProbeAnswer, ProbeError>) -> StatusReport {
    let Opened { keyring, digest, slots, standing, .. } = opened;
    let findings = findings(config, opened, &answer);
    let slot = |slot: &crate::keeper::SlotSummary| SlotReport {
        name: slot.name.clone(),
        kind: slot.kind.as_str(),
        opened: slot.opened,
    };
    StatusReport {
        format: "claviger/status/v1",
        keyring: KeyringReport {
            uuid: keyring.uuid().to_hex(),
            generation: keyring.generation(),
            home: keyring.home().to_string(),
            mark: mark_word(*standing),
            expect: Expect::of(keyring, *digest).to_string(),
            nodes: keyring.nodes().iter().map(node).collect(),
        },
        keys: key_rows(keyring),
        slots: slots.iter().map(slot).collect(),
        recovery_recipients: keyring.recoveries().iter().map(|recovery| recovery.recipient().to_owned()).collect(),
        backup: backup(opened),
        plugin: plugin(config, answer),
        findings,
    }
}

fn node(node: &Node) -> NodeReport {
    let time = |time: Option<crate::keyring::time::Time>| time.map(|time| time.to_string());
    NodeReport {
        name: node.name.clone(),
        coordinator: node.is_coordinator,
        left: time(node.left),
        gone: time(node.gone),
    }
}

fn backup(opened: &Opened) -> BackupReport {
    let last = opened.newest_backup();
    let listed = last.as_ref().ok().copied().flatten();
    BackupReport {
        checked: listed.and_then(ListedBackup::checked).map(|time| time.to_string()),
        written: listed.and_then(ListedBackup::written).map(|time| time.to_string()),
        generation: listed.map(ListedBackup::generation),
        unbacked: opened.unbacked().iter().map(ToString::to_string).collect(),
        error: last.err().map(ToString::to_string),
    }
}

fn mark_word(standing: Option<Standing>) -> &'static str {
    match standing {
        Some(Standing::Current) => "current",
        Some(Standing::Ahead) => "behind",
        None => "none",
    }
}

/// `keys in memfd_secret, landlock on, seccomp on`
fn protection(layers: &BTreeMap<String, String>) -> String {
    let memory = layers.get(MEMORY).map(|memory| format!("keys in {memory}"));
    let others = layers.iter().filter(|(layer, _)| *layer != MEMORY).map(|(layer, state)| format!("{layer} {state}"));
    memory.into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

fn findings(config: &Config, opened: &Opened, answer: &Result<ProbeAnswer, ProbeError>) -> Vec<String> {
    let mut findings = keyring_findings(opened);
    findings.extend(answer_finding(answer, &opened.keyring.primary().id().to_string()));
    if let Ok(ProbeAnswer { report: Some(report), .. }) = answer {
        findings.extend(plugin_findings(report, &config.state_dir));
    }
    findings
}

fn keyring_findings(opened: &Opened) -> Vec<String> {
    let mark = match opened.standing {
        Some(Standing::Current) => None,
        Some(Standing::Ahead) => Some("the mark is older than the keyring; `claviger serve` advances it".to_owned()),
        None => Some("this node has no mark; `claviger serve` trusts the keyring as it is now".to_owned()),
    };
    let rotation = opened.wants_rotation().then(|| {
        "the keyring was restored or merged: rotate to a new key: `claviger key add`, `claviger backup create`, \
         `claviger key promote`, and write every Secret once"
            .to_owned()
    });
    let ledger = opened.newest_backup().err();
    let ledger = ledger.map(|error| no_backup_counts(&error.to_string(), &opened.keyring.uuid().to_hex()));
    [mark, rotation, ledger].into_iter().flatten().collect()
}

fn answer_finding(answer: &Result<ProbeAnswer, ProbeError>, primary: &str) -> Option<String> {
    match answer {
        Err(error) => Some(format!("the plugin does not answer: {error}")),
        Ok(answer) if !answer.is_well() => Some(format!("the plugin is not healthy: {}", answer.healthz)),
        Ok(answer) if answer.key_id != primary => Some(format!(
            "the plugin announces {}, and {primary} is primary here: it has another state directory, or refused the changed keyring",
            answer.key_id
        )),
        Ok(_) => None,
    }
}

/// What the plugin reports about itself.
fn plugin_findings(report: &SelfReport, state_dir: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    findings.extend(report.degraded.as_ref().map(|reason| {
        format!("the plugin is degraded: it serves an earlier keyring from memory and would not start again: {reason}")
    }));
    if report.alone == Some(false) {
        findings.push(format!(
            "two plugins serve from this state directory: the replaced one should end within seconds; if it does not, `fuser \
             {}/serving` finds both",
            state_dir.display()
        ));
    }
    let failed = report.layers.iter().filter(|(_, state)| *state == LayerState::Failed.as_str());
    findings
        .extend(failed.map(|(layer, _)| format!("the plugin could not protect itself with {layer}: its log says why")));
    findings
}

fn plugin(config: &Config, answer: Result<ProbeAnswer, ProbeError>) -> PluginReport {
    let socket = config.socket.endpoint();
    match answer {
        Ok(answer) => PluginReport {
            socket,
            answers: true,
            healthz: Some(answer.healthz),
            key_id: Some(answer.key_id),
            instance: answer.report.as_ref().map(|report| report.instance.clone()),
            generation: answer.report.as_ref().map(|report| report.generation),
            layers: answer.report.as_ref().map(|report| report.layers.clone()).unwrap_or_default(),
            degraded: answer.report.as_ref().and_then(|report| report.degraded.clone()),
            alone: answer.report.as_ref().and_then(|report| report.alone),
            unwrapped: answer.report.as_ref().map(|report| report.unwrapped.clone()).unwrap_or_default(),
            connections: answer.report.map(|report| report.connections).unwrap_or_default(),
            error: None,
        },
        Err(error) => {
            let error = Some(error.to_string());
            PluginReport { socket, error, ..PluginReport::default() }
        }
    }
}

fn text(report: &StatusReport) -> String {
    let StatusReport { keyring, keys, slots, recovery_recipients, backup, plugin, findings, .. } = report;
    let slots = slots.iter().map(|slot| {
        let opened = if slot.opened { ", opens" } else { "" };
        format!("{} ({}{opened})", slot.name, slot.kind)
    });
    let recovery = match recovery_recipients.as_slice() {
        [] => "none: only the state directory opens this keyring".to_owned(),
        recipients => recipients.join(", "),
    };
    let plugin_line = match (&plugin.healthz, &plugin.key_id) {
        (Some(healthz), Some(key_id)) => format!("{}: {healthz}, announces {key_id}", plugin.socket),
        _ => format!("{}: does not answer", plugin.socket),
    };
    let mut fields = vec![("plugin", plugin_line)];
    if !plugin.layers.is_empty() {
        fields.push(("protection", protection(&plugin.layers)));
    }
    fields.extend([
        ("keyring", keyring_line(keyring)),
        ("slots", slots.collect::<Vec<_>>().join(", ")),
        ("recovery", recovery),
        ("backup", backup_line(backup)),
        ("expect", keyring.expect.clone()),
    ]);
    if !keyring.nodes.is_empty() {
        fields.push(("nodes", nodes_line(&keyring.nodes)));
    }
    let unwrapped = plugin.instance.as_ref().map(|_| &plugin.unwrapped);
    let mut parts = vec![output::fields(&fields), key_table(keys, unwrapped)];
    if plugin.connections.iter().any(ConnectionReport::is_alive) {
        parts.push(connections(&plugin.connections));
    }
    parts.extend(findings.iter().map(|finding| format!("! {finding}")));
    parts.join("\n\n")
}

fn keyring_line(keyring: &KeyringReport) -> String {
    let KeyringReport { uuid, generation, home, mark, .. } = keyring;
    let home = if *home == Home::File.to_string() { String::new() } else { format!(", home {home}") };
    format!("{uuid}, generation {generation}{home}, mark {mark}")
}

fn nodes_line(nodes: &[NodeReport]) -> String {
    let word = |node: &NodeReport| match (&node.gone, &node.left) {
        (Some(_), _) => format!("{} (gone)", node.name),
        (None, Some(_)) => format!("{} (left)", node.name),
        (None, None) => node.name.clone(),
    };
    nodes.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// Says which backup was proven last, and which keys would be lost with the disk.
fn backup_line(backup: &BackupReport) -> String {
    let proven = match (backup.generation, &backup.checked, &backup.written) {
        (Some(generation), Some(checked), _) => format!("generation {generation} opened on {checked}"),
        (Some(generation), None, Some(written)) => format!("generation {generation} written on {written}"),
        _ => "none is listed".to_owned(),
    };
    match backup.unbacked.as_slice() {
        [] => proven,
        keys => format!("{proven}; not backed up: {}", keys.join(", ")),
    }
}

/// The connected API servers, and which key each has adopted.
fn connections(connections: &[ConnectionReport]) -> String {
    let cells = |connection: &ConnectionReport| {
        let pid = connection.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let status = connection.status_s.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s ago"));
        let key = connection.key_id.clone().unwrap_or_else(|| "-".to_owned());
        let adopted = if connection.adopted { "yes" } else { "not yet" };
        vec![pid, status, key, adopted.to_owned()]
    };
    let rows = connections.iter().filter(|connection| connection.is_alive()).map(cells);
    output::table(&["API SERVER (PID)", "LAST STATUS", "ANNOUNCED KEY", "ADOPTED"], rows)
}
