//! `claviger generate reencrypt-rbac`: prints a service account, a role and its binding, with the rights that
//! re-encryption needs, by patches or by the cluster's migrator.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::{
    super::{
        Format, Global,
        failure::{Exit, Failure},
        output,
        reencrypt::Via,
    },
    resource::resource,
    yaml::yaml,
};

/// The name of the service account that patches objects, and of its role.
const PATCHES: &str = "claviger-reencrypt";

/// The name of the service account that asks the cluster's migrator, and of its role. It differs from the other one, so
/// that one account does not replace the other.
const MIGRATES: &str = "claviger-migrate";

/// The namespace of the service account.
const NAMESPACE: &str = "kube-system";

/// The comment at the top of the YAML, for the administrator who applies it.
const HEADER: &str = "\
# What `claviger reencrypt` and `claviger rotate` need in the API server: the right to patch the resources that are encrypted.
# They send empty patches, and ask for metadata as the answer. Another client with this right can ask for the whole object,
# and can change it: treat it like the right to read and write all Secrets, and do not give it to anything that runs all the
# time.
#
# The role has exactly these resources. If you apply this file with other resources later, they replace the earlier ones, so name
# all resources that are encrypted.
#
# A token for this account, valid for an hour, to put into a kubeconfig:
#   kubectl create token --namespace kube-system claviger-reencrypt --duration 1h
";

/// The comment at the top of the YAML for the account that asks the cluster's migrator.
const MIGRATES_HEADER: &str = "\
# What `claviger reencrypt --via storage-version-migration` needs in the API server: the right to create objects of the kind
# StorageVersionMigration, and to read them. It needs no right for the resources that are encrypted: the migrator of the cluster
# writes the objects again.
#
# A token for this account, valid for an hour, to put into a kubeconfig:
#   kubectl create token --namespace kube-system claviger-migrate --duration 1h
";

/// Print the account and the rights that re-encryption needs in the API server
///
/// The account is claviger-reencrypt in the namespace kube-system. It may patch the resources, and nothing else. If you
/// apply the output again, its resources replace those from before, so name all resources that are encrypted.
#[derive(Args)]
#[command(after_help = "\
Example:
  claviger generate reencrypt-rbac | kubectl apply -f -
  claviger generate reencrypt-rbac --via storage-version-migration | kubectl apply -f -
  kubectl create token --namespace kube-system claviger-reencrypt --duration 1h")]
pub(super) struct ReencryptRbacArgs {
    /// Resource that is encrypted, as the EncryptionConfiguration names it; may be given several times
    #[arg(long = "resource", value_name = "RESOURCE", default_values_t = ["secrets".to_owned()], value_parser = resource)]
    resources: Vec<String>,
    /// The rights that `claviger reencrypt --via` needs instead: to create migrations, and to read them. The account is
    /// claviger-migrate
    #[arg(long, value_enum, value_name = "MIGRATOR", conflicts_with = "resources")]
    via: Option<Via>,
}

/// A list of Kubernetes objects, as `kubectl apply` reads it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    api_version: &'static str,
    kind: &'static str,
    items: [RbacObject; 3],
}

/// An account, a role, or what binds them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RbacObject {
    api_version: &'static str,
    kind: &'static str,
    metadata: RbacName,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<RbacRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_ref: Option<RoleRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subjects: Option<[Account; 1]>,
}

#[derive(Serialize)]
struct RbacName {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RbacRule {
    api_groups: [String; 1],
    resources: Vec<String>,
    verbs: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoleRef {
    api_group: &'static str,
    kind: &'static str,
    name: &'static str,
}

#[derive(Serialize)]
struct Account {
    kind: &'static str,
    name: &'static str,
    namespace: &'static str,
}

/// Runs `claviger generate reencrypt-rbac`.
///
/// # Errors
/// When the output cannot be written.
pub(super) fn run(args: &ReencryptRbacArgs, global: &Global) -> Result<Exit, Failure> {
    let (header, items) = match args.via {
        Some(Via::StorageVersionMigration) => (MIGRATES_HEADER, objects(MIGRATES, vec![migrations()])),
        None => (HEADER, objects(PATCHES, rules(&args.resources))),
    };
    match global.output {
        Format::Json => output::json(&List { api_version: "v1", kind: "List", items })?,
        Format::Text => {
            let documents: Vec<String> = items.iter().map(yaml).collect::<Result<_, _>>()?;
            output::text_line(format!("{header}{}", documents.join("---\n")).trim_end())?;
        }
    }
    Ok(Exit::Done)
}

fn objects(name: &'static str, rules: Vec<RbacRule>) -> [RbacObject; 3] {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let object = |api_version, kind, namespace| RbacObject {
        api_version,
        kind,
        metadata: RbacName { name, namespace },
        rules: Vec::new(),
        role_ref: None,
        subjects: None,
    };
    let role_ref = RoleRef { api_group: "rbac.authorization.k8s.io", kind: "ClusterRole", name };
    let account = Account { kind: "ServiceAccount", name, namespace: NAMESPACE };
    [
        object("v1", "ServiceAccount", Some(NAMESPACE)),
        RbacObject { rules, ..object(RBAC, "ClusterRole", None) },
        RbacObject { role_ref: Some(role_ref), subjects: Some([account]), ..object(RBAC, "ClusterRoleBinding", None) },
    ]
}

/// Returns the rule to create migrations and to read them.
fn migrations() -> RbacRule {
    RbacRule {
        api_groups: ["storagemigration.k8s.io".to_owned()],
        resources: vec!["storageversionmigrations".to_owned()],
        verbs: vec!["create", "get"],
    }
}

/// Returns one rule for each API group. A resource without a dot is in the core group, whose name is empty.
fn rules(resources: &[String]) -> Vec<RbacRule> {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for resource in resources {
        let (name, group) = resource.split_once('.').unwrap_or((resource, ""));
        groups.entry(group).or_default().push(name.to_owned());
    }
    let rule = |(group, resources): (&str, Vec<String>)| RbacRule {
        api_groups: [group.to_owned()],
        resources,
        verbs: vec!["patch"],
    };
    groups.into_iter().map(rule).collect()
}
