//! Sweeps over a real etcd, with an API server that answers as a script says. What a real one answers is in the
//! integration tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{runtime::Runtime, sync::watch, time::Instant};

use super::{FailureKind, Patience, RequestPace, StaleScan, Sweep, SweepEnd, SweepFailure, SweepOutcome};
use crate::{
    apiclient::{
        ApiError, CredentialsError, ObjectAnswer, ObjectApi, ObjectRef, RewriteAnswer, ServedResource, Unanswered,
    },
    apiserver::coverage::{Coverage, KmsV1},
    etcd::Servers,
    harness::{etcd::Etcd, processes::Run},
    scan::{judge::Judge, names::Names, summarizer::Summarizer},
};

/// The EncryptionConfiguration: Secrets and two custom resources have to be encrypted, so their plaintext is stale.
/// Pods may be plaintext.
const CONFIG: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, events, widgets.example.com, gone.example.com]
  providers: [{kms: {apiVersion: v2, name: claviger, endpoint: 'unix:///s'}}, {identity: {}}]
";

const KEYS: [&str; 6] = [
    "/registry/events/default/e",
    "/registry/example.com/gone/default/g",
    "/registry/example.com/widgets/w",
    "/registry/pods/default/p",
    "/registry/secrets/default/a",
    "/registry/secrets/default/b",
];

type Script = dyn Fn(&str, usize) -> RewriteAnswer + Send + Sync;

/// An API server whose script gets the path of an object, and how often it was patched before, and returns the answer.
struct Scripted {
    /// The etcd in which an object with a new revision is written.
    etcd: Option<Arc<Etcd>>,
    script: Box<Script>,
    touched: Mutex<BTreeMap<String, usize>>,
    served: Mutex<Vec<Result<(), ApiError>>>,
}

impl Scripted {
    fn new(etcd: Option<Arc<Etcd>>, script: impl Fn(&str, usize) -> RewriteAnswer + Send + Sync + 'static) -> Self {
        Self { etcd, script: Box::new(script), touched: Mutex::default(), served: Mutex::default() }
    }

    fn touched(&self) -> BTreeMap<String, usize> {
        self.touched.lock().unwrap().clone()
    }
}

impl ObjectApi for Scripted {
    async fn rewrite(&self, object: &ObjectRef) -> RewriteAnswer {
        let path = object.path();
        let before = {
            let mut touched = self.touched.lock().unwrap();
            let count = touched.entry(path.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let touched = (self.script)(&path, before);
        if let (Some(etcd), RewriteAnswer::Object(ObjectAnswer::At(NEW))) = (&self.etcd, &touched) {
            etcd.put(&key_of(&path), b"{}").unwrap();
        }
        touched
    }

    async fn poke(&self) {}

    async fn groups(&self) -> Result<Vec<String>, ApiError> {
        Ok(vec!["example.com".to_owned()])
    }

    async fn served(&self, group: &str) -> Result<Vec<ServedResource>, ApiError> {
        if let Some(answer) = self.served.lock().unwrap().pop() {
            answer?;
        }
        let resource = |base: &str, name: &str, is_namespaced| ServedResource {
            base: base.to_owned(),
            name: name.to_owned(),
            is_namespaced,
        };
        Ok(match group {
            "" => vec![resource("/api/v1", "secrets", true), resource("/api/v1", "pods", true)],
            _ => vec![resource("/apis/example.com/v1", "widgets", false)],
        })
    }
}

/// An etcd with [`KEYS`] in plaintext.
struct Bench {
    runtime: Runtime,
    places: Vec<Servers>,
    judge: Judge,
    left: BTreeSet<Vec<u8>>,
    batch: usize,
    stop: watch::Receiver<bool>,
    etcd: Arc<Etcd>,
}

const QUICK: Patience = Patience {
    adoption: Duration::from_millis(400),
    retry: Duration::from_millis(20),
    silence: Duration::from_millis(2500),
};

/// A revision that no object has.
const NEW: u64 = 1_000_000;

impl Bench {
    fn new() -> Self {
        let run = Run::new().unwrap();
        let etcd = Arc::new(Etcd::start(&run, 1).unwrap());
        for key in KEYS {
            etcd.put(key, b"{}").unwrap();
        }
        let places = vec![Servers { urls: etcd.client_urls(), ..Servers::default() }];
        let judge = Judge { coverage: Some(Coverage::parse(CONFIG, KmsV1::Refused).unwrap()), keys: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (_, stop) = watch::channel(false);
        Self { runtime, places, judge, left: BTreeSet::new(), batch: 2, stop, etcd }
    }

    fn sweep(&self, api: &Arc<Scripted>) -> SweepOutcome {
        let summarizer = Summarizer::new(Names::new("/registry"), [0; 16]);
        let Self { places, judge, left, batch, .. } = self;
        let scan = StaleScan { places, judge, left, batch: *batch, summarizer: &summarizer };
        let (pace, stop) = (RequestPace::new(None, Instant::now()), self.stop.clone());
        let sweep = Sweep { runtime: &self.runtime, scan: &scan, api, pace, patience: QUICK, stop };
        sweep.run(&mut |_| ()).unwrap()
    }

    fn run(
        &self,
        script: impl Fn(&str, usize) -> RewriteAnswer + Send + Sync + 'static,
    ) -> (SweepOutcome, Arc<Scripted>) {
        let api = Arc::new(Scripted::new(Some(Arc::clone(&self.etcd)), script));
        (self.sweep(&api), api)
    }
}

const A: &str = "/api/v1/namespaces/default/secrets/a";
const B: &str = "/api/v1/namespaces/default/secrets/b";
const W: &str = "/apis/example.com/v1/widgets/w";

fn key_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap();
    let resource = if path.contains("widgets") { "example.com/widgets" } else { "secrets/default" };
    format!("/registry/{resource}/{name}")
}

#[test]
fn an_api_server_that_uses_another_etcd_is_recognised_by_its_first_answer() {
    let bench = Bench::new();
    for answer in [RewriteAnswer::Object(ObjectAnswer::At(NEW)), RewriteAnswer::Object(ObjectAnswer::Gone)] {
        let api = Arc::new(Scripted::new(None, move |_, _| answer.clone()));
        let outcome = bench.sweep(&api);
        assert_eq!((outcome.end, api.touched().len()), (SweepEnd::Failed(SweepFailure::OtherCluster), 1));
    }
}

fn failures(outcome: &SweepOutcome) -> Vec<(&str, FailureKind)> {
    outcome.failures.named().iter().map(|failure| (failure.key.as_str(), failure.kind)).collect()
}

#[test]
fn each_stale_object_is_tried_and_what_is_in_the_way_is_survived() {
    let mut bench = Bench::new();
    let all = |count: usize| [A, B, W].map(|path| (path.to_owned(), count)).into();

    let (outcome, api) = bench.run(|_, _| RewriteAnswer::Object(ObjectAnswer::At(NEW)));
    assert_eq!((outcome.end.clone(), outcome.written, api.touched()), (SweepEnd::Tried, 3, all(1)));
    assert_eq!(
        outcome.failures.named()[0].reason,
        "the API server serves no resource gone.example.com that can be patched"
    );

    // Conflicts and busy answers are tried again. A success is not.
    let (outcome, api) = bench.run(|_, before| match before {
        0 => RewriteAnswer::Object(ObjectAnswer::Conflict),
        1 => RewriteAnswer::Unanswered(Unanswered::Busy {
            wait: Some(Duration::from_millis(1)),
            reason: "full".to_owned(),
        }),
        _ => RewriteAnswer::Object(ObjectAnswer::At(NEW)),
    });
    assert_eq!((outcome.written, outcome.conflicts, outcome.busy, api.touched()), (3, 3, 3, all(3)));
    let (outcome, api) = bench.run(|path, _| {
        if path == A {
            RewriteAnswer::Object(ObjectAnswer::Conflict)
        } else {
            RewriteAnswer::Object(ObjectAnswer::At(NEW))
        }
    });
    assert_eq!((outcome.written, api.touched()[A]), (2, 10));
    assert!(failures(&outcome).contains(&("/registry/secrets/default/a", FailureKind::Conflict)));

    // An object that is refused or gone does not hold up the others.
    let (outcome, _) = bench.run(|path, _| match path {
        A => RewriteAnswer::Object(ObjectAnswer::Gone),
        B => RewriteAnswer::Object(ObjectAnswer::Refused("no key".to_owned())),
        _ => RewriteAnswer::Object(ObjectAnswer::At(NEW)),
    });
    assert_eq!((outcome.end.clone(), outcome.written, outcome.gone), (SweepEnd::Tried, 1, 1));
    let gone = ("/registry/example.com/gone/default/g", FailureKind::NotServed);
    assert_eq!(outcome.failures.count(), 2);
    assert_eq!(failures(&outcome), [gone, ("/registry/secrets/default/b", FailureKind::Refused)]);

    // Objects that are left by name are not tried.
    bench.left = [b"/registry/secrets/default/a".to_vec()].into();
    let (_, api) = bench.run(|_, _| RewriteAnswer::Object(ObjectAnswer::At(NEW)));
    assert_eq!(api.touched().keys().collect::<Vec<_>>(), [B, W]);
    bench.left.clear();

    // Batches of every size contain all objects.
    for batch in [1, 3, 100] {
        bench.batch = batch;
        let (outcome, api) = bench.run(|_, _| RewriteAnswer::Object(ObjectAnswer::At(NEW)));
        assert_eq!((outcome.written, api.touched()), (3, all(1)), "{batch}");
    }
}

#[test]
fn an_api_server_that_does_not_write_is_waited_for_and_then_given_up() {
    let bench = Bench::new();
    let revisions = |path: &str| match path {
        W => 4,
        A => 6,
        _ => 7,
    };
    let old = bench.run(move |path, _| RewriteAnswer::Object(ObjectAnswer::At(revisions(path))));
    let api = old.1.touched();
    // A revision that is not newer means that the API server has written nothing.
    assert_eq!((old.0.end.clone(), old.0.written, old.0.is_awaiting_adoption), (SweepEnd::NotAdopted, 0, true));
    assert!(api.values().all(|count| *count > 2), "{api:?}");

    // As soon as one object is written, the others are tried again at once.
    let (outcome, _) = bench.run(move |path, before| match before {
        ..=3 => RewriteAnswer::Object(ObjectAnswer::At(revisions(path))),
        _ => RewriteAnswer::Object(ObjectAnswer::At(NEW)),
    });
    assert_eq!((outcome.end.clone(), outcome.is_awaiting_adoption), (SweepEnd::Tried, false));
    assert!(outcome.written >= 1 && outcome.written + outcome.unchanged == 3, "{outcome:?}");
}

#[test]
fn an_api_server_that_nobody_can_use_ends_the_sweep() {
    let bench = Bench::new();
    let (outcome, _) =
        bench.run(|_, _| RewriteAnswer::Unanswered(Unanswered::Unreachable("connection refused".to_owned())));
    assert_eq!(
        (outcome.end.clone(), outcome.written),
        (SweepEnd::Failed(SweepFailure::Unreachable("connection refused".to_owned())), 0)
    );
    let (outcome, api) =
        bench.run(|_, _| RewriteAnswer::Unanswered(Unanswered::Unauthenticated("Unauthorized".to_owned())));
    assert_eq!(outcome.end, SweepEnd::Failed(SweepFailure::Unauthenticated("Unauthorized".to_owned())));
    assert_eq!(api.touched().values().sum::<usize>(), 1, "nothing is tried after it");

    let (outcome, api) =
        bench.run(|_, _| RewriteAnswer::Unanswered(Unanswered::NoCredentials(CredentialsError::NonePrinted)));
    assert_eq!(outcome.end, SweepEnd::Failed(SweepFailure::NoCredentials(CredentialsError::NonePrinted)));
    assert_eq!(api.touched().values().sum::<usize>(), 1, "nothing is tried after it");

    // An API server that is busy for ever counts as unreachable.
    let busy = || RewriteAnswer::Unanswered(Unanswered::Busy { wait: None, reason: "full".to_owned() });
    let (outcome, _) = bench.run(move |_, _| busy());
    assert_eq!((outcome.end, outcome.written), (SweepEnd::Failed(SweepFailure::Unreachable("full".to_owned())), 0));

    // The API server answers again in time, and the objects that were under way are not lost.
    let (outcome, _) = bench.run(|_, before| match before {
        0 => RewriteAnswer::Unanswered(Unanswered::Unreachable("connection reset".to_owned())),
        _ => RewriteAnswer::Object(ObjectAnswer::At(NEW)),
    });
    assert_eq!((outcome.end.clone(), outcome.written), (SweepEnd::Tried, 3));
}

fn refused(status: u16) -> ApiError {
    ApiError::Refused { url: "https://a".to_owned(), status, path: "/api/v1".to_owned(), reason: "no".to_owned() }
}

#[test]
fn an_api_server_that_does_not_say_what_it_serves_ends_the_sweep_unless_it_is_busy() {
    let bench = Bench::new();
    let url = || "https://a".to_owned();
    let malformed = || ApiError::Malformed { url: url(), path: "/api/v1".to_owned(), reason: "EOF".to_owned() };
    let no_api = || ApiError::NoApi { url: url() };
    assert_eq!(malformed().to_string(), "the answer of the API server at https://a to /api/v1 has another form: EOF");
    assert_eq!(refused(400).to_string(), "the API server at https://a answered HTTP 400 to /api/v1: no");
    assert_eq!(no_api().to_string(), "the server at https://a is not an API server: it does not serve /api/v1");
    for (error, expected) in [
        (no_api(), SweepEnd::Failed(SweepFailure::NotAnApiServer(no_api()))),
        (
            ApiError::NoCredentials(CredentialsError::NonePrinted),
            SweepEnd::Failed(SweepFailure::NoCredentials(CredentialsError::NonePrinted)),
        ),
        (refused(400), SweepEnd::Failed(SweepFailure::NotAnApiServer(refused(400)))),
        (refused(401), SweepEnd::Failed(SweepFailure::Unauthenticated("no".to_owned()))),
        (refused(403), SweepEnd::Failed(SweepFailure::Denied("no".to_owned()))),
        (malformed(), SweepEnd::Failed(SweepFailure::NotAnApiServer(malformed()))),
    ] {
        let api =
            Arc::new(Scripted::new(Some(Arc::clone(&bench.etcd)), |_, _| RewriteAnswer::Object(ObjectAnswer::At(NEW))));
        *api.served.lock().unwrap() = vec![Err(error)];
        let outcome = bench.sweep(&api);
        assert_eq!(outcome.end, expected);
        assert!(api.touched().is_empty());
    }
    let api =
        Arc::new(Scripted::new(Some(Arc::clone(&bench.etcd)), |_, _| RewriteAnswer::Object(ObjectAnswer::At(NEW))));
    let reason = "connection refused".to_owned();
    *api.served.lock().unwrap() = vec![Err(ApiError::Unreachable { url: url(), reason }), Err(refused(503))];
    let outcome = bench.sweep(&api);
    assert_eq!((outcome.written, outcome.busy), (3, 1), "it is asked again");
    assert_eq!(failures(&outcome), [("/registry/example.com/gone/default/g", FailureKind::NotServed)]);

    // An API server that is busy for ever counts as unreachable here, too.
    let api =
        Arc::new(Scripted::new(Some(Arc::clone(&bench.etcd)), |_, _| RewriteAnswer::Object(ObjectAnswer::At(NEW))));
    *api.served.lock().unwrap() = (0..1000).map(|_| Err(refused(503))).collect();
    assert_eq!(bench.sweep(&api).end, SweepEnd::Failed(SweepFailure::Unreachable(refused(503).to_string())));
    assert!(api.touched().is_empty());
}

#[test]
fn a_user_without_the_right_ends_the_sweep_and_an_interruption_does() {
    let mut bench = Bench::new();
    for number in 0..30 {
        bench.etcd.put(&format!("/registry/secrets/default/c{number:02}"), b"{}").unwrap();
    }
    let (outcome, api) = bench.run(|_, _| RewriteAnswer::Object(ObjectAnswer::Denied("not you".to_owned())));
    assert_eq!(outcome.end, SweepEnd::Failed(SweepFailure::Denied("not you".to_owned())));
    assert!(api.touched().len() <= 21, "{:?}", api.touched().len());
    // A sweep does not end if the user lacks the rights for some resources only.
    let (outcome, _) = bench.run(|path, _| match path {
        W => RewriteAnswer::Object(ObjectAnswer::At(NEW)),
        _ => RewriteAnswer::Object(ObjectAnswer::Denied("not you".to_owned())),
    });
    assert_eq!((outcome.end.clone(), outcome.written, outcome.failures.count()), (SweepEnd::Tried, 1, 33));
    for number in 0..30 {
        bench.etcd.put(&format!("/registry/example.com/widgets/v{number:02}"), b"{}").unwrap();
    }
    let (outcome, api) = bench.run(|path, _| match path {
        path if path.contains("widgets") => RewriteAnswer::Object(ObjectAnswer::Denied("not you".to_owned())),
        _ => RewriteAnswer::Object(ObjectAnswer::At(NEW)),
    });
    let widgets = api.touched().keys().filter(|path| path.contains("widgets")).count();
    assert_eq!((outcome.end, outcome.written, widgets), (SweepEnd::Tried, 32, 20), "{:?}", outcome.failures.counts());
    let (sender, stop) = watch::channel(false);
    bench.stop = stop;
    let sender = Mutex::new(sender);
    let (outcome, api) = bench.run(move |path, _| {
        if path == A {
            sender.lock().unwrap().send_replace(true);
        }
        RewriteAnswer::Object(ObjectAnswer::At(NEW))
    });
    assert_eq!(outcome.end, SweepEnd::Interrupted);
    let tried = api.touched().len() as u64;
    assert!(outcome.written == tried && tried < 63, "{tried}: {outcome:?}");
}
