//! Metrics: counters of calls and connections, and the text that a scrape receives.
//!
//! All counters are made at the start, and none is looked up by its labels: a call reads the clock twice, and updates
//! one counter and one histogram. The state of keyring and process is read at each scrape. Invariant: labels come from
//! fixed lists or are hashes of public names, so no peer can make a series, and nothing secret is shown. Source: the
//! Prometheus text format, version 0.0.4; names and units follow Prometheus' own guide.

use std::{
    fmt,
    sync::atomic::AtomicU64,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::text::encode_registry,
    metrics::{gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tonic::Code;

use super::{
    code,
    exposition::{Series, Total},
    method::Method,
    process,
};

/// The media type of [`Metrics::exposition`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The upper bounds of the buckets, in seconds. A call takes tens of microseconds, and at most 2.5 s.
const BUCKETS: [f64; 16] =
    [5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 1e-1, 5e-1, 1.0, 2.5];

/// The gRPC codes that a call can end with. Any other code counts as the last one.
const CODES: [Code; 12] = [
    Code::Ok,
    Code::Cancelled,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::PermissionDenied,
    Code::FailedPrecondition,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::Unknown,
];

/// Counts events since the start of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    status: MethodCalls,
    encrypt: MethodCalls,
    decrypt: MethodCalls,
    other: MethodCalls,
    connections: Gauge,
    accepted: Total,
    peer_refused: Total,
    no_place: Total,
    accept_failures: Total,
    self_test_ok: Gauge,
    self_test_failures: Total,
}

/// The state of the served keyring, for a scrape.
#[derive(Debug)]
pub struct ServedKeyring {
    /// The generation of the keyring, which counts changes.
    pub generation: u64,
    /// Whether the keyring on the disk is not the served one and cannot be taken up, or is gone.
    pub degraded: bool,
    /// The number of keys that no listed backup contains. `None` if the operator keeps no backups on purpose.
    pub unbacked: Option<usize>,
    /// The number of calls of Decrypt that were refused because the keyring does not hold the key, for each hash of a
    /// key_id, or `others`.
    pub missing: Vec<(String, u64)>,
    /// Each key that is not destroyed.
    pub keys: Vec<ServedKey>,
}

/// The state of a key, for a scrape.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServedKey {
    /// The hash of the key_id, as in kube-apiserver's metrics.
    pub id_hash: String,
    /// The word for the state of the key.
    pub state: &'static str,
    /// The number of seeds that the key has unwrapped.
    pub unwrapped: u64,
}

/// The counters of the calls of one method.
#[derive(Debug)]
struct MethodCalls {
    method: Method,
    ended: [Total; CODES.len()],
    duration: Histogram,
}

/// A call that is being answered. If it is dropped without an answer, the peer gave up.
#[derive(Debug)]
pub struct Call<'a> {
    calls: &'a MethodCalls,
    start: Instant,
    code: Code,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            status: MethodCalls::new(Method::Status),
            encrypt: MethodCalls::new(Method::Encrypt),
            decrypt: MethodCalls::new(Method::Decrypt),
            other: MethodCalls::new(Method::Other),
            connections: Gauge::default(),
            accepted: Total::default(),
            peer_refused: Total::default(),
            no_place: Total::default(),
            accept_failures: Total::default(),
            self_test_ok: Gauge::default(),
            self_test_failures: Total::default(),
        };
        metrics.self_test_ok.set(1);
        metrics.registered()
    }
}

impl Metrics {
    /// Notes the beginning of a call.
    pub fn call(&self, method: Method) -> Call<'_> {
        let calls = match method {
            Method::Status => &self.status,
            Method::Encrypt => &self.encrypt,
            Method::Decrypt => &self.decrypt,
            Method::Other => &self.other,
        };
        Call { calls, start: Instant::now(), code: Code::Cancelled }
    }

    /// Counts a connection that is served.
    #[must_use = "dropped, the connection counts as ended"]
    pub fn accepted(&self) -> OpenConnection {
        self.accepted.inc();
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Counts a connection of a peer that may not call.
    pub fn peer_refused(&self) {
        self.peer_refused.inc();
    }

    /// Counts a connection that was closed because all places were taken.
    pub fn refused_for_room(&self) {
        self.no_place.inc();
    }

    /// Counts a failure to accept a connection.
    pub fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    /// Notes the outcome of a self-test of wrapping and unwrapping.
    pub fn self_test(&self, passed: bool) {
        self.self_test_ok.set(passed.into());
        if !passed {
            self.self_test_failures.inc();
        }
    }

    /// Writes the text that a scrape receives. `keyring` is the served keyring. `None` while sealed.
    ///
    /// # Errors
    /// Never in practice, because writing to a String cannot fail.
    pub fn exposition(&self, keyring: Option<ServedKeyring>) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &of_keyring(keyring))?;
        encode_registry(&mut text, &process::now())?;
        Ok(text)
    }

    fn registered(mut self) -> Self {
        self.register_calls();
        self.register_connections();
        let registry = &mut self.registry;
        let help = "0 if the last self-test of wrapping and unwrapping failed, by Status or /readyz, else 1";
        registry.register("claviger_self_test_ok", help, self.self_test_ok.clone());
        let help = "Self-tests of wrapping and unwrapping that failed";
        registry.register("claviger_self_test_failures_total", help, self.self_test_failures.clone());
        let version = Series(vec![([("version", env!("CARGO_PKG_VERSION"))], constant(1))]);
        registry.register("claviger_build_info", "Always 1; the version is a label", version);
        let start = Gauge::<f64, AtomicU64>::default();
        // A clock before 1970 is shown as 1970.
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));
        registry.register("process_start_time_seconds", "When the process started, in seconds since 1970", start);
        self
    }

    fn register_calls(&mut self) {
        let calls = [&self.status, &self.encrypt, &self.decrypt, &self.other];
        let ended = Series(calls.iter().flat_map(|calls| calls.by_code()).collect());
        let durations = Series(calls.map(|calls| ([("method", calls.method.as_str())], calls.duration.clone())).into());
        let help = "Calls that have ended, by method and by gRPC's name of the code";
        self.registry.register("claviger_calls_total", help, ended);
        let help = "From the headers of a call to its answer";
        self.registry.register("claviger_call_duration_seconds", help, durations);
    }

    fn register_connections(&mut self) {
        let results =
            [("accepted", &self.accepted), ("peer_refused", &self.peer_refused), ("no_place", &self.no_place)];
        let results = Series(results.map(|(result, total)| ([("result", result)], total.clone())).into());
        let registry = &mut self.registry;
        registry.register("claviger_connections", "Connections that are served now", self.connections.clone());
        registry.register("claviger_connections_total", "Connections, by what became of them", results);
        let help = "Failures to accept a connection, most likely for want of file descriptors";
        registry.register("claviger_accept_failures_total", help, self.accept_failures.clone());
    }
}

impl MethodCalls {
    fn new(method: Method) -> Self {
        Self { method, ended: Default::default(), duration: Histogram::new(BUCKETS) }
    }

    fn by_code(&self) -> impl Iterator<Item = ([(&'static str, &'static str); 2], Total)> {
        CODES
            .iter()
            .zip(&self.ended)
            .map(|(code, total)| ([("method", self.method.as_str()), ("code", code::name(*code))], total.clone()))
    }

    fn with(&self, code: Code) -> Option<&Total> {
        let listed = CODES.iter().zip(&self.ended).find(|(listed, _)| **listed == code);
        listed.map(|(_, total)| total).or(self.ended.last())
    }
}

impl Call<'_> {
    /// Notes the gRPC code of the answer.
    pub fn answered(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(total) = self.calls.with(self.code) {
            total.inc();
        }
        self.calls.duration.observe(self.start.elapsed().as_secs_f64());
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Returns the metrics of the keyring. While sealed, the only metric says that the plugin is sealed.
fn of_keyring(keyring: Option<ServedKeyring>) -> Registry {
    let mut registry = Registry::default();
    let sealed = constant(keyring.is_none().into());
    registry.register("claviger_sealed", "1 until the keyring is open, then 0", sealed);
    let Some(ServedKeyring { generation, degraded, unbacked, missing, mut keys }) = keyring else { return registry };
    let help = "1 while the keyring on the disk is not served, because it does not open or does not follow from the served one, else 0";
    registry.register("claviger_degraded", help, constant(degraded.into()));
    let help = "How many times the keyring that is served was changed";
    registry.register("claviger_keyring_generation", help, constant(saturated(generation)));
    if let Some(unbacked) = unbacked {
        let help = "Keys that no listed backup holds";
        registry.register("claviger_unbacked_keys", help, constant(saturated(unbacked)));
    }
    let missing = missing.into_iter().map(|(id_hash, calls)| ([("key_id_hash", id_hash)], counted(calls)));
    let help = "Calls of Decrypt that were refused because the keyring does not hold the key";
    registry.register("claviger_missing_key_calls_total", help, Series(missing.collect()));
    keys.sort_unstable();
    let unwrapped = keys.iter().map(|key| ([("key_id_hash", key.id_hash.clone())], counted(key.unwrapped)));
    let help = "Seeds that each key has unwrapped";
    registry.register("claviger_key_unwraps_total", help, Series(unwrapped.collect()));
    let keys = keys
        .into_iter()
        .map(|ServedKey { id_hash, state, .. }| ([("key_id_hash", id_hash), ("state", state.to_owned())], constant(1)));
    let help = "Always 1; a key by the hash of its key_id, and its state";
    registry.register("claviger_key_info", help, Series(keys.collect()));
    registry
}

fn constant(value: i64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

fn counted(count: u64) -> Total {
    let total = Total::default();
    total.add(count);
    total
}

fn saturated(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> ServedKeyring {
        let key = |id_hash: &str, state, unwrapped| ServedKey { id_hash: id_hash.to_owned(), state, unwrapped };
        let keys = vec![key("sha256:b", "primary", 0), key("sha256:a", "decrypt-only", 7)];
        let missing = vec![("others".to_owned(), 0), ("sha256:c".to_owned(), 4)];
        ServedKeyring { generation: 3, degraded: false, unbacked: Some(1), missing, keys }
    }

    fn scrape(metrics: &Metrics) -> String {
        metrics.exposition(Some(open())).unwrap()
    }

    #[track_caller]
    fn shows(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
    }

    #[test]
    fn a_call_counts_once_under_its_method_and_code() {
        let metrics = Metrics::default();
        metrics.call(Method::Decrypt).answered(Code::NotFound);
        metrics.call(Method::Decrypt).answered(Code::NotFound);
        metrics.call(Method::Status).answered(Code::Ok);
        metrics.call(Method::Other).answered(Code::Unimplemented);
        let text = scrape(&metrics);
        for line in [
            r#"claviger_calls_total{method="Decrypt",code="NOT_FOUND"} 2"#,
            r#"claviger_calls_total{method="Status",code="OK"} 1"#,
            r#"claviger_calls_total{method="Encrypt",code="OK"} 0"#,
            r#"claviger_calls_total{method="other",code="UNIMPLEMENTED"} 1"#,
            r#"claviger_call_duration_seconds_count{method="Decrypt"} 2"#,
            r#"claviger_call_duration_seconds_bucket{le="+Inf",method="Decrypt"} 2"#,
            r#"claviger_call_duration_seconds_count{method="Encrypt"} 0"#,
        ] {
            shows(&text, line);
        }
    }

    #[test]
    fn every_code_has_grpcs_name_and_an_odd_one_is_unknown() {
        let metrics = Metrics::default();
        for number in 0..17 {
            metrics.call(Method::Status).answered(Code::from_i32(number));
        }
        let text = scrape(&metrics);
        for (code, name) in CODES.map(|code| (code, code::name(code))) {
            let odd = 17 - CODES.len();
            let expected = if code == Code::Unknown { 1 + odd } else { 1 };
            shows(&text, &format!(r#"claviger_calls_total{{method="Status",code="{name}"}} {expected}"#));
        }
    }

    #[test]
    fn a_call_that_its_peer_gave_up_is_cancelled() {
        let metrics = Metrics::default();
        drop(metrics.call(Method::Encrypt));
        shows(&scrape(&metrics), r#"claviger_calls_total{method="Encrypt",code="CANCELLED"} 1"#);
    }

    #[test]
    fn the_buckets_hold_what_a_call_takes_and_rise() {
        assert!(BUCKETS.is_sorted() && BUCKETS[0] <= 5e-6 && BUCKETS[15] >= 2.5);
        let text = scrape(&Metrics::default());
        assert_eq!(text.matches("claviger_call_duration_seconds_bucket{").count(), 4 * (BUCKETS.len() + 1));
    }

    #[test]
    fn connections_are_counted_while_they_last_and_for_ever() {
        let metrics = Metrics::default();
        let (first, _second) = (metrics.accepted(), metrics.accepted());
        metrics.peer_refused();
        metrics.refused_for_room();
        metrics.accept_failed();
        drop(first);
        let text = scrape(&metrics);
        for line in [
            "claviger_connections 1",
            r#"claviger_connections_total{result="accepted"} 2"#,
            r#"claviger_connections_total{result="peer_refused"} 1"#,
            r#"claviger_connections_total{result="no_place"} 1"#,
            "claviger_accept_failures_total 1",
        ] {
            shows(&text, line);
        }
    }

    #[test]
    fn the_self_test_is_shown_as_it_went_last() {
        let metrics = Metrics::default();
        shows(&scrape(&metrics), "claviger_self_test_ok 1");
        metrics.self_test(false);
        shows(&scrape(&metrics), "claviger_self_test_ok 0");
        metrics.self_test(true);
        shows(&scrape(&metrics), "claviger_self_test_ok 1");
        shows(&scrape(&metrics), "claviger_self_test_failures_total 1");
    }

    #[test]
    fn the_keyring_is_shown_when_it_is_open() {
        let text = scrape(&Metrics::default());
        for line in [
            "claviger_sealed 0",
            "claviger_keyring_generation 3",
            "claviger_unbacked_keys 1",
            "claviger_degraded 0",
            r#"claviger_missing_key_calls_total{key_id_hash="others"} 0"#,
            r#"claviger_missing_key_calls_total{key_id_hash="sha256:c"} 4"#,
            r#"claviger_key_unwraps_total{key_id_hash="sha256:a"} 7"#,
            r#"claviger_key_unwraps_total{key_id_hash="sha256:b"} 0"#,
            r#"claviger_key_info{key_id_hash="sha256:a",state="decrypt-only"} 1"#,
            r#"claviger_key_info{key_id_hash="sha256:b",state="primary"} 1"#,
        ] {
            shows(&text, line);
        }
        let sealed = Metrics::default().exposition(None).unwrap();
        shows(&sealed, "claviger_sealed 1");
        assert!(!sealed.contains("claviger_key") && !sealed.contains("claviger_unbacked_keys"), "{sealed}");
    }

    /// The rules of `promtool check metrics`: HELP and TYPE before the samples of each name, `_total` for counters
    /// only.
    #[test]
    fn every_sample_has_help_and_a_type_of_its_own_name() {
        let text = scrape(&Metrics::default());
        let mut current = (String::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                assert!(help.split_once(' ').unwrap().1.len() > 10, "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                current = (name.to_owned(), kind.to_owned());
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
                let base = base.filter(|_| current.1 == "histogram").unwrap_or(name);
                assert_eq!(base, current.0, "{line}");
            }
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    }
}
