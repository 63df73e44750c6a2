//! Tests metrics and health of the daemon as a scraper sees them: over HTTP, on loopback or on a Unix socket, and
//! nowhere else.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{fs::FileTypeExt, fs::PermissionsExt, net::UnixStream},
    path::Path,
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use crate::harness::wait::wait_until;
use crate::{
    cli::{
        kms::Kms,
        sandbox::{Daemon, Sandbox},
    },
    harness::{plugin::Plugin, processes::Run},
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
const LIMIT: Duration = Duration::from_secs(30);
const SERVE: &str = "--state-dir [DIR]/state --socket [DIR]/run/kms.sock";
const STATUS: &str = "status --state-dir [DIR]/state --socket [DIR]/run/kms.sock --backups none";

/// Sends `GET path` to `address`, a port or a path. Returns the status code and the body of the answer.
pub(crate) fn get(address: &str, path: &str) -> io::Result<(u16, String)> {
    let answer = request(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((head[9..12].parse().unwrap(), body.to_owned()))
}

/// Returns the text of a scrape.
pub(crate) fn scrape(address: &str) -> String {
    let (code, body) = get(address, "/metrics").unwrap();
    assert_eq!(code, 200, "{body}");
    body
}

fn request(address: &str, text: &str) -> io::Result<String> {
    let mut answer = String::new();
    if address.starts_with('/') {
        let mut stream = UnixStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(text.as_bytes())?;
        stream.read_to_string(&mut answer)?;
    } else {
        let mut stream = connect(address)?;
        stream.write_all(text.as_bytes())?;
        stream.read_to_string(&mut answer)?;
    }
    Ok(answer)
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Returns the names of all metrics in a scrape.
pub(crate) fn names(scrape: &str) -> BTreeSet<&str> {
    scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

/// Waits until a log names the port, and returns the port.
fn port(daemon: &Daemon) -> String {
    daemon.wait_for("serving metrics");
    logged(&daemon.log(), "serving metrics").remove(0)["address"].as_str().unwrap().to_owned()
}

/// Returns the lines of a log with this message.
fn logged(log: &str, message: &str) -> Vec<serde_json::Value> {
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.filter(|line: &serde_json::Value| line["message"] == message).collect()
}

/// Returns a sandbox with a keyring, a daemon that serves metrics on a port of its own choice, and that port.
fn serving() -> (Sandbox, Daemon, String) {
    let sandbox = Sandbox::initialised();
    let daemon = sandbox.serve(&format!("{SERVE} --metrics-listen 127.0.0.1:0"));
    let address = port(&daemon);
    (sandbox, daemon, address)
}

#[track_caller]
fn shows(scrape: &str, line: &str) {
    assert!(scrape.lines().any(|shown| shown == line), "no line {line} in\n{scrape}");
}

/// Waits until `done` returns true. The counters may change a moment after a client has its answer.
#[track_caller]
/// Returns the sockets of a process that listen, as `tcp` or as a path.
fn listening(process: u32) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let inodes: BTreeSet<String> =
        links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    assert!(!inodes.is_empty());
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap();
        let ours = text.lines().skip(1).filter(|line| inodes.contains(line.split_whitespace().nth(9).unwrap()));
        found.extend(ours.map(|_| table.to_owned()));
    }
    let unix = fs::read_to_string(format!("/proc/{process}/net/unix")).unwrap();
    for line in unix.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The flag of a socket that accepts connections.
        if fields[3] == "00010000" && inodes.contains(fields[6]) {
            found.push(fields[7].to_owned());
        }
    }
    found
}

#[test]
fn nothing_listens_unless_it_is_asked_for() {
    let run = Run::new().unwrap();
    let mut plugin = Plugin::init(&run, BINARY, "claviger").unwrap();
    let socket = run.socket("kms.sock").unwrap().display().to_string();
    plugin.serve(&socket[..]).unwrap();
    // The kernel knows the plugin's socket by the name that it was bound under, before it was renamed into place.
    let quiet = listening(plugin.process().unwrap().id());
    assert!(quiet.len() == 1 && quiet[0].contains("/.claviger-"), "{quiet:?}");

    plugin.flag("--metrics-listen=127.0.0.1:0");
    plugin.restart().unwrap();
    let asked = listening(plugin.process().unwrap().id());
    assert_eq!(asked.iter().filter(|socket| *socket == "tcp").count(), 1, "{asked:?}");
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[test]
fn calls_and_connections_are_counted() {
    let (sandbox, _daemon, address) = serving();
    sandbox.run(STATUS).ends_with(0);
    sandbox.run(STATUS).ends_with(0);
    let kms = Kms::connect(&sandbox.path("run/kms.sock"));
    for _ in 0..3 {
        let (key_id, wrapped) = kms.encrypt(&[7; 32]);
        kms.decrypt(&key_id, &wrapped).unwrap();
    }
    kms.decrypt("k9-unknown", &[0; 108]).unwrap_err();
    let shown = scrape(&address);
    for line in [
        r#"claviger_calls_total{method="Status",code="OK"} 2"#,
        r#"claviger_calls_total{method="Encrypt",code="OK"} 3"#,
        r#"claviger_calls_total{method="Decrypt",code="OK"} 3"#,
        r#"claviger_calls_total{method="Decrypt",code="NOT_FOUND"} 1"#,
        r#"claviger_calls_total{method="Decrypt",code="INVALID_ARGUMENT"} 0"#,
        r#"claviger_call_duration_seconds_count{method="Decrypt"} 4"#,
        r#"claviger_connections_total{result="accepted"} 3"#,
        "claviger_self_test_ok 1",
        "claviger_self_test_failures_total 0",
        "claviger_sealed 0",
        "claviger_keyring_generation 1",
        "claviger_unbacked_keys 1",
        &format!(r#"claviger_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")),
    ] {
        shows(&shown, line);
    }
    wait_until("one connection is counted", || scrape(&address).contains("\nclaviger_connections 1\n"));
    drop(kms);
    wait_until("no connection is counted", || scrape(&address).contains("\nclaviger_connections 0\n"));
}

#[test]
fn what_is_sealed_is_alive_and_not_ready() {
    let run = Run::new().unwrap();
    let plugin = Plugin::init(&run, BINARY, "claviger").unwrap();
    // Without a mark, unsealing has to write one, and waits for the lock. So the test decides how long it takes.
    fs::remove_file(plugin.state_dir().join("mark")).unwrap();
    let lock = fs::File::open(plugin.state_dir().join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let metrics = run.socket("metrics.sock").unwrap().display().to_string();
    let mut command = plugin.command(&["serve", "--metrics-listen", &metrics]);
    command.arg("--socket").arg(run.socket("kms.sock").unwrap());
    let mut daemon = run.start("sealed", command).unwrap();
    daemon.wait_until("alive", LIMIT, || get(&metrics, "/livez").is_ok_and(|alive| alive.0 == 200)).unwrap();
    assert_eq!(get(&metrics, "/livez").unwrap(), (200, "ok".to_owned()));
    assert_eq!(get(&metrics, "/readyz").unwrap(), (503, "sealed: the keyring is not open yet".to_owned()));
    let sealed = scrape(&metrics);
    shows(&sealed, "claviger_sealed 1");
    assert!(!sealed.contains("claviger_key_info"), "{sealed}");

    drop(lock);
    daemon.wait_until("ready", LIMIT, || get(&metrics, "/readyz").unwrap() == (200, "ok".to_owned())).unwrap();
    shows(&scrape(&metrics), "claviger_sealed 0");
}

#[test]
fn get_and_head_are_answered_and_nothing_else() {
    let (_sandbox, _daemon, address) = serving();
    let answer = request(&address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(answer.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    let head = request(&address, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let expected = (404, "not found: there are /metrics, /livez and /readyz".to_owned());
    assert_eq!(get(&address, "/debug/pprof").unwrap(), expected);
    let refused = request(&address, "DELETE /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("\r\nallow: GET, HEAD\r\n"), "{refused}");
    assert!(refused.ends_with("\r\n\r\nonly GET and HEAD are served"), "{refused}");
    let garbage = request(&address, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert!(!garbage.contains(" 200 "), "{garbage}");
    assert_eq!(get(&address, "/livez").unwrap().0, 200);
}

#[test]
fn a_port_that_is_taken_ends_nothing_and_is_tried_again() {
    let sandbox = Sandbox::initialised();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let mut daemon = sandbox.serve(&format!("{SERVE} --metrics-listen {address}"));
    daemon.wait_for("cannot serve metrics, still trying");
    sandbox.run(STATUS).ends_with(0);
    drop(holder);
    assert_eq!(port(&daemon), address);
    shows(&scrape(&address), r#"claviger_calls_total{method="Status",code="OK"} 1"#);

    let (exit, log) = daemon.terminate();
    assert_eq!(exit, Some(0));
    let warnings = logged(&log, "cannot serve metrics, still trying");
    assert_eq!(warnings.len(), 1, "{log}");
    assert_eq!((warnings[0]["level"].as_str(), warnings[0]["address"].as_str()), (Some("ERROR"), Some(&address[..])));
    assert!(warnings[0]["error"].as_str().unwrap().contains("Address already in use"), "{log}");
    assert_eq!(logged(&log, "serving metrics").len(), 1, "{log}");
}

#[test]
fn a_socket_is_ours_alone_and_goes_with_the_plugin() {
    let sandbox = Sandbox::initialised();
    let path = sandbox.path("run/metrics.sock");
    let mut daemon = sandbox.serve(&format!("{SERVE} --metrics-listen unix://[DIR]/run/metrics.sock"));
    daemon.wait_for("serving metrics");
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    shows(&scrape(path.to_str().unwrap()), "claviger_sealed 0");
    assert_eq!(daemon.terminate().0, Some(0));
    assert!(!path.exists());
}

#[test]
fn a_socket_that_cannot_be_had_ends_nothing() {
    let sandbox = Sandbox::initialised();
    let daemon = sandbox.serve(&format!("{SERVE} --metrics-listen [DIR]/nowhere/metrics.sock"));
    daemon.wait_for("nowhere does not exist");
    sandbox.run(STATUS).ends_with(0);
}

/// Some peers begin a request and never end it, some never read the answer, and some never stop asking.
#[test]
fn hostile_peers_take_nothing_from_the_calls_and_not_the_metrics_for_long() {
    let (sandbox, _daemon, address) = serving();
    let mut slow: Vec<TcpStream> = (0..8).map(|_| connect(&address).unwrap()).collect();
    for peer in &mut slow {
        peer.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
    }
    let mut deaf: Vec<TcpStream> = (0..32).map(|_| connect(&address).unwrap()).collect();
    for peer in &mut deaf {
        peer.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    sandbox.run(STATUS).ends_with(0);
    shows(&scrape(&address), "claviger_sealed 0");
    for peer in &mut slow {
        let mut answer = String::new();
        // The connection is closed, with or without an answer, and never with the metrics.
        _ = peer.read_to_string(&mut answer);
        assert!(!answer.contains("claviger_sealed"), "{answer}");
    }
    drop(deaf);

    let kms = Kms::connect(&sandbox.path("run/kms.sock"));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| shows(&scrape(&address), "claviger_sealed 0")));
        }
        for _ in 0..100 {
            let (key_id, wrapped) = kms.encrypt(&[7; 32]);
            assert_eq!(kms.decrypt(&key_id, &wrapped).unwrap(), [7; 32]);
        }
    });
    shows(&scrape(&address), r#"claviger_calls_total{method="Decrypt",code="OK"} 100"#);
}

#[test]
fn keys_without_a_backup_are_not_counted_if_there_shall_be_none() {
    let sandbox = Sandbox::initialised();
    let serve = |rest: &str| {
        let daemon = sandbox.serve(&format!("{SERVE} --metrics-listen 127.0.0.1:0 {rest}"));
        scrape(&port(&daemon))
    };
    assert!(serve("").contains("\nclaviger_unbacked_keys 1\n"));
    fs::write(sandbox.path("config.toml"), "backups = 'none'\n").unwrap();
    let page = serve("--config [DIR]/config.toml");
    assert!(page.contains("\nclaviger_sealed 0\n") && !page.contains("claviger_unbacked_keys"), "{page}");
}

#[test]
fn a_log_at_debug_has_only_lines_of_our_own() {
    let sandbox = Sandbox::initialised();
    let mut daemon = sandbox.serve(&format!("{SERVE} --metrics-listen 127.0.0.1:0 --log-level debug"));
    let address = port(&daemon);
    scrape(&address);
    sandbox.run(STATUS).ends_with(0);
    let kms = Kms::connect(&sandbox.path("run/kms.sock"));
    kms.decrypt("k9-unknown", &[0; 108]).unwrap_err();
    drop(kms);
    let (_, log) = daemon.terminate();
    let documented = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md")).unwrap();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let message = line["message"].as_str().unwrap();
        assert!(documented.contains(&format!("`{message}`")), "{message} is not in docs/errors.md");
    }
    assert_eq!(logged(&log, "call answered").len(), 1, "{log}");
    assert_eq!(logged(&log, "call failed").len(), 1, "{log}");
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let (_sandbox, _daemon, address) = serving();
    let shown = scrape(&address);
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
    let documented: BTreeSet<&str> = rows.filter(|name| name.contains('_') && !name.starts_with("apiserver")).collect();
    assert_eq!(documented, names(&shown));
}
