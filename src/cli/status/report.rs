//! What `claviger status` knows: the keyring on the disk, if it opens, and what the plugin answered. The JSON output is
//! this report.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;

use super::{
    super::{
        backup_file::create_command,
        failure::Failure,
        live::only_in_memory,
        tables::{KeyRow, key_rows},
    },
    disk::{DiskError, OpenedDisk},
    findings::{findings, is_elsewhere},
};
use crate::{
    config::{Backups, Config},
    keeper::{Expect, Opened, SlotSummary},
    keyring::{Keyring, ledger::ListedBackup, mark::Standing, node::Node, time::Time},
    plan::RotationPlan,
    probe::{ProbeAnswer, ProbeError},
    service::{ConnectionReport, MissingKey},
};

#[derive(Serialize)]
pub(super) struct StatusReport {
    format: &'static str,
    /// The keyring on the disk. `None` if it does not open. Then the lists of keys, slots and recipients are empty.
    pub(super) keyring: Option<KeyringReport>,
    /// The reason why the keyring does not open.
    pub(super) disk_error: Option<String>,
    pub(super) keys: Vec<KeyRow>,
    pub(super) slots: Vec<SlotReport>,
    pub(super) recovery_recipients: Vec<String>,
    pub(super) backup: Option<BackupReport>,
    /// The unfinished rotation, if there is one.
    pub(super) rotation: Option<RotationReport>,
    pub(super) plugin: PluginReport,
    /// Whether the plugin listens at another socket than the one that was asked. Hints do not repeat that one.
    #[serde(skip)]
    pub(super) is_socket_wrong: bool,
    pub(super) findings: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct RotationReport {
    id: String,
    pub(super) phase: &'static str,
    pub(super) key_id: Option<String>,
    pub(super) since: String,
}

#[derive(Serialize)]
pub(super) struct KeyringReport {
    pub(super) uuid: String,
    pub(super) generation: u64,
    /// The home of the keyring: `file`, or `etcd` and the prefix.
    pub(super) home: String,
    pub(super) mark: &'static str,
    pub(super) expect: String,
    pub(super) nodes: Vec<NodeReport>,
}

impl KeyringReport {
    /// Whether this node has a mark, with which the keyring was compared.
    pub(super) fn has_mark(&self) -> bool {
        self.mark != NO_MARK
    }
}

/// The word for a missing mark.
const NO_MARK: &str = "none";

#[derive(Serialize)]
pub(super) struct NodeReport {
    pub(super) name: String,
    pub(super) coordinator: bool,
    pub(super) left: Option<String>,
    pub(super) gone: Option<String>,
}

#[derive(Serialize)]
pub(super) struct SlotReport {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) opened: bool,
}

#[derive(Serialize)]
pub(super) struct BackupReport {
    /// The time when the newest backup was last opened.
    pub(super) checked: Option<String>,
    /// The time when the newest backup was written to another disk.
    pub(super) written: Option<String>,
    pub(super) generation: Option<u64>,
    /// Whether the newest backup was made before the primary key was promoted. A restore of it promotes the key all the
    /// same.
    pub(super) before_promotion: bool,
    /// The command that makes a backup of this keyring.
    #[serde(skip)]
    pub(super) create: &'static str,
    /// The keys that no listed backup contains.
    pub(super) unbacked: Vec<String>,
    /// The reason why the ledger cannot be used.
    error: Option<String>,
}

#[derive(Default, Serialize)]
pub(super) struct PluginReport {
    pub(super) socket: String,
    answers: bool,
    pub(super) healthz: Option<String>,
    pub(super) key_id: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) keyring: Option<String>,
    pub(super) generation: Option<u64>,
    /// The directory from which the plugin read the keyring.
    pub(super) state_dir: Option<PathBuf>,
    degraded: Option<String>,
    /// Whether no other plugin serves from the state directory.
    alone: Option<bool>,
    pub(super) unwrapped: BTreeMap<String, u64>,
    /// The keys that the plugin serves and that the keyring on the disk does not know. `None` if that is not known.
    only_in_memory: Option<Vec<String>>,
    missing: Vec<MissingKey>,
    missing_others: u64,
    pub(super) layers: BTreeMap<String, String>,
    pub(super) connections: Vec<ConnectionReport>,
    error: Option<String>,
}

impl StatusReport {
    /// Makes the report from the keyring on the disk and the plugin's answer, with the findings.
    pub(super) fn of(
        config: &Config,
        disk: Result<&OpenedDisk<'_>, &DiskError>,
        answer: Result<ProbeAnswer, ProbeError>,
    ) -> Self {
        let mut findings = findings(config, disk.map(|disk| disk.opened), &answer);
        let plan = disk.ok().map(|disk| &disk.plan);
        findings.extend(plan.and_then(rotation_finding));
        let unfinished = plan.and_then(|plan| plan.as_ref().ok()?.as_ref());
        let opened = disk.ok().map(|disk| disk.opened);
        let keyring = opened.map(|opened| &opened.keyring);
        let recipients = keyring.into_iter().flat_map(Keyring::recoveries);
        Self {
            format: "claviger/status/v1",
            keyring: opened.map(keyring_report),
            disk_error: disk.err().map(|error| error.failure.message().to_owned()),
            keys: keyring.map(key_rows).unwrap_or_default(),
            slots: opened.into_iter().flat_map(|opened| &opened.slots).map(slot).collect(),
            recovery_recipients: recipients.map(|recovery| recovery.recipient().to_owned()).collect(),
            backup: opened.map(|opened| backup(opened, config.backups)),
            rotation: unfinished.map(rotation),
            is_socket_wrong: is_elsewhere(config, &answer),
            plugin: plugin(config, opened, answer),
            findings,
        }
    }
}

fn keyring_report(Opened { keyring, digest, standing, .. }: &Opened) -> KeyringReport {
    KeyringReport {
        uuid: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        home: keyring.home().to_string(),
        mark: mark_word(*standing),
        expect: Expect::of(keyring, *digest).to_string(),
        nodes: keyring.nodes().iter().map(node).collect(),
    }
}

fn rotation(plan: &RotationPlan) -> RotationReport {
    RotationReport {
        id: plan.id.to_string(),
        phase: plan.phase.as_str(),
        key_id: plan.key.map(|key| key.to_string()),
        since: plan.since.to_string(),
    }
}

/// Returns the finding about a rotation that is unfinished, or whose plan cannot be read.
fn rotation_finding(plan: &Result<Option<RotationPlan>, Failure>) -> Option<String> {
    match plan {
        Ok(plan) => plan.as_ref().map(unfinished_rotation),
        Err(failure) => Some(failure.sentence()),
    }
}

fn unfinished_rotation(plan: &RotationPlan) -> String {
    let to = plan.key.map_or_else(String::new, |key| format!(" to {key}"));
    let next = if cfg!(feature = "reencrypt") { ": finish it: claviger rotate" } else { "" };
    format!("the rotation{to} that began at {} is unfinished, in the phase {}{next}", plan.since, plan.phase.as_str())
}

fn mark_word(standing: Option<Standing>) -> &'static str {
    match standing {
        Some(Standing::Current) => "current",
        Some(Standing::Ahead) => "behind",
        None => NO_MARK,
    }
}

fn node(node: &Node) -> NodeReport {
    let time = |time: Option<Time>| time.map(|time| time.to_string());
    NodeReport {
        name: node.name.clone(),
        coordinator: node.is_coordinator,
        left: time(node.left),
        gone: time(node.gone),
    }
}

fn slot(slot: &SlotSummary) -> SlotReport {
    SlotReport { name: slot.name.clone(), kind: slot.kind.as_str(), opened: slot.opened }
}

fn backup(opened: &Opened, wanted: Backups) -> BackupReport {
    let newest = opened.newest_backup();
    let listed = newest.as_ref().ok().copied().flatten();
    let is_before = |listed: &ListedBackup| wanted == Backups::Listed && is_before_promotion(listed, &opened.keyring);
    BackupReport {
        checked: listed.and_then(ListedBackup::checked).map(|time| time.to_string()),
        written: listed.and_then(ListedBackup::written).map(|time| time.to_string()),
        generation: listed.map(ListedBackup::generation),
        before_promotion: listed.is_some_and(is_before),
        create: create_command(&opened.keyring),
        unbacked: opened.unbacked().iter().map(ToString::to_string).collect(),
        error: newest.err().map(ToString::to_string),
    }
}

/// Whether a backup contains the primary key, and was made before the key was promoted. If only the time is known when
/// the backup was opened, it may seem newer than it is.
fn is_before_promotion(backup: &ListedBackup, keyring: &Keyring) -> bool {
    let primary = keyring.primary();
    let made = backup.written().or(backup.checked());
    let is_earlier = made.zip(primary.promoted()).is_some_and(|(made, promoted)| made.seconds() < promoted.seconds());
    is_earlier && backup.generation() < keyring.generation() && backup.keys().contains(&primary.id())
}

fn plugin(config: &Config, opened: Option<&Opened>, answer: Result<ProbeAnswer, ProbeError>) -> PluginReport {
    let socket = config.socket.endpoint();
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return PluginReport { socket, error: Some(error.to_string()), ..PluginReport::default() },
    };
    let (healthz, key_id) = (Some(answer.healthz), Some(answer.key_id));
    let answered = PluginReport { socket, answers: true, healthz, key_id, ..PluginReport::default() };
    let Some(report) = answer.report else { return answered };
    let only_in_memory =
        opened.filter(|_| !report.keys.is_empty()).map(|opened| only_in_memory(&report, &opened.keyring));
    PluginReport {
        instance: Some(report.instance),
        keyring: report.keyring,
        generation: Some(report.generation),
        state_dir: report.served_from.map(|from| from.path),
        degraded: report.degraded,
        alone: report.alone,
        unwrapped: report.unwrapped,
        only_in_memory,
        missing: report.missing,
        missing_others: report.missing_others,
        layers: report.layers,
        connections: report.connections,
        ..answered
    }
}
