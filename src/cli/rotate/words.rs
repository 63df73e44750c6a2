//! What a rotation says while it goes on: a line for people, or a line of JSON for programs.

use std::time::Duration;

use serde::Serialize;

use super::{
    super::{
        Format, Global,
        output::{self, OutputError},
        tables::span,
    },
    report::{RotateEvent, WaitGate},
};
use crate::scan::count::Count;

#[derive(Serialize)]
struct EventLine<'a> {
    format: &'static str,
    #[serde(flatten)]
    event: &'a RotateEvent,
}

/// Prints the event, for people or as JSON.
///
/// # Errors
/// When standard output is closed or full.
pub(super) fn tell(event: &RotateEvent, global: &Global) -> Result<(), OutputError> {
    match global.output {
        Format::Json => output::json_line(&EventLine { format: "claviger/rotate-event/v1", event }),
        Format::Text if global.quiet => Ok(()),
        Format::Text => output::text_line(&line(event)),
    }
}

/// Returns the line for the event, which is printed after the name of the phase.
fn line(event: &RotateEvent) -> String {
    let (phase, text) = match event {
        RotateEvent::Scanned { stale: 0, unreadable: 0, uncovered: 0, skipped, .. } => {
            ("scan", format!("everything is under the primary key{}", but_for(*skipped)))
        }
        RotateEvent::Scanned { stale, under_other_keys, unreadable, uncovered, skipped } => {
            let counts = [*stale, *under_other_keys, *unreadable, *uncovered];
            ("scan", format!("{}{}", scanned(counts), besides(*skipped)))
        }
        RotateEvent::Counted { api_servers: 0 } => ("count", "no API server can be counted in etcd".to_owned()),
        RotateEvent::Counted { api_servers } => ("count", counted(*api_servers, "API server")),
        RotateEvent::Began { rotation, key_id: Some(key_id), phase, resumed: true, .. } => {
            (*phase, format!("rotation {} to {key_id} goes on", short(rotation)))
        }
        RotateEvent::Began { rotation, key_id: Some(key_id), phase, .. } => (
            *phase,
            format!("rotation {} finishes an earlier one: values are under other keys than {key_id}", short(rotation)),
        ),
        RotateEvent::Began { rotation, key_id: None, phase, is_compromise: true, .. } => (
            *phase,
            format!("rotation {} to a new key begins, because others may know the keys before", short(rotation)),
        ),
        RotateEvent::Began { rotation, key_id: None, phase, .. } => {
            (*phase, format!("rotation {} to a new key begins", short(rotation)))
        }
        RotateEvent::Added { key_id } => ("prepare", format!("{key_id} is pending")),
        RotateEvent::BackedUp { file } => ("prepare", format!("the new key is backed up in {file}")),
        RotateEvent::Promoted { key_id, compromised } => {
            ("promote", format!("{key_id} is primary{}", marked(compromised)))
        }
        RotateEvent::Disabled { key_id } => ("disable", format!("{key_id} is disabled")),
        RotateEvent::Published { key_id } => ("promote", format!("the plugin serves {key_id}")),
        RotateEvent::Rewritten { written, left } => {
            ("sweep", format!("{} re-encrypted, {} left", counted(*written, "object"), Count(*left)))
        }
        RotateEvent::Waiting { gate, nodes, seconds } => ("wait", waiting(*gate, nodes, *seconds)),
    };
    format!("{phase:8}  {text}")
}

fn but_for(skipped: u64) -> String {
    match skipped {
        0 => String::new(),
        _ => format!(", but for {} that --leave names", counted(skipped, "object")),
    }
}

fn besides(skipped: u64) -> String {
    match skipped {
        0 => String::new(),
        _ => format!("; not counted: {} that --leave names", counted(skipped, "object")),
    }
}

fn marked(compromised: &[String]) -> String {
    match compromised {
        [] => String::new(),
        [one] => format!("; {one} is marked as compromised"),
        keys => format!("; {} are marked as compromised", keys.join(", ")),
    }
}

fn scanned([stale, under_other_keys, unreadable, uncovered]: [u64; 4]) -> String {
    let mut parts = vec![format!("{} to re-encrypt", counted(stale, "object"))];
    if under_other_keys > 0 {
        parts.push(format!("{} of these under another key of the keyring", Count(under_other_keys)));
    }
    if unreadable > 0 {
        parts.push(format!("{} that the API server cannot read", counted(unreadable, "object")));
    }
    if uncovered > 0 {
        parts.push(format!("{} that the EncryptionConfiguration leaves in plaintext", counted(uncovered, "Secret")));
    }
    parts.join(", ")
}

fn waiting(gate: WaitGate, nodes: &[String], seconds: Option<u64>) -> String {
    let nodes = nodes.join(", ");
    match gate {
        WaitGate::Acknowledge => format!(
            "until the plugin on {nodes} serves the keyring as it is now, and proves that it can read with its keys"
        ),
        WaitGate::Publish => format!("until the plugin on {nodes} serves the new key"),
        WaitGate::Quiet => format!(
            "{} more: until then an API server may still write under the old key",
            span(Duration::from_secs(seconds.unwrap_or(0)))
        ),
        WaitGate::Settle => settling(&nodes, seconds),
        WaitGate::Events => format!(
            "up to {} more: until events that are under another key expire",
            span(Duration::from_secs(seconds.unwrap_or(0)))
        ),
    }
}

fn settling(nodes: &str, seconds: Option<u64>) -> String {
    let why = "a connected API server may still write under an old key";
    match seconds {
        Some(seconds) => format!("{} more: until then {why}", span(Duration::from_secs(seconds))),
        None => format!(
            "until an API server is connected to the plugin on {nodes}, and the plugin serves the keyring as it is now"
        ),
    }
}

/// Returns a number with its noun: `1 object`, `2 objects`.
pub(super) fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{} {what}s", Count(count)) }
}

/// Returns the beginning of an id, which is long enough for people.
pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_as_people_say_them() {
        assert_eq!([counted(1, "object"), counted(1234, "object")], ["1 object", "1,234 objects"]);
    }

    #[test]
    fn each_event_has_a_line() {
        let key_id = || "k2-aa".to_owned();
        let began_by = |key_id, is_compromise, resumed| RotateEvent::Began {
            rotation: "0123456789abcdef".to_owned(),
            key_id,
            phase: "prepare",
            is_compromise,
            resumed,
        };
        let began = |key_id, resumed| began_by(key_id, false, resumed);
        let waiting = |gate, nodes: &[&str], seconds| RotateEvent::Waiting {
            gate,
            nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
            seconds,
        };
        let lines = [
            RotateEvent::Scanned { stale: 0, under_other_keys: 0, unreadable: 0, uncovered: 0, skipped: 0 },
            RotateEvent::Scanned { stale: 0, under_other_keys: 0, unreadable: 0, uncovered: 0, skipped: 1 },
            RotateEvent::Scanned { stale: 3, under_other_keys: 1, unreadable: 1, uncovered: 2, skipped: 2 },
            RotateEvent::Counted { api_servers: 1 },
            RotateEvent::Counted { api_servers: 0 },
            began(None, false),
            began(Some(key_id()), true),
            began(Some(key_id()), false),
            began_by(None, true, false),
            began_by(Some(key_id()), true, true),
            RotateEvent::Added { key_id: key_id() },
            RotateEvent::BackedUp { file: "/usb/a.age".to_owned() },
            RotateEvent::Promoted { key_id: key_id(), compromised: vec![] },
            RotateEvent::Promoted { key_id: key_id(), compromised: vec!["k1-bb".to_owned()] },
            RotateEvent::Promoted { key_id: key_id(), compromised: vec!["k0-cc".to_owned(), "k1-bb".to_owned()] },
            RotateEvent::Disabled { key_id: "k1-bb".to_owned() },
            RotateEvent::Published { key_id: key_id() },
            RotateEvent::Rewritten { written: 1200, left: 0 },
            waiting(WaitGate::Acknowledge, &["a", "b"], None),
            waiting(WaitGate::Publish, &["a"], None),
            waiting(WaitGate::Quiet, &[], Some(263)),
            waiting(WaitGate::Settle, &[], Some(7)),
            waiting(WaitGate::Settle, &["a"], None),
            waiting(WaitGate::Events, &[], Some(4200)),
        ]
        .map(|event| line(&event));
        insta::assert_snapshot!(lines.join("\n"));
    }
}
