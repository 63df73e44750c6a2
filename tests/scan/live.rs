//! Tests scans of a live etcd: over TLS, with the flags of a static pod, from any endpoint that answers, and at one
//! revision as long as etcd has it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::CommandExt,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{
    answers::{Line, assert_same, lines, scan},
    proxy::{Proxy, Then},
    scanned::put,
    truth::Store,
    values::{Chance, Stored, whole},
};
use crate::{
    cli::sandbox::{Answer, CLAVIGER, Sandbox},
    harness::{
        binaries::EtcdVersion,
        certificates::{Certificates, ClientCertificate},
        etcd::Etcd,
        processes::Run,
    },
};

/// An endpoint at which nobody listens, because the kernel keeps the port for itself.
const DEAD: &str = "http://127.0.0.1:1";

const UNREACHABLE: &str = "use the address and the certificates of the API server: --apiserver-manifest FILE";

fn start(run: &Run) -> (Etcd, Store) {
    let etcd = Etcd::start(run, 1).unwrap();
    let store = Store::new(&etcd.endpoints());
    (etcd, store)
}

fn fill(store: &mut Store, directory: &str) {
    for (number, value) in whole(300, &mut Chance(3)).into_iter().enumerate() {
        store.put(&format!("{directory}/secrets/default/{number}"), value);
    }
}

fn key(number: usize) -> String {
    format!("/registry/secrets/default/{number:06}")
}

/// Writes `secrets` Secrets of 300 bytes.
fn fill_many(store: &mut Store, secrets: usize) {
    fill_with(store, secrets, 160);
}

/// Writes `secrets` Secrets, each with `length` bytes of encrypted data.
fn fill_with(store: &mut Store, secrets: usize, length: usize) {
    let mut chance = Chance(5);
    let value = Stored::kms_v2("claviger", "k1", b"seed", length, &mut chance);
    store.put_many((0..secrets).map(|number| (key(number), value.clone())));
}

/// The flags are those of a process: a shell with the name kube-apiserver, which waits.
#[test]
fn the_etcds_of_overrides_are_read_too_and_the_report_says_whose_flags_it_read() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let [main, events] = [(), ()].map(|()| Etcd::start(&run, 1).unwrap());
    put(&main, &[("/registry/secrets/a/b".to_owned(), b"{}"), ("/registry/namespaces/a".to_owned(), b"{}")]);
    put(&events, &[("/registry/events/a/b".to_owned(), b"{}"), ("/registry/events/a/c".to_owned(), b"{}")]);
    let flags = [
        format!("--etcd-servers={}", main.endpoints()),
        format!("--etcd_servers_overrides=/events#{}", events.endpoints()),
    ];
    let mut command = Command::new("sh");
    command.arg0("/usr/local/bin/kube-apiserver").args(["-c", "sleep 600 & wait", "sh"]).args(flags);
    let process = run.start("kube-apiserver", command).unwrap();
    let scan = |flags: &str| sandbox.run(&format!("scan --apiserver-process {} {flags}", process.id()));
    let answer = scan("--output json");
    let report = answer.ends_with(1).json();
    assert_eq!(report["all"]["objects"], 4, "{report}");
    assert_eq!(report["overrides"][0]["endpoints"][0], events.endpoints());
    assert_eq!(report["flags"], format!("process {}", process.id()));
    let page = scan("").stdout;
    assert!(page.contains(&format!("flags from     process {}", process.id())), "{page}");
    assert!(page.contains(&format!("and etcd       {}", events.endpoints())), "{page}");
}

#[test]
fn etcd_is_read_over_mutual_tls_by_flags_and_by_a_static_pod() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    fs::create_dir(run.path("etcd-pki")).unwrap();
    let certificates = Certificates::create(&run.path("etcd-pki")).unwrap();
    let client = ClientCertificate::create(&run.path("etcd-pki"), "scanner").unwrap();
    let etcd = Etcd::start_secure(&run, &certificates, &client).unwrap();
    let mut store = Store::new(&etcd.endpoints());
    fill(&mut store, "/registry");

    let url = etcd.secure_url().unwrap();
    let servers = format!("--etcd-servers {url}");
    let file = |name: &str, path: &std::path::Path| format!(" --etcd-{name} {}", path.display());
    let ca = file("cafile", &certificates.authority);
    let (certificate, key) = (file("certfile", &client.certificate), file("keyfile", &client.key));
    scan(&sandbox, &format!("{servers}{ca}{certificate}{key}")).is_true(&store.truth, false, "by flags");

    // The container's /etc/kubernetes/pki/etcd has another path on the host.
    let pod = format!(
        "apiVersion: v1
kind: Pod
spec:
  containers:
  - command: [kube-apiserver, --etcd-servers={url}, --etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt]
    args: [--etcd-certfile=/etc/kubernetes/pki/etcd/scanner.crt, --etcd-keyfile, /etc/kubernetes/pki/etcd/scanner.key]
    volumeMounts: [{{name: pki, mountPath: /etc/kubernetes/pki}}, {{name: etcd, mountPath: /etc/kubernetes/pki/etcd}}]
  volumes:
  - {{name: pki, hostPath: {{path: /nowhere}}}}
  - {{name: etcd, hostPath: {{path: {}}}}}
",
        run.path("etcd-pki").display()
    );
    fs::write(sandbox.path("pod.yaml"), pod).unwrap();
    scan(&sandbox, "--apiserver-manifest [DIR]/pod.yaml").is_true(&store.truth, false, "by a static pod");

    let stranger = sandbox.path("stranger");
    fs::create_dir(&stranger).unwrap();
    let stranger = ClientCertificate::create(&stranger, "stranger").unwrap();
    let (other_ca, other) = (file("cafile", &stranger.certificate), file("certfile", &stranger.certificate));
    let (other_key, missing) = (file("keyfile", &stranger.key), " --etcd-cafile [DIR]/missing");
    let refused = |exit, flags: &str| sandbox.refused(exit, &format!("scan {flags}")).complaint();
    let unreachable = |flags: String, expected: &str, begin: &str, end: &str| {
        let complaint = refused(6, &flags);
        let (error, hint) = complaint.split_once('\n').unwrap();
        assert!(
            error.starts_with(&format!("error: etcd {url} does not answer: ")) && error.contains(expected),
            "{error} for {flags}"
        );
        assert!(hint.starts_with(&format!("hint:  something listens there, and it{begin}")), "{complaint}");
        assert!(hint.ends_with(&format!("{end}\n")), "{complaint}");
    };
    let authority = sandbox.mask(&stranger.certificate.display().to_string());
    let of_authority =
        format!("{UNREACHABLE}; the certificate of etcd has to be signed by the authority in {authority}");
    unreachable(
        format!("{servers}{other_ca}{certificate}{key}"),
        "UnknownIssuer",
        "s certificate is refused: ",
        &of_authority,
    );
    // The error depends on which side closes the connection first.
    let certified = format!(
        "clients with a certificate of its authority: --etcd-certfile FILE --etcd-keyfile FILE; or {UNREACHABLE}"
    );
    unreachable(format!("{servers}{ca}"), "", "", &certified);
    unreachable(format!("{servers}{ca}{other}{other_key}"), "", "", &certified);
    let half = "error: a client certificate without its key, or a key without its certificate\n\
                hint:  give both: --etcd-certfile FILE --etcd-keyfile FILE\n";
    assert_eq!(refused(2, &format!("{servers}{ca}{certificate}")), half);
    assert_eq!(refused(2, &format!("{servers}{ca}{key}")), half);
    let https = format!(
        "error: etcd endpoint {url:?}: TLS needs the certificate authority that signs etcd's certificate\n\
         hint:  give it: --etcd-cafile FILE\n"
    );
    assert_eq!(refused(2, &servers), https);
    assert_eq!(
        refused(2, &format!("{servers}{missing}")),
        "error: [DIR]/missing: No such file or directory (os error 2)\n\
         hint:  to see which files are there: ls -l [DIR]\n"
    );
    let pod = sandbox.path("pod.yaml");
    fs::write(sandbox.path("empty"), "").unwrap();
    let empty = file("cafile", &sandbox.path("empty"));
    let (no_certificate, no_key) = (file("certfile", &pod), file("keyfile", &pod));
    let (of_etcd, of_other) = (client.certificate.display(), "[DIR]/stranger/stranger.key");
    for (flags, error, hint) in [
        (
            empty,
            "[DIR]/empty is empty, expected a certificate in PEM".to_owned(),
            "use the files of the API server: --apiserver-manifest FILE".to_owned(),
        ),
        (
            format!("{ca}{no_certificate}{key}"),
            "[DIR]/pod.yaml contains something else, expected a certificate in PEM".to_owned(),
            "convert it to PEM: openssl x509 -in [DIR]/pod.yaml -outform pem".to_owned(),
        ),
        (
            format!("{ca}{certificate}{no_key}"),
            "[DIR]/pod.yaml contains something else, expected a private key in PEM without a passphrase".to_owned(),
            "write it in PEM without a passphrase: openssl pkey -in [DIR]/pod.yaml -out FILE".to_owned(),
        ),
        (
            format!("{ca}{certificate}{other_key}"),
            format!("{of_etcd} and {of_other} cannot be used together: keys may not be consistent: KeyMismatch"),
            format!(
                "give the key that belongs to the certificate; these print the same if it does: \
                 openssl x509 -in {of_etcd} -noout -pubkey; openssl pkey -in {of_other} -pubout"
            ),
        ),
    ] {
        assert_eq!(refused(2, &format!("{servers}{flags}")), format!("error: {error}\nhint:  {hint}\n"));
    }
    // One side speaks TLS and the other does not.
    let plain = etcd.endpoints().replace("http:", "https:");
    let no_tls = refused(6, &format!("--etcd-servers {plain}{ca}{certificate}{key}"));
    let speaks =
        format!("it speaks no TLS: if it is etcd: --etcd-servers {}; otherwise {UNREACHABLE}\n", etcd.endpoints());
    assert!(no_tls.ends_with(&speaks), "{no_tls}");
    let no_tls = refused(6, &format!("--etcd-servers {}", url.replace("https:", "http:")));
    let expects = format!("it expects TLS: --etcd-servers {url} --etcd-cafile FILE; otherwise {UNREACHABLE}\n");
    assert!(no_tls.ends_with(&expects), "{no_tls}");
}

#[test]
fn whichever_endpoint_answers_is_read_below_its_prefix_and_refusals_are_reported() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let (etcd, mut store) = start(&run);
    fill(&mut store, "/kubernetes.io/cluster");
    store.truth.prefix = "/kubernetes.io/cluster/";
    let url = etcd.endpoints();
    for (servers, prefix) in [
        (url.clone(), "/kubernetes.io/cluster"),
        (format!("{DEAD},{url}"), "kubernetes.io/cluster/"),
        (format!("{DEAD},{DEAD},{url},{DEAD}"), "/kubernetes.io/cluster/"),
    ] {
        let scanned = scan(&sandbox, &format!("--etcd-servers {servers} --etcd-prefix {prefix}"));
        scanned.is_true(&store.truth, false, &servers);
        assert_eq!(scanned.report.0["prefix"], "/kubernetes.io/cluster/");
    }
    let empty = sandbox.run(&format!("scan --etcd-servers {url}"));
    assert!(empty.ends_with(7).stdout.starts_with("There is no object below /registry/\n"), "{empty}");

    let refused = |exit, servers: &str| sandbox.refused(exit, &format!("scan --etcd-servers {servers}")).complaint();
    for servers in [DEAD.to_owned(), format!("http://127.0.0.2:1,{DEAD}")] {
        let complaint = refused(6, &servers);
        assert!(complaint.starts_with(&format!("error: etcd {DEAD} does not answer: ")), "{complaint}");
        let hint = format!(
            "hint:  nothing listens at this address: start etcd if it has stopped; if it listens elsewhere, {UNREACHABLE}\n"
        );
        assert!(complaint.contains("Connection refused") && complaint.ends_with(&hint), "{complaint}");
    }
    let scheme =
        "say how it is reached: --etcd-servers https://127.0.0.1:32379, or http://127.0.0.1:32379 if it has no TLS";
    let address = "give its address: --etcd-servers https://127.0.0.1:2379";
    let forms = "expected http://host:port, https://host:port, unix:///path or unixs:///path";
    for (wrong, reason, hint) in [
        ("127.0.0.1:32379", forms, scheme),
        ("unix://", forms, address),
        ("http://", "invalid URI: empty string", address),
    ] {
        let expected = format!("error: etcd endpoint {wrong:?}: {reason}\nhint:  {hint}\n");
        assert_eq!(refused(2, wrong), expected);
    }
    etcd.run_etcdctl(&["user", "add", "root:secret"]).unwrap();
    etcd.run_etcdctl(&["user", "grant-role", "root", "root"]).unwrap();
    etcd.run_etcdctl(&["auth", "enable"]).unwrap();
    assert_eq!(
        refused(3, &url),
        format!(
            "error: etcd {url} refused: etcdserver: user name is empty\n\
        hint:  use the client certificate of the API server: --apiserver-manifest FILE\n"
        )
    );
}

/// A place in the second page of an answer, in bytes. The proxy delays that page.
const SECOND_PAGE: usize = 1 << 20;

/// The number of Secrets, and the bytes of each: more than a held stream has under way, and more than two pages have.
const LARGE: (usize, usize) = (11_000, 5000);

/// A place in the middle of the second page or of the stream, in bytes.
const MIDDLE: usize = 8 << 20;

/// A revision that is compacted in the middle of a scan cannot be read any more, in pages (3.6) or in one stream (3.7).
#[test]
fn a_scan_goes_on_at_a_later_revision_if_etcd_compacts_its_own_and_says_so() {
    for version in [EtcdVersion::V3_6, EtcdVersion::V3_7] {
        let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
        let etcd = Etcd::start_version(&run, version, 1).unwrap();
        let mut store = Store::new(&etcd.endpoints());
        fill_with(&mut store, LARGE.0, LARGE.1);
        let mut scan_meanwhile = |flags: &str, first: usize| {
            let proxy = Proxy::start(&etcd.endpoints(), MIDDLE, Then::Hold);
            let (line, before) = (format!("scan --etcd-servers {} {flags}", proxy.url()), store.truth.clone());
            let pins = (store.revision, change_everywhere_and_compact_when(&mut store, first, &proxy, &sandbox, &line));
            (pins.1.0, before, store.truth.clone(), [pins.0, pins.1.1])
        };

        let (answer, before, after, _) = scan_meanwhile("--list", 100);
        let listed = lines(&answer.ends_with(1).stdout);
        let (before, after) = (before.lines(), after.lines());
        let first_of_later = listed.iter().position(|line| !before.contains(line)).expect("a later revision was read");
        let last = &listed[first_of_later - 1].key;
        assert!(first_of_later > 1500, "{first_of_later}");
        let later = after.iter().filter(|line| line.key > *last);
        let expected = before.iter().filter(|line| line.key <= *last).chain(later);
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "a key is listed twice");
        assert_same(&listed.iter().collect(), &expected.collect(), "each part at its revision");

        let (answer, _, _, pins) = scan_meanwhile("--output json", 200);
        let report = answer.ends_with(1).json();
        assert_eq!(report["source"]["pins"], serde_json::json!(pins));
        assert_eq!(report["source"]["revision"], pins[1]);
        assert_eq!(report["incomplete"], serde_json::json!([]));

        let (answer, _, _, [first, last]) = scan_meanwhile("", 300);
        let expected =
            format!("revision       {last}, read from revision {first} on, because etcd compacted during the scan\n");
        assert!(answer.ends_with(1).stdout.contains(&expected), "{answer}");
    }
}

fn change_everywhere_and_compact_when(
    store: &mut Store,
    first: usize,
    proxy: &Proxy,
    sandbox: &Sandbox,
    line: &str,
) -> (Answer, u64) {
    thread::scope(|scope| {
        let scanning = scope.spawn(|| sandbox.run(line));
        proxy.wait_until_held();
        for number in (first..LARGE.0).step_by(350) {
            store.put(&key(number), Stored::kms_v2("claviger", "k2", b"seed", 10, &mut Chance(1)));
            store.put(&(key(number) + "-new"), Stored::json(10));
            store.delete(&key(number + 1));
        }
        store.compact(store.revision);
        proxy.release();
        (scanning.join().unwrap(), store.revision)
    })
}

#[test]
fn a_scan_goes_on_with_another_endpoint_of_the_same_cluster_only() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let ((etcd, mut store), (stranger, mut others)) = (start(&run), start(&run));
    fill_many(&mut store, 15_000);
    fill_many(&mut others, 15_000);
    let broken = || Proxy::start(&etcd.endpoints(), SECOND_PAGE, Then::Break).url();
    let servers = |others: &str| format!("--etcd-servers {}{others}", broken());

    let list = sandbox.run(&format!("scan --list {}", servers(&format!(",{}", etcd.endpoints()))));
    let listed: BTreeSet<Line> = lines(&list.ends_with(0).stdout).into_iter().collect();
    assert_same(&listed, &store.truth.lines(), "by two endpoints");
    let cut_off = sandbox.refused(6, &format!("scan {} --output text", servers("")));
    assert!(cut_off.complaint().trim_end().ends_with(UNREACHABLE), "{cut_off}");

    let cluster = |etcd: &Etcd| {
        let report = scan(&sandbox, &format!("--etcd-servers {}", etcd.endpoints())).report.0;
        report["source"]["cluster_id"].as_str().unwrap().to_owned()
    };
    let (found, expected) = (cluster(&stranger), cluster(&etcd));
    let url = stranger.endpoints();
    let mixed = sandbox.refused(3, &format!("scan {}", servers(&format!(",{url}"))));
    let message = format!(
        "error: etcd {url} is of cluster {found}, the one before was of {expected}\n\
         hint:  name the endpoints of one cluster only: --etcd-servers\n"
    );
    assert_eq!(mixed.complaint(), message);
}

/// The first page has small values only, so it does not predict the size of the later pages: 80 MiB of values that do
/// not fit into one answer, and then values that fill an answer each.
#[test]
fn values_however_large_are_read_in_parts() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let etcd = Etcd::start_with(&run, &["--max-request-bytes=41943040"]).unwrap();
    let mut store = Store::new(&etcd.endpoints());
    store.put_many((0..500).map(|number| (format!("/registry/configmaps/default/{number}"), Stored::json(10))));
    for (directory, count, length) in [("events", 80, 1 << 20), ("secrets", 3, 33 << 20)] {
        for number in 0..count {
            store.put(&format!("/registry/{directory}/large/{number}"), Stored::json(length));
        }
    }
    scan(&sandbox, &format!("--etcd-servers {}", etcd.endpoints())).is_true(&store.truth, false, "large");
}

#[test]
fn a_hundred_thousand_objects_are_each_listed_once_while_etcd_compacts_all_the_time() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let (etcd, mut store) = start(&run);
    fill_many(&mut store, 100_000);
    let place = format!("--etcd-servers {}", etcd.endpoints());
    scan(&sandbox, &place).is_true(&store.truth, false, "quiet");

    let (stable, is_over) = (store.truth.lines(), AtomicBool::new(false));
    store.put("/registry/secrets/busy/0", Stored::json(10));
    let busy = thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                store.put(&format!("/registry/secrets/busy/{}", number % 50), Stored::json(number));
                store.writer.compact(store.revision, false).unwrap();
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let busy = thread::scope(|scope| scope.spawn(|| scan(&sandbox, &place)).join());
        is_over.store(true, Ordering::Relaxed);
        busy.unwrap()
    });
    let pins: Vec<u64> = serde_json::from_value(busy.report.0["source"]["pins"].clone()).unwrap();
    assert!(pins.len() > 1 && pins.is_sorted(), "{pins:?}");
    let keys: BTreeSet<&str> = busy.lines.iter().map(|line| line.key.as_str()).collect();
    assert_eq!(keys.len(), busy.lines.len(), "a key is listed twice");
    let listed = busy.lines.iter().filter(|line| !line.key.starts_with("/registry/secrets/busy/"));
    assert_same(&listed.collect(), &stable.iter().collect(), "busy");
}

/// The time after which a scan shows how far it is.
const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_long_scan_says_how_far_it_is_unless_it_is_to_be_quiet() {
    let run = Run::new().unwrap();
    let (etcd, mut store) = start(&run);
    fill_many(&mut store, 20_000);
    let snapshot = run.path("snapshot.db");
    etcd.snapshot(&snapshot).unwrap();
    let live = |flags: &[&str]| {
        let proxy = Proxy::start(&etcd.endpoints(), SECOND_PAGE, Then::Hold);
        let child = spawn(&[&["scan", "--etcd-servers", &proxy.url()], flags].concat());
        (proxy, child)
    };
    let all = [live(&[]), live(&["--quiet"]), live(&["--output", "json"])];
    // The readers of these lists begin to read late.
    let file = |flags: &[&str]| spawn(&[&["scan", "--list", "--snapshot", snapshot.to_str().unwrap()], flags].concat());
    let (listed, quiet) = (file(&[]), file(&["--quiet"]));
    all.iter().for_each(|(proxy, _)| proxy.wait_until_held());
    thread::sleep(LONG + Duration::from_millis(300));
    let [text, silent, json] = all.map(|(proxy, child)| {
        proxy.release();
        stderr(child)
    });
    assert!(text.contains(" of 20,000 objects, about ") && text.lines().count() == 1, "{text}");
    assert_eq!((silent.as_str(), json.as_str()), ("", ""));
    let listed = stderr(listed);
    let progress: Vec<&str> = listed.lines().filter(|line| line.contains(" left")).collect();
    assert_eq!(progress.len(), 1, "{listed}");
    assert!(progress[0].contains(" of ") && progress[0].contains(" MiB, about "), "{listed}");
    assert_eq!(stderr(quiet), "");
}

fn spawn(arguments: &[&str]) -> Child {
    Command::new(CLAVIGER).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Returns the standard error of a scan that ends with 0.
fn stderr(child: Child) -> String {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{status}: {stderr}");
    stderr
}

/// Somebody who can write to etcd must not control the terminal of an operator.
#[test]
fn a_key_that_no_api_server_writes_does_not_paint_the_terminal() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let (etcd, mut store) = start(&run);
    store.put("/registry/secrets/default/\u{1b}[31mred\n", Stored::json(10));
    store.put("/registry/secrets/default/b", Stored::kms_v2("c", "\u{1b}[32m\u{202e}", b"s", 9, &mut Chance(1)));
    store.put("/registry/\u{1b}[31mred.io/widgets/default/a", Stored::json(10));
    etcd.snapshot(&sandbox.path("db")).unwrap();
    let wanted = [("--all", "\\u{1b}[32m"), ("", " in etcd"), ("--list", "\\u001b[32m"), ("--output json", "")];
    for place in ["--snapshot [DIR]/db".to_owned(), format!("--etcd-servers {}", etcd.endpoints())] {
        for (flags, expected) in wanted {
            let answer = sandbox.run(&format!("scan {place} {flags}"));
            let text = format!("{}{}", answer.stdout, answer.stderr);
            assert!(text.contains(expected), "{text}");
            let control = text.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(control, None, "{place} {flags}: {text:?}");
        }
    }
    let files = "--html [DIR]/report.html --prometheus [DIR]/report.prom";
    sandbox.run(&format!("scan --snapshot [DIR]/db {files}"));
    for (file, expected) in [("html", "\\u{1b}[32m\\u{202e}"), ("prom", "\\\\u{1b}[32m\\\\u{202e}")] {
        let text = fs::read_to_string(sandbox.path(&format!("report.{file}"))).unwrap();
        let hidden = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        assert_eq!(hidden, None, "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
