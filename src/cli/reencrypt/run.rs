//! Runs `claviger reencrypt`.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use crate::{
    apiserver::{self, objects::ApiClient},
    config::{Config, Settings},
};

use super::{
    super::{
        Format, Global,
        failure::{Exit, Failure},
        output::{self, OutputError},
        runtime::event_loop,
        scanning::{HintContext, KeyFlags, ScanInput, ScanKeys, etcdctl, hints as scan_hints, primary_key},
    },
    args::ReencryptArgs,
    census::Census,
    hints::hints,
    interrupt::Interrupt,
    report::ReencryptReport,
    rounds::{Rounds, Sweeping},
    text,
};
use crate::keyring::time::Time;

/// Runs `claviger reencrypt`.
///
/// # Errors
/// When nothing says what is stale, no API server can be asked, or an etcd cannot be read.
pub(in crate::cli) fn run(mut args: ReencryptArgs, global: &Global) -> Result<Exit, Failure> {
    let input = input(&mut args, global)?;
    let left: BTreeSet<Vec<u8>> = args.leave.iter().map(|key| key.clone().into_bytes()).collect();
    let runtime = event_loop()?;
    let api = Arc::new(runtime.block_on(ApiClient::new(&args.access.access()))?);
    let begin = Instant::now();
    let census = Census::take(&input, &left, global)?;
    if let Some(key) = args.leave.iter().find(|key| !census.left.contains(*key)) {
        return Err(not_left(key));
    }
    if !args.risk_plaintext
        && let Some(resource) = census.to_plaintext.first()
    {
        return Err(to_plaintext(resource));
    }
    let before = census.stale.clone();
    let is_over = args.dry_run || census.is_incomplete();
    let rounds = if is_over {
        Rounds { census, outcome: None, sweeps: 0 }
    } else {
        let interrupt = Interrupt::catch()?;
        let rate = args.rate.unwrap_or_default();
        Sweeping { input: &input, left: &left, api: &api, rate, runtime: &runtime, interrupt: &interrupt, global }
            .run(census)?
    };
    let of_scan = if rounds.census.is_incomplete() { scan_advice(&rounds.census, &input, global) } else { Vec::new() };
    let mut report = ReencryptReport::new(before, rounds, (api.url().to_owned(), args.dry_run));
    report.seconds = begin.elapsed().as_secs_f64();
    show(&report, of_scan, global)?;
    Ok(report.exit())
}

/// Collects what says which objects are stale.
fn input(args: &mut ReencryptArgs, global: &Global) -> Result<ScanInput, Failure> {
    let settings = Settings {
        provider_name: args.provider_name.take(),
        encryption_config: args.encryption_config.take(),
        ..std::mem::take(&mut args.state_dir).settings()
    };
    let has_state_dir = settings.state_dir.is_some();
    let config = global.config(std::mem::take(&mut args.etcd).put_into(settings))?;
    let primary = args.primary.as_deref().map(primary_key).transpose()?;
    let flags = KeyFlags { keyring: args.keyring.take(), primary, has_state_dir, has_snapshot: false };
    let keys = ScanKeys::read(&config, flags)?;
    let has_kms_v1 = args.feature_gates.as_deref().is_some_and(apiserver::allows_kms_v1);
    let input = ScanInput::read(&config, None, keys, has_kms_v1)?;
    check(&input, &config)?;
    Ok(input)
}

/// Checks that it is known which objects are stale.
fn check(input: &ScanInput, config: &Config) -> Result<(), Failure> {
    let Some(coverage) = &input.judge.coverage else {
        let message =
            "no option says where the EncryptionConfiguration is, so it is not known what has to be encrypted";
        let hint = "give --encryption-config FILE, --apiserver-manifest FILE, or --apiserver-process";
        return Err(Failure::new(Exit::Usage, &message, hint.to_owned()));
    };
    let provider = format!("kms:v2:{}", config.provider_name);
    if input.judge.keys.is_none() && coverage.is_written_by(&provider) {
        let message = format!("it is not known which key of the provider {} is primary", config.provider_name);
        let note = input.notes.last().map_or_else(String::new, |note| format!(" ({note})"));
        let hint =
            format!("give --state-dir DIR, --keyring FILE, or --primary KEY_ID as `claviger key list` prints it{note}");
        return Err(Failure::new(Exit::Usage, &message, hint));
    }
    Ok(())
}

fn to_plaintext(resource: &str) -> Failure {
    let message = format!(
        "the EncryptionConfiguration puts identity first for {resource}: its encrypted values would be written in plaintext"
    );
    let hint = "put the provider that encrypts first; to give up encryption on purpose: --risk-plaintext";
    Failure::new(Exit::Refused, &message, hint.to_owned())
}

fn not_left(key: &str) -> Failure {
    let message = format!("--leave {key}: no scanned object with this key is stale");
    Failure::new(Exit::Usage, &message, "see the keys of all objects: claviger scan --list".to_owned())
}

fn scan_advice(census: &Census, input: &ScanInput, global: &Global) -> Vec<String> {
    let (given, etcdctl) = (&global.given, etcdctl(input.etcd.as_ref()));
    let now = Time::new(jiff::Timestamp::now());
    let context = HintContext { given, verb: "reencrypt", etcdctl: &etcdctl, promoted: None, now };
    scan_hints(&census.report, &context)
}

fn show(report: &ReencryptReport, of_scan: Vec<String>, global: &Global) -> Result<(), OutputError> {
    match global.output {
        Format::Json => output::json(report),
        Format::Text => {
            let hints = if of_scan.is_empty() { hints(report, &global.given) } else { of_scan };
            output::headline(&text::headline(report), report.exit() == Exit::Done)?;
            output::text_line(&text::page(report, &hints, global.quiet))
        }
    }
}
