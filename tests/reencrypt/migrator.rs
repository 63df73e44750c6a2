//! Tests re-encryption by the cluster's own migrator, with a real kube-controller-manager.

use std::{path::Path, time::Duration};

use super::{
    refusals::{POLICY, account, wait_for_policy},
    rig::{Rig, has_all},
};
use crate::{
    cli::sandbox::{CLAVIGER, Call},
    harness::{api_server::ApiServer, controller_manager::ControllerManager},
};

/// The time limit for a migration. Its controller waits with growing pauses until its cache is as new as the migration,
/// which takes a minute or two if nobody writes.
const LIMIT: Duration = Duration::from_mins(8);

const VIA: &str = "--via storage-version-migration";

fn call(rig: &mut Rig) -> Call<'_> {
    rig.call(VIA).by(Path::new(CLAVIGER), LIMIT)
}

#[test]
fn the_migrator_of_the_cluster_writes_what_is_stale_with_no_right_for_secrets() {
    let mut rig = Rig::new();
    rig.create_others();
    rig.create_secrets("old", 30);
    rig.promote_and_adopt();
    let _manager = ControllerManager::start(&rig.run, &rig.api).unwrap();
    let rights = rig.sandbox.run(&format!("generate reencrypt-rbac {VIA}")).ends_with(0).stdout.clone();
    assert!(!rights.contains("secrets") && !rights.contains("patch"), "{rights}");
    rig.apply(&rights.replace("  - create\n", ""));
    let config = account(&rig, "claviger-migrate");
    let denied = rig.call_as(&config, VIA).run();
    denied.ends_with(3);
    let hint = "to make an account with this right: claviger generate reencrypt-rbac --via storage-version-migration | kubectl apply -f -";
    has_all(&denied, &["This user lacks a right: nothing was rewritten, ", "cannot create resource", hint]);

    rig.apply(&rights);
    let done = rig.call_as(&config, &format!("{VIA} --output json")).by(Path::new(CLAVIGER), LIMIT).run();
    done.ends_with(0);
    let report = done.json();
    assert_eq!((&report["end"], &report["rest"]), (&"done".into(), &0.into()), "{report}");
    let migrations = report["migrations"].as_array().unwrap();
    let of = |resource: &str| migrations.iter().find(|one| one["resource"] == resource).unwrap();
    let selector = ["-l", "app.kubernetes.io/managed-by=claviger", "-o", "name"];
    let listed = rig.api.kubectl(&[&["get", "storageversionmigrations"][..], &selector].concat()).unwrap();
    for resource in ["secrets", "configmaps", "widgets.example.com"] {
        let migration = of(resource);
        assert_eq!(migration["state"], "succeeded", "{report}");
        let name = migration["name"].as_str().unwrap();
        assert!(name.starts_with(&format!("claviger-{resource}-")), "{report}");
        assert!(listed.contains(name), "{listed}");
    }
    assert!(report["written"].as_u64().unwrap() >= 36, "{report}");
    rig.is_clean();
    let nothing = rig.reencrypt(VIA, 0, &["Nothing to re-encrypt: "]);
    assert!(!nothing.stderr.contains("the migrator is asked"), "{nothing}");
}

#[test]
fn a_migration_that_fails_is_named_and_the_last_scan_decides() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 5);
    for name in ["refused", "refused-too"] {
        rig.api.kubectl(&["create", "secret", "generic", name, "--from-literal=a=b"]).unwrap();
    }
    rig.promote_and_adopt();
    rig.api.kubectl(&["label", "secret", "refused-too", "a=first"]).unwrap();
    rig.apply(POLICY);
    wait_for_policy(&rig, true);
    let _manager = ControllerManager::start(&rig.run, &rig.api).unwrap();
    let failed = call(&mut rig).run();
    failed.ends_with(1);
    has_all(
        &failed,
        &[
            "A migration failed: ",
            "migration   claviger-secrets-",
            " (secrets) failed: ",
            "this one stays as it is",
            "hint:  fix the cause that the migrator gives, then go on: claviger reencrypt",
            "or leave out --via: then claviger goes on with the other objects",
        ],
    );
    assert!(failed.stderr.contains("the migrator is asked to write secrets again: claviger-secrets-"), "{failed}");
    rig.reencrypt(&format!("{VIA} --leave secrets/default/refused"), 2, &["cannot be used with"]);
    rig.api.kubectl(&["delete", "validatingadmissionpolicybinding", "refuse"]).unwrap();
    wait_for_policy(&rig, false);
    call(&mut rig).run().ends_with(0);
    rig.is_clean();
}

#[test]
fn an_api_server_without_the_migrator_is_refused_before_a_scan() {
    let mut rig = Rig::new();
    let config = rig.sandbox.path("encryption.yaml");
    let old = ApiServer::on(&rig.run, &rig.etcd).encryption_config(config);
    let old = old.argument("--runtime-config=storagemigration.k8s.io/v1=false").start().unwrap();
    let kubeconfig = old.kubeconfig().display().to_string();
    let refused = rig.call_as(&kubeconfig, VIA).run();
    refused.ends_with(3);
    has_all(
        &refused,
        &["does not serve storagemigration.k8s.io/v1\nhint:  Kubernetes serves it from 1.37 on", "leave out --via"],
    );
}
