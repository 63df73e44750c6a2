//! The findings about keys that stored values need and that the keyring does not hold or has disabled.

use super::super::{
    given::quoted,
    tables::{ago, all_of},
};
use crate::{
    keeper::Opened,
    keyring::ledger::ListedBackup,
    service::{MissingKey, SelfReport},
};

/// Returns the findings about missing keys, with hints. Keys that the same backup holds share one finding. `opened` is
/// the keyring here, if it opens.
pub(super) fn missing_keys(report: &SelfReport, opened: Option<&Opened>) -> Vec<String> {
    // If the plugin holds a key and refuses calls for it, the key is disabled.
    let (disabled, missing): (Vec<_>, Vec<_>) =
        report.missing.iter().partition(|key: &&MissingKey| report.keys.contains(&key.key_id));
    let mut findings: Vec<String> = disabled.into_iter().map(disabled_key).collect();
    let backups = opened.and_then(|opened| opened.backups().ok()).unwrap_or_default();
    let mut groups: Vec<(Option<&ListedBackup>, Vec<&MissingKey>)> = Vec::new();
    for key in missing {
        let holds = |backup: &&ListedBackup| backup.keys().iter().any(|held| held.to_string() == key.key_id);
        let backup = backups.iter().rev().find(holds);
        let record = backup.map(ListedBackup::record);
        match groups.iter_mut().find(|(known, _)| known.map(ListedBackup::record) == record) {
            Some((_, keys)) => keys.push(key),
            None => groups.push((backup, vec![key])),
        }
    }
    findings.extend(groups.iter().map(|(backup, keys)| held_by(*backup, keys)));
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

/// Returns the words for the backup that holds `keys`, which this keyring does not hold.
fn held_by(backup: Option<&ListedBackup>, keys: &[&MissingKey]) -> String {
    let it = if keys.len() == 1 { "it" } else { "them" };
    let next = match backup {
        Some(backup) => {
            let (generation, file) = (backup.generation(), quoted(backup.file().unwrap_or("FILE")));
            format!("the listed backup of generation {generation} holds {it}: merge it: claviger backup restore {file}")
        }
        None => format!(
            "no backup that `claviger backup list` shows here holds {it}: look for one that was made later (`claviger backup check \
             FILE` shows the keys in it), and merge it: claviger backup restore FILE"
        ),
    };
    let calls = |key: &MissingKey| format!("{} refused, the last one {}", refused_calls(key.calls), ago(key.last_s));
    if let [key] = keys {
        return format!("stored values need {}, which this keyring does not hold: {}; {next}", key.key_id, calls(key));
    }
    let named: Vec<String> = keys.iter().map(|key| format!("{} ({})", key.key_id, calls(key))).collect();
    format!("stored values need {}, which this keyring does not hold: {next}", all_of(&named))
}

fn refused_calls(count: u64) -> String {
    if count == 1 { "1 call of Decrypt was".to_owned() } else { format!("{count} calls of Decrypt were") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_the_same_backup_may_hold_are_one_finding() {
        let missing = |key_id: &str, calls| MissingKey { key_id: key_id.to_owned(), calls, last_s: 5 };
        let report = SelfReport {
            keys: vec!["k1-aa".to_owned()],
            missing: vec![missing("k1-aa", 1), missing("k2-bb", 1), missing("k3-cc", 2)],
            ..SelfReport::default()
        };
        let [disabled, others] = missing_keys(&report, None).try_into().unwrap();
        assert!(disabled.starts_with("stored values need k1-aa, which is disabled: 1 call"), "{disabled}");
        let named = "stored values need k2-bb (1 call of Decrypt was refused, the last one 5s ago) and k3-cc (2 calls of Decrypt were \
                     refused, the last one 5s ago), which this keyring does not hold: no backup that `claviger backup list` shows \
                     here holds them: ";
        assert!(others.starts_with(named), "{others}");
    }
}
