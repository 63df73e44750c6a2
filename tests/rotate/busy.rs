//! Rotates while others write, read and watch.

use super::{call, events, keys};
use crate::{
    campaign::load::{Api, Load},
    harness::binaries::Program,
    reencrypt::rig::Rig,
};

const SECRETS: usize = 1000;

/// Checks that etcd has each earlier Secret under the new key, and that the API server reads its contents.
fn assert_all_are_there(rig: &Rig) {
    for key in rig.etcd.keys("/registry/secrets/").unwrap() {
        let value = rig.etcd.get(&key).unwrap().unwrap();
        assert!(value.windows(3).any(|bytes| bytes == b"k2-"), "{key}");
    }
    let row = "-o=go-template={{range .items}}{{.metadata.name}} {{.data.password | base64decode}}\n{{end}}";
    let rows = rig.api.kubectl(&["get", "secrets", row]).unwrap();
    let expected: String = (0..SECRETS).map(|number| format!("old-{number:04} pw-{number}\n")).collect();
    assert!(rows == expected, "something is missing or changed in\n{rows}");
}

#[test]
fn users_of_a_thousand_secrets_do_not_notice_a_rotation() {
    let mut rig = Rig::new();
    rig.create_secrets("old", SECRETS);
    let kubeconfig = rig.kubeconfig();
    let users =
        Load::start(&rig.run, Program::ApiClient, &["--kubeconfig", kubeconfig.to_str().unwrap(), "--crowd", "2"]);
    let done = call(&mut rig, "--without-backup --rate unlimited --output json").run();
    users.finish::<Api>().assert_nothing_failed();
    done.ends_with(0);

    let events = events(&done);
    let written =
        events.iter().filter(|event| event["event"] == "rewritten").map(|event| event["written"].as_u64().unwrap());
    let written: u64 = written.sum();
    let most = SECRETS as u64 * 105 / 100;
    assert!((SECRETS as u64..=most).contains(&written), "{written} objects were written: {done}");
    assert_eq!(events.last().unwrap()["outcome"], "clean", "{done}");
    assert_eq!(keys(&rig), [(1, "decrypt-only".to_owned()), (2, "primary".to_owned())]);
    rig.is_clean();
    assert_all_are_there(&rig);
}
