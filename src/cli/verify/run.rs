//! `claviger verify`: reads its arguments, scans, and shows what the scan proves.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    config::Settings,
    keeper::Opened,
    keyring::time::Time,
    proof::{Comparison, VerifyReport},
    scan::{names::Names, report::ScanReport},
};

use super::{
    super::{
        Format, Global, KeyringArgs, Site,
        etcd::EtcdArgs,
        failure::{Exit, Failure},
        output::{self, OutputError},
        scanning::{ScanExtras, SeenProviders, idle, is_recent, scan_places},
    },
    earlier::EarlierReport,
    files::KeptArgs,
    hints::{HintInput, hints},
    input::VerifyInput,
    json, text,
    verified::{Since, Verified},
    words::headline,
};

/// How often an etcd is scanned if it compacts during the scan, and how often the whole verification is done if the
/// keyring changes.
const ATTEMPTS: usize = 3;

/// Prove that every value that must be encrypted is under the primary key, and write a report
///
/// The command reads every etcd that the API server uses, each at one revision, as `claviger scan` does. It compares
/// all values with the EncryptionConfiguration and with the keyring of this node. Exits with 0 only if nothing is left
/// over, with 1 if something is, and with 7 if something may have been missed.
///
/// The report is authenticated with a key of the keyring, so that it can be checked later. With --report, the command
/// checks such a report first, and shows what has changed since. It exits with 4 if the report is not authentic, and
/// with 1 if etcd or the keyring was restored since.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sudo claviger verify    # on a control-plane node: reads the API server's manifest and the keyring
  sudo claviger verify --to after-rotation.report --html after-rotation.html
  sudo claviger verify --report after-rotation.report
  claviger verify --etcd-servers https://127.0.0.1:2379 --etcd-cafile ca.crt … --encryption-config encryption.yaml")]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    keyring: KeyringArgs,
    #[command(flatten)]
    etcd: EtcdArgs,
    /// EncryptionConfiguration, which says what has to be encrypted [default: the one that the flags of kube-apiserver
    /// name]
    #[arg(long, value_name = "FILE")]
    encryption_config: Option<PathBuf>,
    /// Feature gates of kube-apiserver, if its flags are not read: KMSv1=true lets the configuration name KMS v1
    #[arg(long, value_name = "GATES")]
    feature_gates: Option<String>,
    /// KMS provider of claviger's in the EncryptionConfiguration [default: claviger]
    #[arg(long, value_name = "NAME")]
    provider_name: Option<String>,
    /// Earlier report to check and to compare with: a file that --to or --html wrote
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    files: KeptArgs,
}

/// Runs `claviger verify`.
///
/// # Errors
/// When the keyring does not open, the earlier report is not authentic, an etcd cannot be read, or a file cannot be
/// written.
pub(in crate::cli) fn run(args: VerifyArgs, global: &Global) -> Result<Exit, Failure> {
    let VerifyArgs { keyring, etcd, encryption_config, feature_gates, provider_name, report, files } = args;
    let settings = Settings { provider_name, encryption_config, feature_gates, ..keyring.settings() };
    let site = Site::find(etcd.put_into(settings), global)?;
    files.check()?;
    let kept = files.kept().map(PathBuf::as_path);
    let request = VerifyRequest { report: report.as_deref(), kept, has_waited: false };
    let verified = verify_unchanged(&site, request, global)?;
    files.write(&verified)?;
    show(&verified, global)?;
    Ok(verified.exit())
}

/// The subject of a verification, besides the cluster.
#[derive(Clone, Copy)]
pub(in crate::cli) struct VerifyRequest<'a> {
    /// The path of the earlier report.
    pub(in crate::cli) report: Option<&'a Path>,
    /// The path to which the report is written.
    pub(in crate::cli) kept: Option<&'a Path>,
    /// Whether the caller has waited until no API server can write under the previous key.
    pub(in crate::cli) has_waited: bool,
}

/// Verifies with a keyring that is the same before and after the scan: another key may become primary during the scan.
///
/// # Errors
/// When an etcd cannot be read, or the keyring changes each time.
pub(in crate::cli) fn verify_unchanged(
    site: &Site,
    request: VerifyRequest<'_>,
    global: &Global,
) -> Result<Verified, Failure> {
    let mut opened = site.open()?;
    for _ in 0..ATTEMPTS {
        let earlier = request.report.map(|file| EarlierReport::read(file.to_owned(), &opened)).transpose()?;
        let input = VerifyInput::read(&site.config, &opened)?;
        let verified = verify(input, &opened, earlier, request, global)?;
        let after = site.open()?;
        if after.digest == opened.digest {
            return Ok(verified);
        }
        opened = after;
    }
    let message = "the keyring was changed during each scan, so nothing is proven about its primary key";
    let hint = format!("wait until nobody changes keys: {}", global.given.command("claviger verify"));
    Err(Failure::new(Exit::Refused, &message, hint))
}

/// Scans, and decides what the scan proves.
fn verify(
    input: VerifyInput,
    opened: &Opened,
    earlier: Option<EarlierReport>,
    VerifyRequest { kept, has_waited, .. }: VerifyRequest<'_>,
    global: &Global,
) -> Result<Verified, Failure> {
    let scan = scan(&input, global)?;
    let now = Time::new(jiff::Timestamp::now());
    let seen = SeenProviders::of(&scan, input.judge.coverage.as_ref());
    let idle = input.judge.coverage.as_ref().and_then(|coverage| idle(&scan, coverage));
    let report = VerifyReport::new(&scan, input.subject, now);
    let written = opened.write_report(&report)?;
    let text = String::from_utf8_lossy(&written).into_owned();
    let keyring = &opened.keyring;
    let since = earlier.map(|earlier| {
        let comparison = Comparison::new(&earlier.report, &report, keyring.past());
        Since { earlier, comparison }
    });
    let promoted = keyring.primary().promoted().filter(|_| keyring.entries().len() > 1);
    let mut notes = input.notes;
    notes.extend(idle);
    let timeouts = input.timeouts;
    notes.extend(since.as_ref().and_then(|since| since.earlier.note()));
    let (all, list) = (global.given.command("claviger scan --all"), global.given.command("claviger scan --list"));
    let is_early = |time: &Time| !has_waited && is_recent(*time, now, timeouts);
    let quiet = promoted.filter(is_early).map(|_| timeouts.quiet());
    let mut verified = Verified { scan, report, text, promoted, quiet, since, notes, all, list, hints: Vec::new() };
    let coverage = input.judge.coverage.as_ref();
    let context = HintInput { given: &global.given, etcd: input.etcd.as_ref(), seen, kept, now, timeouts, coverage };
    verified.hints = hints(&verified, &context);
    Ok(verified)
}

/// Scans each etcd at one revision. If an etcd compacts that revision away during the scan, everything is scanned
/// again.
fn scan(input: &VerifyInput, global: &Global) -> Result<ScanReport, Failure> {
    let names = Names::new(&input.prefix);
    let once = || {
        let (outcome, counts) = scan_places(&input.places, &input.judge, &names, ScanExtras::default(), global)?;
        let now = Time::new(jiff::Timestamp::now());
        let report = ScanReport::new(outcome, counts, &input.judge, names.prefix(), now.to_string());
        Ok::<_, Failure>(ScanReport { flags: input.flags.clone(), ..report })
    };
    for _ in 1..ATTEMPTS {
        let report = once()?;
        if report.source.pins.len() <= 1 && report.overrides.iter().all(|source| source.pins.len() <= 1) {
            return Ok(report);
        }
    }
    once()
}

fn show(verified: &Verified, global: &Global) -> Result<(), OutputError> {
    match global.output {
        Format::Json => output::json(&json::verified(verified)),
        Format::Text => {
            output::headline(&headline(verified), verified.is_good())?;
            output::text_line(&text::page(verified, global.quiet))
        }
    }
}
