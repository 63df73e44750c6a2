//! Prints the report of `claviger status` for people.

use std::collections::BTreeMap;

use super::{
    super::{output, tables::fitting_key_table},
    connections::connection_table,
    report::{BackupReport, KeyringReport, NodeReport, PluginReport, SlotReport, StatusReport},
};
use crate::{hardening::MEMORY, keyring::home::Home};

/// Returns the whole page. No table on it has more than `width` columns.
pub(super) fn text(report: &StatusReport, width: Option<usize>) -> String {
    let StatusReport { plugin, keys, findings, .. } = report;
    let mut parts = vec![output::fields(&fields(report))];
    if report.keyring.is_some() {
        let unwrapped = plugin.instance.as_ref().map(|_| &plugin.unwrapped);
        parts.push(fitting_key_table(keys, unwrapped, width));
    }
    parts.extend(connection_table(&plugin.connections, width));
    parts.extend(findings.iter().map(|finding| format!("! {finding}")));
    parts.join("\n\n")
}

fn fields(report: &StatusReport) -> Vec<(&'static str, String)> {
    let StatusReport { keyring, slots, recovery_recipients, backup, plugin, disk_error, .. } = report;
    let mut fields = vec![("plugin", plugin_line(plugin))];
    if !plugin.layers.is_empty() {
        fields.push(("protection", protection(&plugin.layers)));
    }
    if let Some(error) = disk_error {
        fields.extend(serves_line(plugin).map(|serves| ("serves", serves)));
        fields.push(("disk", format!("the keyring does not open: {error}")));
    }
    let Some(keyring) = keyring else { return fields };
    let recovery = match recovery_recipients.as_slice() {
        [] => "none: only the state directory opens this keyring".to_owned(),
        recipients => recipients.join(", "),
    };
    fields.extend([("keyring", keyring_line(keyring)), ("slots", slots_line(slots)), ("recovery", recovery)]);
    fields.extend(backup.as_ref().map(|backup| ("backup", backup_line(backup))));
    let doubt = if keyring.has_mark() { "" } else { "    (no mark says that this keyring is the newest)" };
    fields.push(("expect", format!("{}{doubt}", keyring.expect)));
    if !keyring.nodes.is_empty() {
        fields.push(("nodes", nodes_line(&keyring.nodes)));
    }
    fields
}

fn plugin_line(plugin: &PluginReport) -> String {
    match (&plugin.healthz, &plugin.key_id) {
        (Some(healthz), Some(key_id)) => format!("{}: {healthz}, announces {key_id}", plugin.socket),
        _ => format!("{}: does not answer", plugin.socket),
    }
}

/// Returns the line about the keyring that the plugin serves from memory.
fn serves_line(plugin: &PluginReport) -> Option<String> {
    let (uuid, generation) = (plugin.keyring.as_ref()?, plugin.generation?);
    let from = plugin.state_dir.as_ref().map(|path| format!(", read from {}", path.display()));
    Some(format!("{uuid}, generation {generation}{}", from.unwrap_or_default()))
}

/// Returns the words for the layers: `keys in memfd_secret, landlock on, seccomp on`.
fn protection(layers: &BTreeMap<String, String>) -> String {
    let memory = layers.get(MEMORY).map(|memory| format!("keys in {memory}"));
    let others = layers.iter().filter(|(layer, _)| *layer != MEMORY).map(|(layer, state)| format!("{layer} {state}"));
    memory.into_iter().chain(others).collect::<Vec<_>>().join(", ")
}

fn slots_line(slots: &[SlotReport]) -> String {
    let word = |slot: &SlotReport| {
        let opened = if slot.opened { ", opens" } else { "" };
        format!("{} ({}{opened})", slot.name, slot.kind)
    };
    slots.iter().map(word).collect::<Vec<_>>().join(", ")
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

/// Returns the line about the newest backup, and the keys that would be lost with the disk.
fn backup_line(backup: &BackupReport) -> String {
    let newest = match (backup.generation, &backup.checked, &backup.written) {
        (Some(generation), Some(checked), _) => format!("generation {generation} opened on {checked}"),
        (Some(generation), None, Some(written)) => format!("generation {generation} written on {written}"),
        _ => "none is listed".to_owned(),
    };
    match backup.unbacked.as_slice() {
        [] if backup.before_promotion => {
            format!("{newest}, before the primary key was promoted; to make a newer one: {}", backup.create)
        }
        [] => newest,
        keys => format!("{newest}; not backed up: {}", keys.join(", ")),
    }
}
