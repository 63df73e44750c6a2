//! Explains why a rotation ended without disabling the compromised keys: API servers did not settle on the primary key.

use std::time::Duration;

use crate::{plan::Unsettled, service::ConnectionReport};

use super::super::{
    failure::{Exit, Failure},
    given::Given,
    tables::span,
};

/// Returns the failure of a rotation whose API servers did not settle within `patience`. `connections` are the
/// connections that have not settled.
pub(super) fn never_settled<'c>(
    given: &Given,
    patience: Duration,
    unsettled: &Unsettled,
    connections: impl Iterator<Item = &'c ConnectionReport>,
) -> Failure {
    let named: Vec<String> = connections.map(described).collect();
    let named = if named.is_empty() { String::new() } else { format!(": {}", named.join("; ")) };
    let message = format!("no compromised key is disabled yet: after {}, {unsettled}{named}", span(patience));
    let hint = format!(
        "see how each API server is: {}; restart one that is paused or does not get a new key; then go on: {}",
        given.command("claviger status"),
        given.command("claviger rotate")
    );
    Failure::new(Exit::Unreachable, &message, hint)
}

/// Returns a description of a connection: the process of the API server, and the key of the last Status.
fn described(connection: &ConnectionReport) -> String {
    let who = match connection.pid {
        Some(pid) => format!("process {pid} of user {}", connection.uid),
        None => format!("a process of user {} in another namespace", connection.uid),
    };
    let key = connection.key_id.as_deref().unwrap_or("no key");
    let ago = Duration::from_secs(connection.status_s.unwrap_or(0));
    format!("{who} learned {key} from its last Status, {} ago", span(ago))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_that_have_not_settled_are_named() {
        let one = |pid| ConnectionReport {
            uid: 0,
            pid,
            connected_s: 9000,
            status_s: Some(45),
            key_id: Some("k1-aa".to_owned()),
            adopted: true,
            announced_s: None,
            in_use_s: None,
            adopted_s: None,
            steady_s: None,
        };
        let (pod, process) = (one(None), ConnectionReport { key_id: None, ..one(Some(4242)) });
        let unsettled = Unsettled::ApiServers { api_servers: 2, left: Duration::from_mins(3) };
        let failure =
            never_settled(&Given::default(), Duration::from_mins(30), &unsettled, [&pod, &process].into_iter());
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert_eq!(
            failure.message(),
            "no compromised key is disabled yet: after 30 min, 2 connected API servers may still be writing under another key for \
             180 s more: a process of user 0 in another namespace learned k1-aa from its last Status, 45 s ago; process 4242 of user 0 learned no key from its last Status, 45 s ago"
        );
    }
}
