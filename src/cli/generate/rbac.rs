//! `claviger generate reencrypt-rbac`: prints a service account, a role and its binding, with the rights that
//! re-encryption needs.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::{
    super::{
        Format, Global,
        failure::{Exit, Failure},
        output,
    },
    resource::resource,
    yaml::yaml,
};

/// The name of the service account and of its role.
const NAME: &str = "claviger-reencrypt";

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

/// Print the account and the rights that re-encryption needs in the API server
///
/// The account is claviger-reencrypt in the namespace kube-system. It may patch the resources, and nothing else. If you
/// apply the output again, its resources replace those from before, so name all resources that are encrypted.
#[derive(Args)]
#[command(after_help = "\
Example:
  claviger generate reencrypt-rbac | kubectl apply -f -
  kubectl create token --namespace kube-system claviger-reencrypt --duration 1h")]
pub(super) struct ReencryptRbacArgs {
    /// Resource that is encrypted, as the EncryptionConfiguration names it; may be given several times
    #[arg(long = "resource", value_name = "RESOURCE", default_values_t = ["secrets".to_owned()], value_parser = resource)]
    resources: Vec<String>,
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
    verbs: [&'static str; 1],
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
    let items = objects(&args.resources);
    match global.output {
        Format::Json => output::json(&List { api_version: "v1", kind: "List", items })?,
        Format::Text => {
            let documents: Vec<String> = items.iter().map(yaml).collect::<Result<_, _>>()?;
            output::text_line(format!("{HEADER}{}", documents.join("---\n")).trim_end())?;
        }
    }
    Ok(Exit::Done)
}

fn objects(resources: &[String]) -> [RbacObject; 3] {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let object = |api_version, kind, namespace| RbacObject {
        api_version,
        kind,
        metadata: RbacName { name: NAME, namespace },
        rules: Vec::new(),
        role_ref: None,
        subjects: None,
    };
    let role_ref = RoleRef { api_group: "rbac.authorization.k8s.io", kind: "ClusterRole", name: NAME };
    let account = Account { kind: "ServiceAccount", name: NAME, namespace: NAMESPACE };
    [
        object("v1", "ServiceAccount", Some(NAMESPACE)),
        RbacObject { rules: rules(resources), ..object(RBAC, "ClusterRole", None) },
        RbacObject { role_ref: Some(role_ref), subjects: Some([account]), ..object(RBAC, "ClusterRoleBinding", None) },
    ]
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
        verbs: ["patch"],
    };
    groups.into_iter().map(rule).collect()
}
