//! Has the cluster's own migrator write every object of the resources that have stale objects, and scans in turn, until
//! a scan finds nothing that can be rewritten, or a migration gets no further.
//!
//! The word of the migrator proves nothing: it leaves out objects that are newer than its start, and an API server that
//! has not adopted the primary key answers it without writing. Only the next scan shows what is left.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::runtime::Runtime;

use crate::{
    apiclient::{ApiClient, ApiError, MigrationState, ObjectApi},
    etcd::{Client, Servers},
    reencrypt::{Patience, SweepFailure, revision_of},
    scan::names::Names,
};

use super::{
    super::{
        Global,
        failure::{Exit, Failure},
        interrupt::Interrupt,
        output,
        scanning::ScanInput,
        tables::span,
    },
    census::Census,
    rounds::{SWEEPS, live},
};

/// The time between two looks at a migration.
const LOOK: Duration = Duration::from_secs(1);

/// The pause after a scan that found no progress. `/readyz` makes an API server ask the plugin at most every 20 s.
const BETWEEN: Duration = Duration::from_secs(30);

/// The longest time until the migrator takes up a migration.
const TAKE_UP: Duration = Duration::from_mins(2);

/// The time between two lines about the same migration.
const LINES: Duration = Duration::from_mins(1);

/// Why no more migrations are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MigrationEnd {
    /// Every migration succeeded.
    Succeeded,
    /// At least one migration failed, as the migrator says.
    Failed,
    /// Nobody takes up a migration.
    NoMigrator,
    /// The API server writes nothing, because it still uses another key or another configuration.
    NotAdopted,
    /// The operator has interrupted. Migrations that run go on.
    Interrupted,
    /// The API server cannot be used.
    Unusable(SweepFailure),
}

/// A migration that this command has created. As JSON it is a public interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct NamedMigration {
    /// The name of the migration.
    pub(super) name: String,
    /// The resource whose objects it writes.
    pub(super) resource: String,
    /// The last state that was seen: `unseen`, `running`, `succeeded`, `failed` or `deleted`.
    pub(super) state: &'static str,
    /// What the migrator says about it.
    pub(super) message: String,
}

/// The result of all migrations.
pub(super) struct Migrated {
    /// The census of the last scan.
    pub(super) census: Census,
    pub(super) end: MigrationEnd,
    pub(super) migrations: Vec<NamedMigration>,
    /// How often every resource with stale objects was migrated.
    pub(super) rounds: u32,
}

/// The inputs of the migrations.
pub(super) struct Migrating<'a> {
    pub(super) input: &'a ScanInput,
    pub(super) api: &'a Arc<ApiClient>,
    /// The path of the migrations in the API.
    pub(super) base: String,
    pub(super) runtime: &'a Runtime,
    pub(super) interrupt: &'a Interrupt,
    pub(super) global: &'a Global,
}

impl Migrating<'_> {
    /// Migrates and scans in turn. `census` is that of a first scan.
    ///
    /// # Errors
    /// When an etcd cannot be read.
    pub(super) fn run(&self, census: Census) -> Result<Migrated, Failure> {
        let mut all = Migrated { census, end: MigrationEnd::Succeeded, migrations: Vec::new(), rounds: 0 };
        let begun = Instant::now();
        while all.census.count() > 0 && all.rounds < SWEEPS {
            let before = all.census.count();
            let resources: Vec<String> = all.census.stale.keys().cloned().collect();
            all.rounds += 1;
            self.runtime.block_on(self.api.poke());
            if let Some(end) = self.migrate(&resources, &mut all.migrations) {
                all.end = end;
            }
            all.census = Census::take(self.input, &std::collections::BTreeSet::new(), self.global)?;
            if all.end != MigrationEnd::Succeeded || all.census.is_incomplete() {
                break;
            }
            if all.census.count() > 0 && all.census.count() >= before {
                if begun.elapsed() >= Patience::default().adoption {
                    all.end = MigrationEnd::NotAdopted;
                    break;
                }
                output::aside(WAITING, self.global);
                if self.interrupt.wait(BETWEEN, self.runtime) {
                    all.end = MigrationEnd::Interrupted;
                    break;
                }
            }
        }
        Ok(all)
    }

    /// Migrates the resources, all at the same time, because the migrator may wait a minute or two before it begins.
    /// Returns the end of the command, unless every migration succeeded.
    fn migrate(&self, resources: &[String], migrations: &mut Vec<NamedMigration>) -> Option<MigrationEnd> {
        let first = migrations.len();
        for resource in resources {
            let name = match self.asked(|| self.runtime.block_on(self.api.migrate(&self.base, resource))) {
                Ok(name) => name,
                Err(end) => return Some(end),
            };
            output::aside(&format!("the migrator is asked to write {resource} again: {name}"), self.global);
            // An API server of another cluster keeps the migration in another etcd.
            let is_elsewhere = migrations.is_empty() && self.is_elsewhere(&name);
            let (resource, message) = (resource.clone(), String::new());
            migrations.push(NamedMigration { name, resource, state: "unseen", message });
            if is_elsewhere {
                return Some(MigrationEnd::Unusable(SweepFailure::OtherCluster));
            }
        }
        let mut end = None;
        for migration in &mut migrations[first..] {
            let (state, ended) = self.wait(&migration.name);
            (migration.state, migration.message) = shown(state);
            match ended {
                // A migration that failed does not keep the others from their end.
                None | Some(MigrationEnd::Failed) => end = end.or(ended),
                Some(other) => return Some(other),
            }
        }
        end
    }

    /// Waits until the migration has ended. Returns its last state, and the end of the command unless it succeeded.
    fn wait(&self, name: &str) -> (MigrationState, Option<MigrationEnd>) {
        let created = Instant::now();
        let (mut told, mut last) = (created, MigrationState::Unseen);
        loop {
            match self.asked(|| self.runtime.block_on(self.api.migration(&self.base, name))) {
                Ok(state) => last = state,
                Err(end) => return (last, Some(end)),
            }
            match &last {
                MigrationState::Succeeded => return (last, None),
                MigrationState::Failed(_) | MigrationState::Deleted => return (last, Some(MigrationEnd::Failed)),
                MigrationState::Unseen if created.elapsed() >= TAKE_UP => {
                    return (last, Some(MigrationEnd::NoMigrator));
                }
                MigrationState::Running(message) if told.elapsed() >= LINES => {
                    told = Instant::now();
                    let running = span(created.elapsed());
                    output::aside(&format!("waiting for {name}, for {running}: {message}"), self.global);
                }
                MigrationState::Running(_) | MigrationState::Unseen => {}
            }
            if self.interrupt.wait(LOOK, self.runtime) {
                return (last, Some(MigrationEnd::Interrupted));
            }
        }
    }

    /// Asks the API server until it answers. Returns the end of the command if it does not answer for too long, or
    /// refuses.
    fn asked<T>(&self, ask: impl Fn() -> Result<T, ApiError>) -> Result<T, MigrationEnd> {
        let begun = Instant::now();
        loop {
            let error = match ask() {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if let Some(failure) = SweepFailure::lasting(&error) {
                return Err(MigrationEnd::Unusable(failure));
            }
            if begun.elapsed() >= Patience::default().silence {
                return Err(MigrationEnd::Unusable(SweepFailure::Unreachable(error.to_string())));
            }
            if self.interrupt.wait(LOOK, self.runtime) {
                return Err(MigrationEnd::Interrupted);
            }
        }
    }

    /// Whether no scanned etcd has the migration. If an etcd cannot be asked, this shows nothing.
    fn is_elsewhere(&self, name: &str) -> bool {
        let prefix = Names::new(&self.input.prefix).prefix().to_vec();
        let key = [&prefix, &b"storageversionmigrations/"[..], name.as_bytes()].concat();
        let places: Vec<Servers> = self.input.places.iter().filter_map(live).collect();
        places.iter().all(|servers| self.runtime.block_on(has(servers, &key)) == Some(false))
    }
}

/// Returns the word for a state, and what the migrator says.
fn shown(state: MigrationState) -> (&'static str, String) {
    match state {
        MigrationState::Unseen => ("unseen", String::new()),
        MigrationState::Running(message) => ("running", message),
        MigrationState::Succeeded => ("succeeded", String::new()),
        MigrationState::Failed(message) => ("failed", message),
        MigrationState::Deleted => ("deleted", String::new()),
    }
}

/// Whether the etcd has the key. Returns `None` if the etcd does not answer.
async fn has(servers: &Servers, key: &[u8]) -> Option<bool> {
    let revision = revision_of(&mut Client::new(servers).ok()?, key).await.ok()?;
    Some(revision.is_some())
}

const WAITING: &str = "waiting for the API server: the migrator has changed nothing, so the API server may not use the primary key yet; this command tries again for up to five minutes";

/// Returns the path of the migrations in the API.
///
/// # Errors
/// When the API server does not have this API, does not answer, or refuses.
pub(super) fn find(runtime: &Runtime, api: &ApiClient) -> Result<String, Failure> {
    match runtime.block_on(api.migrations()) {
        Ok(Some(base)) => Ok(base),
        Ok(None) => {
            let message = format!("the API server at {} does not serve storagemigration.k8s.io/v1", api.url());
            Err(Failure::new(Exit::Refused, &message, ELSE.to_owned()))
        }
        Err(error) => Err(Failure::new(Exit::Unreachable, &error, "without a migrator: leave out --via".to_owned())),
    }
}

const ELSE: &str = "Kubernetes serves it from 1.37 on; 1.35 and 1.36 serve v1beta1 with the feature gate StorageVersionMigrator and --runtime-config; without it, leave out --via: then claviger patches the objects itself";
