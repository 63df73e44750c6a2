//! The webhooks and policies of admission that may refuse to let the API server write an object again.
//!
//! An empty patch is an update, so the API server asks every webhook and policy whose rules match an update of the
//! resource, although the patch changes nothing. Selectors and conditions are ignored, because they depend on the
//! object.
//!
//! Sources: `k8s.io/api`, `admissionregistration/v1`; `k8s.io/apiserver`, `pkg/admission/plugin/webhook/predicates`.

use std::collections::BTreeSet;

use serde::Deserialize;

/// A webhook or policy that the API server asks before it writes an object. Whatever its `failurePolicy` is, it may
/// refuse: that field is about a webhook that does not answer, and about conditions that fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The kind of the configuration object.
    pub kind: &'static str,
    /// The name of the configuration object.
    pub name: String,
    /// The name of the webhook in its configuration. `None` for a policy.
    pub webhook: Option<String>,
    rules: Vec<AdmissionRule>,
}

impl Admission {
    /// Whether the rules match an update of a resource. `group` is empty for the core group.
    pub fn is_asked_about(&self, group: &str, resource: &str) -> bool {
        self.rules.iter().any(|rule| rule.matches(group, resource))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AdmissionRule {
    api_groups: Vec<String>,
    operations: Vec<String>,
    resources: Vec<String>,
}

impl AdmissionRule {
    fn matches(&self, group: &str, resource: &str) -> bool {
        let has = |list: &[String], wanted: &[&str]| list.iter().any(|one| wanted.contains(&one.as_str()));
        has(&self.operations, &["*", "UPDATE"])
            && has(&self.api_groups, &["*", group])
            && has(&self.resources, &["*", "*/*", resource])
    }
}

#[derive(Deserialize)]
pub(super) struct AdmissionList<T> {
    items: Vec<T>,
}

impl<T> AdmissionList<T> {
    pub(super) fn into_items(self) -> impl Iterator<Item = T> {
        self.items.into_iter()
    }
}

impl<T> Default for AdmissionList<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

#[derive(Deserialize)]
struct NamedMeta {
    name: String,
}

/// A configuration of webhooks, validating or mutating.
#[derive(Deserialize)]
pub(super) struct WebhookConfiguration {
    metadata: NamedMeta,
    #[serde(default)]
    webhooks: Vec<Webhook>,
}

#[derive(Deserialize)]
struct Webhook {
    name: String,
    #[serde(default)]
    rules: Vec<AdmissionRule>,
}

impl AdmissionList<WebhookConfiguration> {
    /// Returns the webhooks. `kind` is the kind of the configuration objects.
    pub(super) fn webhooks(self, kind: &'static str) -> impl Iterator<Item = Admission> {
        self.items.into_iter().flat_map(move |WebhookConfiguration { metadata, webhooks }| {
            webhooks.into_iter().map(move |Webhook { name, rules }| Admission {
                kind,
                name: metadata.name.clone(),
                webhook: Some(name),
                rules,
            })
        })
    }
}

/// A `ValidatingAdmissionPolicy` or a `MutatingAdmissionPolicy`, whose conditions are in CEL.
#[derive(Deserialize)]
pub(super) struct AdmissionPolicy {
    metadata: NamedMeta,
    spec: PolicySpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicySpec {
    #[serde(default)]
    match_constraints: MatchConstraints,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MatchConstraints {
    resource_rules: Vec<AdmissionRule>,
}

/// A binding, which puts a policy in force.
#[derive(Deserialize)]
pub(super) struct PolicyBinding {
    spec: BindingSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingSpec {
    policy_name: String,
    #[serde(default)]
    validation_actions: Vec<String>,
}

impl PolicyBinding {
    /// Whether a validating policy refuses a write, and does more than warn or audit.
    pub(super) fn denies(&self) -> bool {
        self.spec.validation_actions.iter().any(|action| action == "Deny")
    }
}

impl AdmissionList<AdmissionPolicy> {
    /// Returns the policies of the kind `kind` that one of `bindings` puts in force.
    pub(super) fn in_force(
        self,
        kind: &'static str,
        bindings: impl Iterator<Item = PolicyBinding>,
    ) -> impl Iterator<Item = Admission> {
        let bound: BTreeSet<String> = bindings.map(|binding| binding.spec.policy_name).collect();
        self.items.into_iter().filter_map(move |AdmissionPolicy { metadata, spec }| {
            let rules = spec.match_constraints.resource_rules;
            let policy = Admission { kind, name: metadata.name, webhook: None, rules };
            bound.contains(&policy.name).then_some(policy)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], operations: &[&str], resources: &[&str]) -> AdmissionRule {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        AdmissionRule { api_groups: words(groups), operations: words(operations), resources: words(resources) }
    }

    #[test]
    fn a_rule_matches_updates_of_whole_resources() {
        for (rule, is_asked) in [
            (rule(&[""], &["UPDATE"], &["secrets"]), true),
            (rule(&["*"], &["*"], &["*"]), true),
            (rule(&["*"], &["CREATE", "UPDATE"], &["*/*"]), true),
            (rule(&[""], &["CREATE", "DELETE"], &["secrets"]), false),
            (rule(&["apps"], &["UPDATE"], &["secrets"]), false),
            (rule(&[""], &["UPDATE"], &["secrets/status", "configmaps"]), false),
            (AdmissionRule::default(), false),
        ] {
            assert_eq!(rule.matches("", "secrets"), is_asked, "{rule:?}");
        }
        assert!(rule(&["example.com"], &["UPDATE"], &["widgets"]).matches("example.com", "widgets"));
    }

    #[test]
    fn every_webhook_may_refuse_and_every_policy_that_is_bound_to_deny() {
        let rules =
            r#"[{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["secrets"]}]"#;
        let list: AdmissionList<WebhookConfiguration> = serde_json::from_str(&format!(
            r#"{{"items": [
                {{"metadata": {{"name": "none"}}}},
                {{"metadata": {{"name": "some"}}, "webhooks": [
                    {{"name": "open", "failurePolicy": "Ignore", "rules": {rules}}},
                    {{"name": "closed", "failurePolicy": "Fail", "rules": {rules}}},
                    {{"name": "silent", "rules": {rules}}}]}}]}}"#
        ))
        .unwrap();
        let found: Vec<Admission> = list.webhooks("ValidatingWebhookConfiguration").collect();
        let names: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.webhook.as_deref())).collect();
        assert_eq!(names, [("some", Some("open")), ("some", Some("closed")), ("some", Some("silent"))]);
        assert!(found[0].is_asked_about("", "secrets") && !found[0].is_asked_about("", "configmaps"));

        let policy = |name: &str, failure: &str| {
            format!(
                r#"{{"metadata": {{"name": "{name}"}}, "spec": {{"failurePolicy": "{failure}", "matchConstraints": {{"resourceRules": {rules}}}}}}}"#
            )
        };
        let policies =
            [policy("bound", "Fail"), policy("open", "Ignore"), policy("audits", "Fail"), policy("loose", "Fail")];
        let binding = |name: &str, action: &str| {
            format!(r#"{{"spec": {{"policyName": "{name}", "validationActions": ["{action}"]}}}}"#)
        };
        let bindings = [binding("bound", "Deny"), binding("open", "Deny"), binding("audits", "Audit")];
        let list = |items: &[String]| format!(r#"{{"items": [{}]}}"#, items.join(","));
        let policies: AdmissionList<AdmissionPolicy> = serde_json::from_str(&list(&policies)).unwrap();
        let bindings: AdmissionList<PolicyBinding> = serde_json::from_str(&list(&bindings)).unwrap();
        let denying = bindings.into_items().filter(PolicyBinding::denies);
        let found: Vec<Admission> = policies.in_force("ValidatingAdmissionPolicy", denying).collect();
        assert_eq!(found.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["bound", "open"]);
        assert!(found[0].is_asked_about("", "secrets"));
    }
}
