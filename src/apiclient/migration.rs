//! The cluster's own migrator. A StorageVersionMigration makes it write every object of one resource again.
//!
//! Source: `k8s.io/api`, `storagemigration/v1`; `k8s.io/kubernetes`, `pkg/controller/storageversionmigrator`.

use serde::{Deserialize, Serialize};

/// The API group of the migrator.
pub(super) const GROUP: &str = "storagemigration.k8s.io";

/// The versions of the group whose objects have the form below. v1alpha1 has another one.
pub(super) const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// The resource of the migrations.
pub(super) const PLURAL: &str = "storageversionmigrations";

/// The progress of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationState {
    /// No migrator has taken up the migration.
    Unseen,
    /// The migrator works on it. Contains what it says about its progress.
    Running(String),
    /// The migrator has written all objects, as it says.
    Succeeded,
    /// The migrator has given up. Contains its reason.
    Failed(String),
    /// Somebody has deleted the migration.
    Deleted,
}

/// A migration to create.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewMigration<'a> {
    api_version: String,
    kind: &'static str,
    metadata: NewMetadata<'a>,
    spec: MigrationSpec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewMetadata<'a> {
    generate_name: String,
    labels: Labels<'a>,
}

#[derive(Serialize)]
struct Labels<'a> {
    #[serde(rename = "app.kubernetes.io/managed-by")]
    managed_by: &'a str,
}

#[derive(Serialize)]
struct MigrationSpec<'a> {
    resource: MigrationResource<'a>,
}

#[derive(Serialize)]
struct MigrationResource<'a> {
    group: &'a str,
    resource: &'a str,
}

impl<'a> NewMigration<'a> {
    /// Returns the migration of a resource, as the EncryptionConfiguration names it: `secrets`, `widgets.example.com`.
    pub(super) fn of(base: &str, title: &'a str) -> Self {
        let (resource, group) = title.split_once('.').unwrap_or((title, ""));
        Self {
            api_version: base.trim_start_matches("/apis/").to_owned(),
            kind: "StorageVersionMigration",
            metadata: NewMetadata {
                generate_name: format!("claviger-{title}-"),
                labels: Labels { managed_by: "claviger" },
            },
            spec: MigrationSpec { resource: MigrationResource { group, resource } },
        }
    }
}

/// A migration as the API server shows it.
#[derive(Deserialize)]
pub(super) struct ShownMigration {
    metadata: ShownMetadata,
    #[serde(default)]
    status: MigrationStatus,
}

#[derive(Deserialize)]
struct ShownMetadata {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MigrationStatus {
    conditions: Vec<MigrationCondition>,
}

#[derive(Deserialize)]
struct MigrationCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    message: String,
}

impl ShownMigration {
    /// Returns the name that the API server has given to the migration.
    pub(super) fn name(self) -> String {
        self.metadata.name
    }

    /// Returns the progress of the migration.
    pub(super) fn state(self) -> MigrationState {
        let conditions = &self.status.conditions;
        let message = |kind: &str| {
            let is_true = |one: &&MigrationCondition| one.kind == kind && one.status == "True";
            conditions.iter().find(is_true).map(|one| one.message.clone())
        };
        if let Some(reason) = message("Failed") {
            MigrationState::Failed(reason)
        } else if message("Succeeded").is_some() {
            MigrationState::Succeeded
        } else if let Some(progress) = message("Running") {
            MigrationState::Running(progress)
        } else {
            MigrationState::Unseen
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_of_one_resource_of_one_group() {
        let json = |base, title| serde_json::to_value(NewMigration::of(base, title)).unwrap();
        let secrets = json("/apis/storagemigration.k8s.io/v1", "secrets");
        assert_eq!(secrets["apiVersion"], "storagemigration.k8s.io/v1");
        assert_eq!(secrets["metadata"]["generateName"], "claviger-secrets-");
        assert_eq!(secrets["spec"]["resource"], serde_json::json!({"group": "", "resource": "secrets"}));
        let widgets = json("/apis/storagemigration.k8s.io/v1beta1", "widgets.example.com");
        assert_eq!(widgets["apiVersion"], "storagemigration.k8s.io/v1beta1");
        assert_eq!(widgets["spec"]["resource"], serde_json::json!({"group": "example.com", "resource": "widgets"}));
    }

    #[test]
    fn a_condition_that_is_true_says_how_far_a_migration_is() {
        let state = |conditions: &str| {
            let text = format!(r#"{{"metadata": {{"name": "a"}}, "status": {{"conditions": [{conditions}]}}}}"#);
            serde_json::from_str::<ShownMigration>(&text).unwrap().state()
        };
        let condition = |kind: &str, status: &str| {
            format!(r#"{{"type": "{kind}", "status": "{status}", "message": "why {kind}", "reason": "R"}}"#)
        };
        let stopped = condition("Running", "False");
        for (conditions, expected) in [
            (String::new(), MigrationState::Unseen),
            (condition("Running", "True"), MigrationState::Running("why Running".to_owned())),
            (format!("{stopped}, {}", condition("Succeeded", "True")), MigrationState::Succeeded),
            (
                format!("{}, {}", condition("Running", "True"), condition("Failed", "True")),
                MigrationState::Failed("why Failed".to_owned()),
            ),
            (condition("Succeeded", "Unknown"), MigrationState::Unseen),
        ] {
            assert_eq!(state(&conditions), expected);
        }
        let new: ShownMigration = serde_json::from_str(r#"{"metadata": {"name": "a"}}"#).unwrap();
        assert_eq!(new.state(), MigrationState::Unseen);
    }
}
