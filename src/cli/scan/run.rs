//! `claviger scan`: reads its arguments, scans, and shows the report.

use std::path::PathBuf;

use clap::Args;

use crate::{
    config::Settings,
    keyring::time::Time,
    scan::{
        names::Names,
        report::{ReportOutcome, ScanReport},
        tally::{ListedObject, Lister},
    },
};

use super::{
    super::{
        Format, Global, StateDir,
        etcd::{EtcdArgs, LIVE},
        failure::{Exit, Failure},
        output::{self, OutputError},
        scanning::{
            HintContext, KeyFlags, ScanExtras, ScanInput, ScanKeys, SeenProviders, etcdctl, hints, note_missing,
            note_unannounced, primary_key, scan_places,
        },
    },
    files::FileArgs,
    listing::Listing,
    notes::notes,
    text,
};

/// Show which object in etcd is encrypted under which key, and which are plaintext
///
/// The command reads etcd's own bytes, from a snapshot or live. It needs no key and cannot decrypt. With an
/// EncryptionConfiguration it shows which objects are not stored as configured; with a keyring it shows which keys are
/// still needed. Exits with 1 if it found something wrong, and with 7 if something is damaged or could not be read, or
/// if the prefix is not the API server's.
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger scan --snapshot /backup/etcd.db
  sudo claviger scan    # on a control-plane node: reads the API server's manifest and the keyring
  claviger scan --snapshot etcd.db --keyring /var/lib/claviger/keyring --html report.html
  claviger scan --list | jq -r 'select(.finding) | .key'")]
pub(in crate::cli) struct ScanArgs {
    /// Read this file instead of a live etcd: a snapshot, or a copy of member/snap/db, but not the file of a running
    /// member
    #[arg(long, value_name = "FILE", conflicts_with_all = LIVE)]
    snapshot: Option<PathBuf>,
    #[command(flatten)]
    etcd: EtcdArgs,
    /// EncryptionConfiguration to compare the objects with [default: the one that the flags of kube-apiserver name]
    #[arg(long, value_name = "FILE")]
    encryption_config: Option<PathBuf>,
    /// Feature gates of kube-apiserver, if its flags are not read: KMSv1=true lets the configuration name KMS v1
    #[arg(long, value_name = "GATES")]
    feature_gates: Option<String>,
    /// Keyring file, to show which objects are under stale, disabled or unknown keys; only key_ids, states and times
    /// are read from it [default: the keyring in the state directory, if there is one and --snapshot is not given]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    #[command(flatten)]
    state_dir: StateDir,
    /// Primary key by its full key_id, as `claviger key list` prints it, to show which objects are under other keys
    #[arg(long, value_name = "KEY_ID", conflicts_with = "keyring")]
    primary: Option<String>,
    /// KMS provider whose values must all be under keys of --keyring or --primary [default: claviger]
    #[arg(long, value_name = "NAME")]
    provider_name: Option<String>,
    /// Print one line of JSON for each live object, and for each older value that can be read, instead of the report
    #[arg(long)]
    list: bool,
    /// Show every resource in the table, including those that need no encryption
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    files: FileArgs,
}

/// Runs `claviger scan`.
///
/// # Errors
/// When nothing can be scanned, or the report cannot be written.
pub(in crate::cli) fn run(args: ScanArgs, global: &Global) -> Result<Exit, Failure> {
    let ScanArgs { snapshot, etcd, encryption_config, feature_gates, keyring, primary, state_dir, .. } = args;
    let provider = args.provider_name.clone();
    let settings =
        Settings { provider_name: args.provider_name, encryption_config, feature_gates, ..state_dir.settings() };
    let has_state_dir = settings.state_dir.is_some();
    // Otherwise the etcd of this node may be unrelated to the snapshot.
    let is_of_this_cluster = snapshot.is_none() || keyring.is_some() || has_state_dir || etcd.names_api_server();
    let config = global.config(etcd.put_into(settings))?;
    args.files.check()?;
    let primary = primary.as_deref().map(primary_key).transpose()?;
    let flags = KeyFlags { keyring, primary, has_state_dir, has_snapshot: snapshot.is_some() };
    let keys = ScanKeys::read(&config, flags)?;
    let announced = if snapshot.is_none() { note_unannounced(&config, &keys)? } else { None };
    let mut input = ScanInput::read(&config, snapshot, keys)?;
    input.etcd.take_if(|_| !is_of_this_cluster);
    input.notes.extend(note_missing(&config, &input.keys, &global.given));
    input.notes.extend(announced.map(|note| global.given.repeat_in(&note).into_owned()));
    let mut listing = Listing::default();
    let mut list = |object: &ListedObject<'_>| listing.print(object);
    let lister = args.list.then(|| Box::new(&mut list) as Lister<'_>);
    let (report, hints, seen) = report(input, args.files.want_digest(), lister, global)?;
    listing.finish()?;
    if let Some(failure) = provider.and_then(|name| seen.lack(&name)) {
        return Err(failure);
    }
    args.files.write(&report, &hints)?;
    if args.list {
        show_beside_list(&report, &hints, global);
    } else {
        show(&report, &hints, args.all, global)?;
    }
    Ok(match report.outcome {
        ReportOutcome::Clean => Exit::Done,
        ReportOutcome::OlderValues | ReportOutcome::LeftOver => Exit::Found,
        ReportOutcome::Incomplete => Exit::Damaged,
    })
}

/// Scans, and returns the report, the hints, and the providers that were found.
fn report(
    input: ScanInput,
    digest: bool,
    lister: Option<Lister<'_>>,
    global: &Global,
) -> Result<(ScanReport, Vec<String>, SeenProviders), Failure> {
    let names = Names::new(&input.prefix);
    let (outcome, counts) = scan_places(&input.places, &input.judge, &names, ScanExtras { digest, lister }, global)?;
    let now = Time::new(jiff::Timestamp::now());
    let mut report = ScanReport::new(outcome, counts, &input.judge, names.prefix(), now.to_string());
    report.given.keyring = input.keys.file.as_ref().map(|file| file.display().to_string());
    report.flags = input.flags;
    report.notes = input.notes;
    let (given, etcdctl) = (&global.given, etcdctl(input.etcd.as_ref()));
    report.notes.extend(notes(&report, input.judge.coverage.as_ref(), given, &etcdctl));
    let (promoted, timeouts) = (input.keys.promoted, input.timeouts);
    let coverage = input.judge.coverage.as_ref();
    let context = HintContext { given, verb: "scan", etcdctl: &etcdctl, promoted, now, timeouts, coverage };
    let hints = hints(&report, &context);
    let seen = SeenProviders::of(&report, input.judge.coverage.as_ref());
    Ok((report, hints, seen))
}

/// Prints the report on standard error, because with `--list` standard output has the objects.
fn show_beside_list(report: &ScanReport, hints: &[String], global: &Global) {
    output::aside(&report.headline(), global);
    report.reasons.iter().for_each(|reason| output::aside(&format!("! {reason}"), global));
    if !report.reasons.is_empty() {
        for hint in hints {
            output::aside(&format!("hint:  {hint}"), global);
        }
    }
}

fn show(report: &ScanReport, hints: &[String], all: bool, global: &Global) -> Result<(), OutputError> {
    match global.output {
        Format::Json => output::json(report),
        Format::Text => {
            output::headline(&report.headline(), report.is_good())?;
            output::text_line(&text::page(report, (!global.quiet).then_some(hints), (!all).then_some("--all")))
        }
    }
}
