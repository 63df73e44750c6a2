//! What a dry run sees that may stop the rotation later.

use std::fs;

use super::{LIMIT, hurried, keys, rotate};
use crate::{
    cli::sandbox::Answer,
    harness::certificates::ClientCertificate,
    reencrypt::rig::{Rig, STATE, has_all},
};

/// Webhooks that nobody answers. The first one is asked about Secrets, the second one about them and is ignored
/// if it does not answer, the third one is asked about something else.
const WEBHOOKS: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: guards}
webhooks:
- &hook
  name: closed.example.com
  clientConfig: {url: 'https://127.0.0.1:1/'}
  failurePolicy: Fail
  sideEffects: None
  admissionReviewVersions: [v1]
  rules: [{apiGroups: [''], apiVersions: [v1], operations: [UPDATE], resources: [secrets]}]
- <<: *hook
  name: open.example.com
  failurePolicy: Ignore
- <<: *hook
  name: other.example.com
  rules: [{apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], resources: ['*']}]
";

#[test]
fn webhooks_that_may_refuse_and_the_room_in_etcd_are_shown_before_a_rotation() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 3);
    let line = "--dry-run --without-backup --api-servers 1";
    let free = rotate(&mut rig, &format!("{line} --output json"), 0);
    let plan: serde_json::Value = serde_json::from_str(free.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(plan["may_refuse"], serde_json::json!([]), "{plan}");
    assert_eq!((&plan["not_known"], &plan["stop"]), (&serde_json::json!([]), &serde_json::Value::Null), "{plan}");
    let member = &plan["etcd"][0];
    assert_eq!((&member["quota_bytes"], &member["no_space"]), (&(2_u64 << 30).into(), &false.into()), "{plan}");
    assert!(member["bytes_in_use"].as_u64().unwrap() <= member["bytes"].as_u64().unwrap(), "{plan}");
    assert!((1000..1_000_000).contains(&plan["added_bytes"].as_u64().unwrap()), "{plan}");

    rig.apply(WEBHOOKS);
    let guarded = rotate(&mut rig, line, 0);
    let expected = "  the API server asks ValidatingWebhookConfiguration guards, webhook closed.example.com before it writes secrets, and \
                    it may refuse\n";
    has_all(&guarded, &[expected, " MiB to etcd until it is compacted\n", "; it may have 2,048 MiB\n"]);
    // A webhook that is ignored if it does not answer may still refuse.
    assert!(
        guarded.stdout.contains("webhook open.example.com before it writes secrets, and it may refuse\n"),
        "{guarded}"
    );
    assert!(!guarded.stdout.contains("other.example.com"), "{guarded}");

    rig.etcd.restart_with(0, &["--quota-backend-bytes=100000"]).unwrap();
    // The first write beyond the quota raises the alarm.
    rig.etcd.put("/elsewhere", b"x").unwrap_err();
    let full = "refuses every write: its database has become as large as it may (alarm NOSPACE)";
    for line in [line, "--without-backup --api-servers 1"] {
        let stopped = rotate(&mut rig, line, 3);
        has_all(&stopped, &["error: etcd http://", full, " alarm disarm"]);
    }
    assert_eq!(keys(&rig), [(1, "primary".to_owned())], "nothing was changed");
}

/// Runs a rotation with another kubeconfig.
fn rotate_as(rig: &mut Rig, kubeconfig: &str, more: &str) -> Answer {
    let pid = rig.api.process().unwrap().id();
    let line = format!(
        "rotate --socket [DIR]/run/kms.sock {STATE} --apiserver-process {pid} --kubeconfig {kubeconfig} --without-backup \
         --api-servers 1 {more}"
    );
    rig.sandbox.call(&line).by(&hurried(), LIMIT).run()
}

/// After the promotion, nothing could be rewritten.
#[test]
fn an_api_server_that_cannot_be_used_stops_a_rotation_before_it_begins() {
    let (mut rig, other) = (Rig::new(), Rig::new());
    rig.create_secrets("old", 2);
    // In two new clusters, this object may have the same revision.
    other.api.kubectl(&["annotate", "namespace", "kube-system", "of=another"]).unwrap();
    let whole = fs::read_to_string(rig.kubeconfig()).unwrap();
    let authority = whole.lines().find(|line| line.contains("certificate-authority-data: ")).unwrap();
    let server = whole.lines().find(|line| line.contains("server: ")).unwrap();
    let stranger = ClientCertificate::create(rig.sandbox.root(), "stranger").unwrap();
    let strange = whole.replace(authority, &format!("    certificate-authority: {}", stranger.certificate.display()));
    let config = rig.sandbox.path("other.yaml");
    for (text, exit, expected) in [
        (whole.replacen("token: ", "token: x", 1), 3, " does not accept the credentials: "),
        (strange, 6, "invalid peer certificate: UnknownIssuer"),
        (whole.replace(server, "    server: https://127.0.0.1:1"), 6, "hint:  nothing listens at this address"),
        (fs::read_to_string(other.kubeconfig()).unwrap(), 2, " keeps its objects in another etcd\n"),
    ] {
        fs::write(&config, text).unwrap();
        let dry = rotate_as(&mut rig, &config.display().to_string(), "--dry-run");
        has_all(dry.ends_with(exit), &["A rotation would stop at once, for the reason below.", expected]);
        let refused = rotate_as(&mut rig, &config.display().to_string(), "");
        has_all(refused.ends_with(exit), &[expected]);
        assert_eq!(keys(&rig), [(1, "primary".to_owned())], "nothing was changed");
    }
}
