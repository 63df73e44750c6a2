//! What a dry run sees that may stop the rotation later.

use super::{keys, rotate};
use crate::reencrypt::rig::{Rig, has_all};

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
