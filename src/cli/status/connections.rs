//! The table of the connected API servers: which key was announced to each, whether the key is in use, and whether the
//! API server has adopted it.

use super::super::{
    output,
    tables::{ago, fitting, short_key_id},
};
use crate::service::ConnectionReport;

/// The columns that a table shows of each connection.
#[derive(Clone, Copy)]
struct ConnectionColumns {
    whole_key_id: bool,
    last_status: bool,
}

/// The layouts, from the widest to the narrowest.
const LAYOUTS: [ConnectionColumns; 3] = [
    ConnectionColumns { whole_key_id: true, last_status: true },
    ConnectionColumns { whole_key_id: false, last_status: true },
    ConnectionColumns { whole_key_id: false, last_status: false },
];

/// Returns the connected API servers, in a table of at most `width` columns. Returns `None` if no API server is
/// connected.
pub(super) fn connection_table(connections: &[ConnectionReport], width: Option<usize>) -> Option<String> {
    let alive: Vec<&ConnectionReport> = connections.iter().filter(|connection| connection.is_alive()).collect();
    let table = |columns: ConnectionColumns| {
        let mut head = vec![if columns.last_status { "API SERVER" } else { "PID" }];
        head.extend(columns.last_status.then_some("LAST STATUS"));
        head.extend(["KEY", "ANNOUNCED", "IN USE", "ADOPTED"]);
        output::table(&head, alive.iter().map(|connection| cells(connection, columns)))
    };
    (!alive.is_empty()).then(|| fitting(width, LAYOUTS.map(|columns| move || table(columns))))
}

fn cells(connection: &ConnectionReport, columns: ConnectionColumns) -> Vec<String> {
    let unknown = || "-".to_owned();
    let mut cells = vec![connection.pid.map_or_else(unknown, |pid| pid.to_string())];
    cells.extend(columns.last_status.then(|| connection.status_s.map_or_else(unknown, ago)));
    let key = |key_id: &String| if columns.whole_key_id { key_id.clone() } else { short_key_id(key_id) };
    let in_use = match (connection.in_use_s, connection.adopted) {
        (Some(seconds), _) => ago(seconds),
        // The API server got its seed over an earlier connection.
        (None, true) => "earlier".to_owned(),
        (None, false) => "not seen".to_owned(),
    };
    let adopted = match (connection.adopted_s, connection.adopted) {
        (Some(seconds), _) => ago(seconds),
        (None, true) => "yes".to_owned(),
        (None, false) => "not yet".to_owned(),
    };
    cells.push(connection.key_id.as_ref().map_or_else(unknown, key));
    cells.extend([connection.announced_s.map_or_else(unknown, ago), in_use, adopted]);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> [ConnectionReport; 4] {
        let connection = |announced_s, in_use_s, adopted_s: Option<u64>, adopted| ConnectionReport {
            uid: 0,
            pid: Some(4_194_304),
            connected_s: 100_000,
            status_s: Some(59),
            key_id: Some("k1024-00112233445566778899aabbccddeeff".to_owned()),
            adopted,
            announced_s,
            in_use_s,
            adopted_s,
            steady_s: None,
        };
        [
            connection(Some(59), None, None, false),
            connection(Some(3_599), Some(3_599), None, false),
            connection(Some(86_399), Some(86_399), Some(86_340), true),
            connection(Some(9_000_000), None, Some(9_000_000), true),
        ]
    }

    #[test]
    fn the_table_says_what_is_known_and_fits_every_terminal() {
        let expected = "\
API SERVER   LAST STATUS   KEY               ANNOUNCED   IN USE     ADOPTED
4194304      59s ago       k1024-00112233…   59s ago     not seen   not yet
4194304      59s ago       k1024-00112233…   59m ago     59m ago    not yet
4194304      59s ago       k1024-00112233…   23h ago     23h ago    23h ago
4194304      59s ago       k1024-00112233…   104d ago    earlier    104d ago";
        assert_eq!(connection_table(&connections(), Some(80)).unwrap(), expected);
        for width in [60, 80, 100, 120] {
            let table = connection_table(&connections(), Some(width)).unwrap();
            let widest = table.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= width, "{widest} columns of {width}:\n{table}");
        }
        let piped = connection_table(&connections(), None).unwrap();
        assert!(piped.contains("k1024-00112233445566778899aabbccddeeff") && piped.contains("LAST STATUS"), "{piped}");
    }

    #[test]
    fn a_connection_that_is_no_api_server_is_left_out() {
        let [connection, ..] = connections();
        let silent = ConnectionReport { status_s: None, ..connection };
        assert_eq!(connection_table(&[silent], None), None);
    }
}
