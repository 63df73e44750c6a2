//! Runs `claviger decrypt`: collects the keys, scans, opens the chosen objects, writes them, and prints the report.

use std::{collections::BTreeSet, path::Path};

use super::{
    super::{
        Format, Global,
        at_hand::AtHand,
        etcd::Declared,
        failure::{Exit, Failure},
        files::{read_text, wrong},
        given::quoted,
        output,
        scanning::{nowhere, read_place},
        waiting::AnswerWait,
    },
    args::DecryptArgs,
    report::DecryptReport,
    write::{ObjectTarget, WriteError, target_name},
};
use crate::{
    apiserver::coverage::{CONFIG_MAX, KmsV1, local_keys},
    audit, hardening,
    recover::{Form, OpenedPart, RecoveryJob, RecoverySink, Selection, ValueKeys, recover},
    scan::{
        lookup::lookup,
        names::Names,
        outcome::{Incomplete, ScanOutcome},
        place::ScanPlace,
        summarizer::Summarizer,
    },
};

/// Runs `claviger decrypt`.
///
/// # Errors
/// When the keys do not open, nothing can be scanned, or the objects cannot be written.
pub(in crate::cli) fn run(mut args: DecryptArgs, global: &Global) -> Result<Exit, Failure> {
    hardening::lock_memory();
    let (settings, backups) = std::mem::take(&mut args.at_hand).split();
    let settings = std::mem::take(&mut args.etcd).put_into(settings);
    let config = global.config(settings)?;
    let declared = Declared::read_for(&config.cluster, args.snapshot.is_some())?;
    let places = places(&args, &declared)?;
    let names = Names::new(&declared.prefix);
    let at_hand = backups.open(config, global)?;
    let keys = keys(&at_hand, encryption_config(&args, &declared))?;
    let form = if args.raw { Form::Raw } else { Form::Manifest };
    let prefix = String::from_utf8_lossy(names.prefix()).into_owned();
    let target = ObjectTarget::prepare(&args, form, &prefix, global)?;
    let from: Vec<String> = places.iter().map(ToString::to_string).collect();
    let to = target_name(args.to.as_deref());
    at_hand.audit(&audit::Event::Decrypt {
        keyrings: at_hand
            .keyrings()
            .map(|keyring| keyring.uuid().to_hex())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        from: from.clone(),
        objects: args.chosen.described(),
        to: to.clone(),
    })?;
    let decryption =
        Decryption { places: &places, selection: args.chosen.selection(&names), names, keys: &keys, form, global };
    let report = decryption.run(target, DecryptReport::new(from, to))?;
    let state_dir = at_hand.site.as_ref().map(|site| site.config.state_dir.as_path());
    let snapshot = args.snapshot.as_ref().map(|file| format!(" --snapshot {}", quoted(file)));
    let scan = format!("claviger scan --list{}", snapshot.unwrap_or_default());
    let mut advice = report.advice(state_dir, &scan);
    if report.is_empty() && !report.is_incomplete() {
        advice.splice(0..0, args.chosen.resource_hint());
    }
    show(&report, &advice, args.to.is_some(), global)
}

fn places(args: &DecryptArgs, declared: &Declared) -> Result<Vec<ScanPlace>, Failure> {
    if let Some(file) = &args.snapshot {
        return Ok(vec![ScanPlace::Snapshot(file.clone())]);
    }
    declared.places().ok_or_else(|| nowhere(&[]))
}

/// Returns the path of the EncryptionConfiguration that contains the keys of other providers. The one of this node is
/// not used for a snapshot.
fn encryption_config<'a>(args: &'a DecryptArgs, declared: &'a Declared) -> Option<&'a Path> {
    let of_node = declared.encryption_config.as_deref().filter(|_| args.snapshot.is_none());
    args.encryption_config.as_deref().or(of_node)
}

fn keys(at_hand: &AtHand, encryption_config: Option<&Path>) -> Result<ValueKeys, Failure> {
    let mut keys = ValueKeys::default();
    at_hand.keyrings().for_each(|keyring| keys.add_keyring(keyring));
    if let Some(path) = encryption_config {
        let text = read_text(path, CONFIG_MAX)?;
        keys.add_local(local_keys(&text, KmsV1::Allowed).map_err(|error| wrong(path, &error, None))?);
    }
    Ok(keys)
}

/// The inputs of a decryption.
struct Decryption<'a> {
    places: &'a [ScanPlace],
    names: Names,
    selection: Selection,
    keys: &'a ValueKeys,
    form: Form,
    global: &'a Global,
}

impl Decryption<'_> {
    /// Opens the chosen objects in all places, and writes them.
    fn run(self, mut target: ObjectTarget, mut report: DecryptReport) -> Result<DecryptReport, Failure> {
        let Self { places, names, selection, keys, form, global } = self;
        let summarizer = Summarizer::seeded(names)?;
        let take = |part: OpenedPart| {
            target.write(&part)?;
            report.wrote(&part.objects);
            for unopened in &part.unopened {
                output::aside(&report.note(unopened), global);
            }
            Ok::<_, WriteError>(())
        };
        let keys_in_etcd = selection.keys().cloned();
        let scan = |sink: &mut RecoverySink| scan_all(places, keys_in_etcd.as_ref(), &summarizer, sink, global);
        let job = RecoveryJob { keys, form, selection, names: summarizer.names() };
        let (outcomes, recovered, taken) = recover(job, scan, take);
        taken?;
        let outcomes = outcomes?;
        target.finish(report.count())?;
        recovered.missing.iter().for_each(|key| report.miss(String::from_utf8_lossy(key).into_owned()));
        let prefix = String::from_utf8_lossy(summarizer.names().prefix()).into_owned();
        for (index, outcome) in outcomes.iter().enumerate() {
            // Only the main etcd has to have objects of every kind. If every named object was found, the scan ended on
            // purpose.
            let reasons = if index == 0 { outcome.reasons(&prefix, false) } else { outcome.incomplete.clone() };
            let is_news = |reason: &Incomplete| {
                !recovered.is_satisfied || *reason != Incomplete::Ended && !reason.is_wrong_prefix()
            };
            report.doubt(reasons.iter().filter(|reason| is_news(reason)).map(ToString::to_string));
        }
        Ok(report)
    }
}

/// Scans one place after the other, until the sink wants no more objects. If `keys` are named, reads only these keys of
/// an etcd.
fn scan_all(
    places: &[ScanPlace],
    keys: Option<&BTreeSet<Vec<u8>>>,
    summarizer: &Summarizer,
    sink: &mut RecoverySink,
    global: &Global,
) -> Result<Vec<ScanOutcome>, Failure> {
    let mut outcomes = Vec::new();
    for place in places {
        let outcome = match (place, keys) {
            (ScanPlace::Etcd(servers), Some(keys)) => {
                let _wait = AnswerWait::begin(&format!("etcd at {place}"), global);
                lookup(servers, keys, summarizer.clone(), sink)?
            }
            _ => read_place(place, summarizer, sink, false, global)?,
        };
        let is_ended = outcome.incomplete.contains(&Incomplete::Ended);
        outcomes.push(outcome);
        if is_ended {
            break;
        }
    }
    Ok(outcomes)
}

/// Prints the report: to standard output if the objects went elsewhere, otherwise to standard error.
fn show(report: &DecryptReport, advice: &[String], has_stdout: bool, global: &Global) -> Result<Exit, Failure> {
    match global.output {
        Format::Json if has_stdout => output::json(report)?,
        Format::Json => output::json_aside(report),
        Format::Text if has_stdout => output::text_line(&report.text())?,
        Format::Text => output::aside(&report.text(), global),
    }
    for advice in advice {
        output::aside(&format!("hint:  {}", global.given.repeat_in(advice)), global);
    }
    Ok(if report.is_incomplete() {
        Exit::Damaged
    } else if report.lacks_named() || report.is_empty() {
        Exit::Found
    } else {
        Exit::Done
    })
}
