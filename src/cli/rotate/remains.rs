//! What others can still read with a compromised key, after a rotation has replaced it.

use crate::keeper::Opened;

use super::super::tables::all_of;

/// Returns what remains to be done, one line for each place where values under the keys may be.
pub(super) fn remains(opened: &Opened, compromised: &[String]) -> Vec<String> {
    let holds = |keys: &[crate::keyring::key_id::KeyId]| keys.iter().any(|key| compromised.contains(&key.to_string()));
    let snapshots = opened.snapshots().unwrap_or_default().iter().filter(|snapshot| holds(snapshot.keys()));
    let snapshots: Vec<String> = snapshots
        .map(|snapshot| {
            snapshot.file().map_or_else(|| format!("sha256 {}", snapshot.sha256().to_hex()), ToOwned::to_owned)
        })
        .collect();
    let backups = opened.backups().unwrap_or_default().iter().filter(|backup| holds(backup.keys()));
    let backups: Vec<String> = backups.filter_map(|backup| backup.file().map(ToOwned::to_owned)).collect();
    let disabled = match compromised {
        [one] => {
            format!("{one} is compromised, and disabled. Anyone who has it can still read what was encrypted under it:")
        }
        keys => format!(
            "{} are compromised, and disabled. Anyone who has them can still read what was encrypted under them:",
            all_of(keys)
        ),
    };
    let mut lines = vec![
        disabled,
        "  older versions in etcd: until they are compacted (etcdctl compact REVISION), and each member is defragmented (etcdctl defrag --cluster)"
            .to_owned(),
        "  etcd's write-ahead log: until etcd has replaced its files".to_owned(),
        format!("  snapshots and other copies of etcd from before: destroy them{}", listed(&snapshots)),
        "Restart every API server: until then it accepts values that somebody puts into etcd under an old seed.".to_owned(),
        "The Secrets count as known to others: change the passwords, tokens and certificates in them.".to_owned(),
    ];
    if !backups.is_empty() {
        let marks: Vec<String> = compromised.iter().map(|key| format!("--compromised {key}")).collect();
        lines.push(format!(
            "Backups of the keyring from before the promotion do not know this: restore them only with {}. Listed are {}",
            marks.join(" "),
            all_of(&backups)
        ));
    }
    lines
}

fn listed(files: &[String]) -> String {
    if files.is_empty() { String::new() } else { format!("; listed are {}", all_of(files)) }
}
