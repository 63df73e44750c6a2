//! Keys that stored values need and that the keyring does not hold or has disabled.

use super::super::{given::quoted, tables::ago};
use crate::{
    keeper::Opened,
    keyring::ledger::ListedBackup,
    service::{MissingKey, SelfReport},
};

/// What to do about each key that is missing. `opened` is the keyring here, if it opens.
pub(super) fn missing_keys(report: &SelfReport, opened: Option<&Opened>) -> Vec<String> {
    // A key that the plugin holds, and for which it refuses calls, is disabled.
    let finding = |key: &MissingKey| {
        if report.keys.contains(&key.key_id) { disabled_key(key) } else { missing_key(key, opened) }
    };
    let mut findings: Vec<String> = report.missing.iter().map(finding).collect();
    if report.missing_others > 0 {
        findings.push(format!(
            "{} refused for other keys, which claviger may not have made: `claviger scan` shows which provider wrote the values",
            refused_calls(report.missing_others)
        ));
    }
    findings
}

fn disabled_key(MissingKey { key_id, calls: count, last_s }: &MissingKey) -> String {
    format!(
        "stored values need {key_id}, which is disabled: {} refused, the last one {}; to read them again: claviger key enable {key_id}",
        refused_calls(*count),
        ago(*last_s)
    )
}

fn missing_key(MissingKey { key_id, calls: count, last_s }: &MissingKey, opened: Option<&Opened>) -> String {
    let backups = opened.and_then(|opened| opened.backups().ok()).unwrap_or_default();
    let holds = |backup: &&ListedBackup| backup.keys().iter().any(|key| key.to_string() == *key_id);
    let next = match backups.iter().rev().find(holds) {
        Some(backup) => {
            let file = quoted(backup.file().unwrap_or("FILE"));
            format!(
                "the listed backup of generation {} holds it: merge it: claviger backup restore {file}",
                backup.generation()
            )
        }
        None => "no backup that `claviger backup list` shows here holds it: look for one that was made later (`claviger backup check \
                 FILE` shows the keys in it), and merge it: claviger backup restore FILE"
            .to_owned(),
    };
    format!(
        "stored values need {key_id}, which this keyring does not hold: {} refused, the last one {}; {next}",
        refused_calls(*count),
        ago(*last_s)
    )
}

fn refused_calls(count: u64) -> String {
    if count == 1 { "1 call of Decrypt was".to_owned() } else { format!("{count} calls of Decrypt were") }
}
