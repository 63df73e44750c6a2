//! The steps of a rotation, one function each.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use rand::rngs::SysRng;

use crate::{
    apiclient::ObjectApi,
    apiserver::count_api_servers,
    durable::{export, is_on_another_disk},
    etcd::Client,
    keeper::{self, BackedUp, Opened, PromoteKeyError, Promotion},
    keyring::{Key, key_id::KeyId, time::Time},
    memory::fill_random,
    plan::{Action, Aim, ApiServers, BeganAt, Phase, PlanId, RotationPlan, RotationProgress, Scanned, Ticks},
    proof::VerifyOutcome,
    reencrypt::{SweepEnd, SweepOutcome},
    rotate::Acted,
};

use super::{
    super::{
        backup_file::whole,
        failure::{Exit, Failure},
        named::named_keys,
        needed, output,
        probe::find_plugin,
        reencrypt::{Census, Rounds, Sweeping},
        scanning::nowhere,
        verify::{VerifyInput, VerifyRequest, verify_unchanged},
        waiting::AnswerWait,
    },
    hands::RotateHands,
    report::RotateEvent,
    stops,
};

impl RotateHands<'_> {
    /// Scans every etcd, and notes the counts in `progress`.
    pub(super) fn scan(&mut self, is_settled: bool, progress: &mut RotationProgress) -> Result<(), Failure> {
        let at = self.now();
        let census = self.take_census()?;
        if let Some(resource) = census.to_plaintext.first() {
            return Err(stops::to_plaintext(resource));
        }
        self.check_listed(&census)?;
        let scanned = Scanned { is_settled, ..scanned((at, self.primary()), &census, 0) };
        self.tell(&RotateEvent::Scanned {
            stale: scanned.stale,
            under_other_keys: scanned.under_other_keys,
            unreadable: scanned.unchangeable,
            uncovered: census.obstacles.uncovered,
            skipped: u64::try_from(census.left.len()).unwrap_or(u64::MAX),
        })?;
        progress.scanned = Some(scanned);
        self.census = Some(census);
        Ok(())
    }

    /// Checks that the EncryptionConfiguration does not leave out all values that have to be rewritten. Before a
    /// promotion because of compromised keys, such values do not matter.
    fn check_listed(&self, census: &Census) -> Result<(), Failure> {
        let plan = self.unfinished();
        let is_compromise = self.wishes.is_compromise || plan.is_some_and(|plan| plan.is_compromise);
        let unlisted = match plan.map(|plan| plan.phase) {
            None | Some(Phase::Prepare) if is_compromise => None,
            None | Some(Phase::Prepare) => census.misspelt(),
            Some(_) => census.unreadable(),
        };
        unlisted.map_or(Ok(()), |unlisted| Err(unlisted.failure()))
    }

    fn take_census(&self) -> Result<Census, Failure> {
        let input = self.input()?;
        Census::take(&input, &self.left(&input.prefix), self.global)
    }

    /// Counts the API servers that use the etcd, unless the operator has given their number.
    pub(super) fn count(&mut self, progress: &mut RotationProgress) -> Result<(), Failure> {
        let count = if let Some(count) = self.wishes.api_servers {
            count
        } else {
            output::aside(output::COUNTING, self.global);
            let input = self.input()?;
            let mut client = Client::new(input.etcd.as_ref().ok_or_else(|| nowhere(&input.notes))?)?;
            self.runtime.block_on(count_api_servers(&mut client, &input.prefix))?
        };
        self.tell(&RotateEvent::Counted { api_servers: count })?;
        progress.counted = Some(ApiServers { at: self.now(), count });
        Ok(())
    }

    /// Begins a plan: checks that the rotation can be proven, and writes the plan.
    pub(super) fn begin(&mut self, aim: Aim) -> Result<(), Failure> {
        self.check_provable()?;
        // If others may know the keys, a new key is needed even if nothing can be rewritten now.
        if aim != Aim::Compromise {
            self.check_room()?;
            self.check_api()?;
        }
        if !matches!(aim, Aim::Finish(_)) {
            self.check_backup_dir()?;
        }
        let mut id = [0; 16];
        fill_random(&mut SysRng, &mut id).map_err(|error| Failure::new(Exit::Refused, &error, None))?;
        let now = Time::new(jiff::Timestamp::now());
        // The objects that only an earlier rotation left by name are tried again. In a compromise, only this call
        // leaves objects.
        let named = named_keys(&self.wishes.leave, &self.input()?.prefix);
        let left = if aim == Aim::Compromise { BTreeSet::new() } else { named };
        let at = BeganAt { record: self.opened.digest, newest: self.opened.keyring.greatest_seq() };
        let plan = RotationPlan::begin(PlanId(id), at, aim, left, now);
        self.write(plan.clone())?;
        self.begun(&plan)
    }

    /// Checks before the first change that a clean scan will be a proof.
    ///
    /// # Errors
    /// When nobody can tell whether a scan finds everything.
    pub(super) fn check_provable(&self) -> Result<(), Failure> {
        let VerifyInput { subject, notes, .. } = VerifyInput::read(&self.site.config, &self.opened)?;
        let mut groups = self.census.iter().flat_map(|census| &census.report.groups);
        if subject.are_flags_unclear {
            return Err(stops::unprovable(&notes.join("; ")));
        }
        if groups.any(|group| group.resource == "namespaces") {
            return Ok(());
        }
        Err(stops::unprovable("etcd has no namespaces there, and every API server makes some"))
    }

    /// Checks before the first change that a backup in the directory would count.
    pub(super) fn check_backup_dir(&self) -> Result<(), Failure> {
        let Some(dir) = &self.wishes.backup_dir else { return Ok(()) };
        if dir.metadata().is_ok_and(|found| !found.is_dir()) {
            return Err(stops::no_directory(dir));
        }
        let (here, there) = (self.site.config.state_dir.canonicalize(), dir.canonicalize());
        if let (Ok(here), Ok(there)) = (here, there)
            && there.starts_with(&here)
        {
            return Err(stops::lost_too(dir, there == here));
        }
        is_on_another_disk(dir, &self.site.dir).map_err(|error| stops::no_backup(dir, &error))?;
        if self.opened.keyring.recoveries().is_empty() { Err(stops::no_recipient()) } else { Ok(()) }
    }

    pub(super) fn add(&mut self) -> Result<(), Failure> {
        let now = Time::new(jiff::Timestamp::now());
        // The new key does not take the numbers of keys that only the plugin knows.
        let search = find_plugin(&self.site.config)?;
        let missing = search.plugin().map(|plugin| plugin.missing_in(&self.opened.keyring)).unwrap_or_default();
        let changed = keeper::add_key(&self.site.dir, &self.site.means, &missing, now)?;
        self.tell(&RotateEvent::Added { key_id: changed.key_id.to_string() })?;
        self.take(changed.key_id)
    }

    /// Notes in the plan that its key is `key`.
    pub(super) fn take(&mut self, key: KeyId) -> Result<(), Failure> {
        self.change_plan(|plan| plan.key = Some(key))
    }

    pub(super) fn back_up(&mut self) -> Result<(), Failure> {
        let Some(dir) = self.wishes.backup_dir.clone() else { return Ok(()) };
        self.check_backup_dir()?;
        let now = Time::new(jiff::Timestamp::now());
        let made = keeper::back_up(&self.site.dir, &self.site.means, Vec::new(), now)?;
        let file = unused(&dir, made.opened.keyring.generation());
        export(&file, &made.bytes).map_err(|error| Failure::export(&error))?;
        let path = whole(&file);
        let under = made.opened.keyring.root_id();
        keeper::list_backup(&self.site.dir, &self.site.means, under, made.listed(Some(path.clone()), now))
            .map_err(|error| Failure::from(error).about(&format!("the backup {path} is written")))?;
        self.tell(&RotateEvent::BackedUp { file: path })
    }

    pub(super) fn promote(&mut self, key: KeyId) -> Result<(), Failure> {
        let backed_up = if self.wishes.without_backup { BackedUp::Waived } else { BackedUp::Required };
        let now = Time::new(jiff::Timestamp::now());
        let rotation = self.plan.as_ref().map(|plan| plan.id);
        let compromised_up_to = self.plan.as_ref().filter(|plan| plan.is_compromise).map(|plan| plan.newest);
        let promotion = Promotion { key_id: key, backed_up, compromised_up_to, rotation };
        match keeper::promote_key(&self.site.dir, &self.site.means, promotion, now) {
            Ok(_) => Ok(()),
            // Another call of the command has promoted the key. This one goes on from there.
            Err(PromoteKeyError::Refused(_)) if self.site.open()?.keyring.primary().id() == key => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Disables a compromised key, after a scan of its own, as `claviger key disable` does.
    pub(super) fn disable(&mut self, key: KeyId) -> Result<(), Failure> {
        self.check_provable()?;
        let Some(found) = self.opened.keyring.keys().find(|one| one.id() == key) else { return Ok(()) };
        let usage = needed::usage(&self.site.config, &self.opened, found, &BTreeSet::new(), self.global)?.usage;
        keeper::disable_key(&self.site.dir, &self.site.means, key, &usage)?;
        self.tell(&RotateEvent::Disabled { key_id: key.to_string() })
    }

    pub(super) fn promoted(&mut self) -> Result<(), Failure> {
        let key_id = self.plan.as_ref().and_then(|plan| plan.key).map_or_else(String::new, |key| key.to_string());
        self.change_plan(|plan| plan.phase = Phase::Promote)?;
        self.tell(&RotateEvent::Promoted { key_id, compromised: compromised(&self.opened) })
    }

    /// Notes in the plan that every plugin serves the key, and makes the API server ask the plugin for its key at once.
    pub(super) fn published(&mut self, progress: &mut RotationProgress) -> Result<(), Failure> {
        let Some(key) = self.plan.as_ref().and_then(|plan| plan.key) else { return Ok(()) };
        if self.plan.as_ref().is_some_and(|plan| plan.phase == Phase::Promote) {
            self.change_plan(|plan| plan.phase = Phase::Sweep)?;
        }
        progress.see_published(key, self.now());
        // With a new primary key, more values are stale, so the last scan does not count any more.
        progress.scanned = None;
        let wait = AnswerWait::begin(&format!("the API server at {}", self.api.url()), self.global);
        self.runtime.block_on(self.api.poke());
        drop(wait);
        self.tell(&RotateEvent::Published { key_id: key.to_string() })
    }

    /// Sweeps and scans until nothing more can be rewritten, and notes the counts of the last scan in `progress`.
    pub(super) fn rewrite(&mut self, progress: &mut RotationProgress) -> Result<(), Failure> {
        let Some(census) = self.census.take() else { return Ok(()) };
        let at = self.now();
        let input = self.input()?;
        let left = self.left(&input.prefix);
        let sweeping = Sweeping {
            input: &input,
            left: &left,
            api: &self.api,
            rate: self.wishes.rate,
            runtime: &self.runtime,
            interrupt: self.interrupt,
            global: self.global,
        };
        let Rounds { census, outcome, .. } = sweeping.run(census)?;
        let written = outcome.as_ref().map_or(0, SweepOutcome::objects);
        self.tell(&RotateEvent::Rewritten { written, left: census.count() })?;
        progress.scanned = Some(scanned((at, self.primary()), &census, census.count()));
        self.census = Some(census);
        let Some(outcome) = outcome else { return Ok(()) };
        self.failures = Some(outcome.failures);
        if let Some(examples) = stops::examples(self.failures.as_ref()) {
            output::aside(&format!("not re-encrypted: {examples}"), self.global);
        }
        match outcome.end {
            SweepEnd::Interrupted => self.is_interrupted = true,
            SweepEnd::Tried | SweepEnd::NotAdopted => {}
            SweepEnd::Failed(failure) => return Err(stops::swept(&self.global.given, &failure, self.api.url())),
        }
        Ok(())
    }

    /// Proves the end of the rotation by a whole scan, and keeps the report. If the scan has a finding, the rotation
    /// continues.
    pub(super) fn finish(&mut self, progress: &mut RotationProgress) -> Result<Acted, Failure> {
        let at = self.now();
        let kept = self.wishes.files.kept().cloned();
        let verified = verify_unchanged(
            self.site,
            VerifyRequest { report: None, kept: kept.as_deref(), has_waited: true },
            self.global,
        )?;
        let is_about_plan = self.plan.as_ref().and_then(|plan| plan.key) == Some(verified.report.keyring.primary);
        let census = self.take_census()?;
        let now = scanned((at, self.primary()), &census, 0);
        // Only the values that are left by name may be findings.
        let is_left_alone = !census.left.is_empty() && verified.report.shortfalls.is_empty();
        let is_clean = is_about_plan && (verified.report.outcome() == VerifyOutcome::Clean || is_left_alone);
        if !is_clean || now.stale + now.unchangeable + now.uncovered + now.events > 0 || now.is_incomplete {
            // Something was written between the last scan and this one, or the proof needs more than a clean scan.
            let is_only_unproven = now.stale + now.unchangeable + now.uncovered + now.events == 0;
            if is_only_unproven {
                return Err(stops::unproven(&verified));
            }
            progress.scanned = Some(now);
            self.census = Some(census);
            return Ok(Acted::GoOn);
        }
        self.wishes.files.write(&verified)?;
        let report = verified.sha256();
        self.change_plan(|plan| (plan.phase, plan.report, plan.left) = (Phase::Done, Some(report), census.left))?;
        self.verified = Some(verified);
        Ok(Acted::Over)
    }

    fn change_plan(&mut self, change: impl FnOnce(&mut RotationPlan)) -> Result<(), Failure> {
        let Some(mut plan) = self.plan.clone() else { return Ok(()) };
        change(&mut plan);
        self.write(plan)
    }

    fn write(&mut self, plan: RotationPlan) -> Result<(), Failure> {
        let before = self.plan.as_ref().map(|plan| plan.id);
        keeper::write_plan(&self.site.dir, &self.site.means, &plan, before)?;
        self.plan = Some(plan);
        Ok(())
    }
}

/// Returns the planner's view of a scan that began at `at`, while `primary` was the primary key.
fn scanned((at, primary): (Ticks, KeyId), census: &Census, failed: u64) -> Scanned {
    Scanned {
        at,
        primary,
        stale: census.count(),
        under_other_keys: census.obstacles.under_other_keys,
        in_need: census.in_need,
        failed,
        events: census.events,
        unchangeable: census.obstacles.unreadable,
        uncovered: census.obstacles.uncovered,
        is_settled: false,
        is_incomplete: census.is_incomplete(),
    }
}

/// Returns the compromised keys.
pub(super) fn compromised(opened: &Opened) -> Vec<String> {
    opened.keyring.keys().filter(|key| key.is_compromised()).map(|key: &Key| key.id().to_string()).collect()
}

/// Returns an unused path in `dir` for the backup of this generation.
fn unused(dir: &Path, generation: u64) -> PathBuf {
    let name = |number: u32| match number {
        1 => format!("claviger-generation-{generation}.age"),
        _ => format!("claviger-generation-{generation}-{number}.age"),
    };
    let free = (1..1000).map(|number| dir.join(name(number))).find(|file| file.symlink_metadata().is_err());
    free.unwrap_or_else(|| dir.join(name(1)))
}

/// Whether a dry run may take this step, because it changes nothing.
pub(super) fn changes_nothing(action: Action) -> bool {
    matches!(action, Action::Scan { .. } | Action::Count)
}
