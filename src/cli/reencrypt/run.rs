//! Runs `claviger reencrypt`: scans, sweeps in rounds, scans again, and prints the report.

use std::{collections::BTreeSet, ffi::OsString, path::Path, sync::Arc, time::Instant};

use crate::{
    apiclient::ApiClient,
    apiserver::coverage::Coverage,
    audit,
    config::{Config, Settings},
    durable::{Dir, DurableError, LifeLock, Privacy},
    keyring::time::Time,
    reencrypt::{FailureKind, NamedFailure},
    scan::judge::FindingKind,
};

use super::{
    super::{
        Format, Global,
        failure::{Exit, Failure, written_in_plaintext},
        interrupt::Interrupt,
        live::{PluginSearch, start},
        named::{named_key, named_keys},
        output::{self, OutputError, audit_to_stderr},
        probe::find_plugin,
        runtime::event_loop,
        scanning::{
            HintContext, KeyFlags, ScanInput, ScanKeys, SeenProviders, check_announced, etcdctl, hint_about,
            hints as scan_hints, primary_key, unconfigured,
        },
    },
    args::ReencryptArgs,
    census::Census,
    hints::hints,
    migrating::{self, Migrating},
    report::{Asked, ReencryptReport, ReencryptTarget},
    rounds::{Rounds, Sweeping},
    text,
};

/// Runs `claviger reencrypt`.
///
/// # Errors
/// When nothing says what is stale, no API server can be asked, or an etcd cannot be read.
pub(in crate::cli) fn run(mut args: ReencryptArgs, global: &Global) -> Result<Exit, Failure> {
    let is_named = args.provider_name.is_some();
    let (input, config) = input(&mut args, global)?;
    let Config { provider_name: provider, state_dir, .. } = &config;
    let runtime = event_loop()?;
    // A preview sends no request to the API server, so it needs no credentials.
    let access = (!args.dry_run).then(|| args.access.access());
    let api = access.map(|access| runtime.block_on(ApiClient::new(&access))).transpose()?.map(Arc::new);
    // Without a migrator there is no need to scan.
    let migrator = api.as_ref().filter(|_| args.via.is_some()).map(|api| migrating::find(&runtime, api)).transpose()?;
    let begin = Instant::now();
    let census = Census::take(&input, &named_keys(&args.leave, &input.prefix), global)?;
    check_provider(&census, &input, provider, is_named)?;
    let left = census.left.clone();
    check_left(&args.leave, &left, &input.prefix)?;
    check_writes(&census, args.risk_plaintext)?;
    if let Some(api) = api.as_ref().filter(|_| !census.to_plaintext.is_empty() && !census.is_incomplete()) {
        audit_plaintext(state_dir, &census.to_plaintext, api.url())?;
    }
    let before = census.stale.clone();
    let target = target(&input, provider, &args);
    let (mut report, of_scan) = match (api.as_ref().filter(|_| !census.is_incomplete()), migrator) {
        (Some(api), Some(base)) => {
            let interrupt = &Interrupt::catch()?;
            let migrating = Migrating { input: &input, api, base, runtime: &runtime, interrupt, global };
            let migrated = migrating.run(census)?;
            let of_scan = ScanAdvice::of(&migrated.census, &input, global);
            let asked = asked(Some(api), migrated.rounds);
            (ReencryptReport::of_migrations(before, migrated, asked, target), of_scan)
        }
        (usable, _) => {
            let rounds = match usable {
                None => Rounds { census, outcome: None, sweeps: 0 },
                Some(api) => {
                    let (interrupt, rate) = (&Interrupt::catch()?, args.rate.unwrap_or_default());
                    Sweeping { input: &input, left: &left, api, rate, runtime: &runtime, interrupt, global }
                        .run(census)?
                }
            };
            let of_scan = ScanAdvice::of(&rounds.census, &input, global);
            let asked = asked(api.as_ref(), rounds.sweeps);
            (ReencryptReport::new(before, rounds, asked, target), of_scan)
        }
    };
    report.no_plugin = no_plugin(&report.failed, input.judge.coverage.as_ref(), &config)?;
    report.seconds = begin.elapsed().as_secs_f64();
    show(&report, of_scan, global)?;
    Ok(report.exit())
}

/// Refuses a provider name that no value and no entry of the EncryptionConfiguration has. Without keys, the name is not
/// used. With keys, it says which values have to be under one of them.
fn check_provider(census: &Census, input: &ScanInput, provider: &str, is_named: bool) -> Result<(), Failure> {
    let seen = SeenProviders::of(&census.report, input.judge.coverage.as_ref());
    let is_meant = is_named || (input.judge.keys.is_some() && seen.has_kms_v2());
    seen.lack(provider).filter(|_| is_meant).map_or(Ok(()), Err)
}

/// Refuses a rewrite that the API server cannot do, or after which encrypted values would be readable.
fn check_writes(census: &Census, risk_plaintext: bool) -> Result<(), Failure> {
    if let Some(unlisted) = census.unreadable() {
        return Err(unlisted.failure());
    }
    match census.to_plaintext.first() {
        Some(resource) if !risk_plaintext => Err(to_plaintext(resource)),
        _ => Ok(()),
    }
}

/// Returns the API server that was asked to rewrite objects. A preview has no client of one.
fn asked(api: Option<&Arc<ApiClient>>, sweeps: u32) -> Asked {
    match api {
        None => Asked::NotInPreview,
        Some(_) if sweeps == 0 => Asked::NotNeeded,
        Some(api) => Asked::ApiServer(api.url().to_owned()),
    }
}

/// Returns the provider with which the API server writes, if it uses this EncryptionConfiguration.
fn target(input: &ScanInput, provider: &str, args: &ReencryptArgs) -> ReencryptTarget {
    let provider = format!("kms:v2:{provider}");
    match &input.judge.coverage {
        Some(coverage) if coverage.is_written_by(&provider) => ReencryptTarget::PrimaryKey,
        Some(coverage) if args.risk_plaintext && coverage.writes_only_plaintext() => ReencryptTarget::Plaintext,
        _ => ReencryptTarget::OtherProvider,
    }
}

/// The texts in answers of an API server that cannot reach its plugin.
const UNREACHED: [&str; 3] = ["nil transformer", "rpc error", "dial unix"];

/// Returns the sentence that says that no plugin answers, if the API server seems to lack the plugin whose socket the
/// EncryptionConfiguration names.
fn no_plugin(failed: &[NamedFailure], coverage: Option<&Coverage>, config: &Config) -> Result<Option<String>, Failure> {
    let is_unreached = |failed: &NamedFailure| {
        failed.kind == FailureKind::Refused && UNREACHED.iter().any(|text| failed.reason.contains(text))
    };
    let is_configured = coverage.is_some_and(|coverage| coverage.providers_at(&config.socket.endpoint()) > 0);
    if !is_configured || !failed.iter().any(is_unreached) {
        return Ok(None);
    }
    let PluginSearch::Absent { socket, reason } = find_plugin(config)? else { return Ok(None) };
    // If the lock cannot be asked, the plugin's own start reports why.
    let next = if LifeLock::is_held(&config.state_dir).unwrap_or(false) {
        "a plugin serves from this state directory at another socket, and the API server needs the one that the \
         EncryptionConfiguration names"
            .to_owned()
    } else {
        format!("start it: {}", start(&config.state_dir))
    };
    Ok(Some(format!("the API server cannot reach its plugin: none answers at {socket}: {reason}; {next}")))
}

/// Writes to the audit log that objects are about to be written in plaintext. Without a state directory here, the line
/// goes to standard error.
///
/// # Errors
/// When it cannot be written.
fn audit_plaintext(state_dir: &Path, resources: &[String], api_server: &str) -> Result<(), Failure> {
    let event = audit::Event::ReencryptToPlaintext { resources, api_server };
    match Dir::open(state_dir, Privacy::Private) {
        Ok(dir) => audit::write(&dir, &event).map_err(|error| Failure::export(&error)),
        Err(DurableError::Missing(_)) => audit_to_stderr(&event),
        Err(error) => Err(Failure::export(&error)),
    }
}

/// Collects the inputs that decide which objects are stale, and the configuration.
fn input(args: &mut ReencryptArgs, global: &Global) -> Result<(ScanInput, Config), Failure> {
    let settings = Settings {
        provider_name: args.provider_name.take(),
        encryption_config: args.encryption_config.take(),
        feature_gates: args.feature_gates.take(),
        ..std::mem::take(&mut args.state_dir).settings()
    };
    let has_state_dir = settings.state_dir.is_some();
    let config = global.config(std::mem::take(&mut args.etcd).put_into(settings))?;
    let primary = args.primary.as_deref().map(primary_key).transpose()?;
    let flags = KeyFlags { keyring: args.keyring.take(), primary, has_state_dir, has_snapshot: false };
    let keys = ScanKeys::read(&config, flags)?;
    let input = ScanInput::read(&config, None, keys)?;
    check(&input, &config)?;
    check_announced(&config, &input.keys, global)?;
    Ok((input, config))
}

/// Checks that the inputs decide which objects are stale.
fn check(input: &ScanInput, config: &Config) -> Result<(), Failure> {
    let coverage = input.judge.coverage.as_ref().ok_or_else(unconfigured)?;
    let provider = format!("kms:v2:{}", config.provider_name);
    if input.judge.keys.is_none() && coverage.is_written_by(&provider) {
        let message = format!(
            "it is not known which key of the provider {} is primary: {} holds no keyring that can be read",
            config.provider_name,
            config.state_dir.display()
        );
        let note = input.notes.last().map_or_else(String::new, |note| format!(" ({note})"));
        let restore = if input.keys.is_missing {
            "if the keyring of this node is lost, restore it first: claviger backup restore FILE; "
        } else {
            ""
        };
        let hint = format!(
            "{restore}where the keyring is, give --state-dir DIR or --keyring FILE; elsewhere --primary KEY_ID as `claviger key list` \
             prints it there{note}"
        );
        return Err(Failure::new(Exit::Usage, &message, hint));
    }
    Ok(())
}

fn to_plaintext(resource: &str) -> Failure {
    let hint = "put the provider that encrypts first; to give up encryption on purpose: --risk-plaintext";
    Failure::new(Exit::Refused, &written_in_plaintext(resource), hint.to_owned())
}

/// Checks that each object that is left by name was found. `left` are the keys that were found. Some of them may not be
/// text.
fn check_left(leave: &[OsString], left: &BTreeSet<Vec<u8>>, prefix: &str) -> Result<(), Failure> {
    let is_found = |key: &[u8]| left.iter().any(|left| left == key || String::from_utf8_lossy(left).as_bytes() == key);
    let Some(key) = leave.iter().map(|name| named_key(name, prefix)).find(|key| !is_found(key)) else { return Ok(()) };
    let message = format!("--leave {}: no scanned object with this key is stale", String::from_utf8_lossy(&key));
    Err(Failure::new(Exit::Usage, &message, "see the keys of all objects: claviger scan --list".to_owned()))
}

/// The hints of `scan` for the findings of the last scan.
enum ScanAdvice {
    /// The scan could not read everything, so no other hint counts.
    Incomplete(Vec<String>),
    /// The scan found values that a patch does not change.
    Found(Vec<String>),
}

impl ScanAdvice {
    fn of(census: &Census, input: &ScanInput, global: &Global) -> Self {
        let (given, etcdctl) = (&global.given, etcdctl(input.etcd.as_ref()));
        let now = Time::new(jiff::Timestamp::now());
        let context = HintContext {
            given,
            verb: "reencrypt",
            etcdctl: &etcdctl,
            promoted: None,
            now,
            timeouts: input.timeouts,
            coverage: input.judge.coverage.as_ref(),
        };
        if census.is_incomplete() {
            return Self::Incomplete(scan_hints(&census.report, &context));
        }
        let lost = [FindingKind::UnknownKey, FindingKind::DisabledKey];
        Self::Found(lost.into_iter().filter_map(|kind| hint_about(kind, &census.report, &context)).collect())
    }
}

fn show(report: &ReencryptReport, of_scan: ScanAdvice, global: &Global) -> Result<(), OutputError> {
    match global.output {
        Format::Json => output::json(report),
        Format::Text => {
            let hints = match of_scan {
                ScanAdvice::Incomplete(advice) => advice,
                ScanAdvice::Found(advice) => hints(report, advice, &global.given),
            };
            output::headline(&text::headline(report), report.exit() == Exit::Done)?;
            output::text_line(&text::page(report, &hints, &global.given, global.quiet))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;
    use crate::apiserver::coverage::KmsV1;

    #[test]
    fn an_api_server_that_cannot_reach_its_plugin_is_told_from_one_that_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("kms.sock");
        let state_dir = dir.path().join("state");
        let settings = Settings {
            state_dir: Some(state_dir.clone()),
            socket: Some(socket.display().to_string()),
            ..Settings::default()
        };
        let config = Config::load(None, settings).unwrap();
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{{resources: [secrets], providers: \
             [{{kms: {{apiVersion: v2, name: claviger, endpoint: 'unix://{}'}}}}]}}]\n",
            socket.display()
        );
        let coverage = Coverage::parse(&text, KmsV1::Refused).unwrap();
        let other = Coverage::parse(&text.replace("kms.sock", "other.sock"), KmsV1::Refused).unwrap();
        let failed = |reason: &str| {
            [NamedFailure { key: "/registry/a".to_owned(), kind: FailureKind::Refused, reason: reason.to_owned() }]
        };
        let found = |reason: &str, coverage: &Coverage| no_plugin(&failed(reason), Some(coverage), &config).unwrap();
        let nil = "data from the storage is not transformable revision=0: got unexpected nil transformer";
        let said = found(nil, &coverage).unwrap();
        let begin = format!("the API server cannot reach its plugin: none answers at unix://{}: ", socket.display());
        assert!(said.starts_with(&begin), "{said}");
        let start = format!("; start it: claviger serve --state-dir {}", state_dir.display());
        assert!(said.ends_with(&start), "{said}");
        assert_eq!(found("admission webhook denied the request", &coverage), None);
        assert_eq!(found(nil, &other), None);
    }

    #[test]
    fn an_object_that_is_left_is_one_that_was_found() {
        let binary = [b"/registry/secrets/x/\xff".to_vec()].into();
        let leave = |bytes: &[u8]| vec![OsStr::from_bytes(bytes).to_os_string()];
        let checked = |bytes: &[u8]| {
            check_left(&leave(bytes), &binary, "/registry").map_err(|failure| failure.message().to_owned())
        };
        for name in [&b"secrets/x/\xff"[..], "secrets/x/\u{fffd}".as_bytes(), b"/registry/secrets/x/\xff"] {
            assert_eq!(checked(name), Ok(()));
        }
        let expected = "--leave /registry/secrets/x/y: no scanned object with this key is stale";
        assert_eq!(checked(b"secrets/x/y"), Err(expected.to_owned()));
    }
}
