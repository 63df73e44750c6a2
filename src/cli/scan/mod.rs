//! `claviger scan`

mod given;
mod html;
mod picture;
mod prometheus;
mod text;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use rand::{TryRng, rngs::SysRng};

use crate::{
    config::Settings,
    durable::{check_export, export, replace_export},
    hardening,
    keyring::{key_id::KeyId, time::Time},
    scan::{
        Scan, live,
        names::Names,
        needs::Place,
        report::{Line, Report},
        snapshot::{self, Options},
        tally::{List, Listed, Observer},
    },
};

use self::given::Given;
use super::{
    Format, Global,
    etcd::EtcdArgs,
    failure::{Exit, Failure},
    output,
    progress::Bar,
};

/// Show what is in etcd: which object is under which key, and what can be read without one
///
/// It reads etcd's own bytes, from a snapshot or live, holds no key and cannot decrypt. Held against the EncryptionConfiguration it
/// says what is not as it should be, and held against a keyring which keys are still needed. Ends with 1 if it found something,
/// and with 7 if something could not be read.
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger scan --snapshot /backup/etcd.db
  sudo claviger scan                       on a node of kubeadm's: takes all from the API server's static pod
  claviger scan --snapshot etcd.db --keyring /var/lib/claviger/keyring --html report.html
  claviger scan --list | jq -r 'select(.finding) | .key'")]
pub(super) struct ScanArgs {
    /// Read this file rather than a live etcd: a snapshot, or a copy of member/snap/db; never a running member's own
    #[arg(long, value_name = "FILE", conflicts_with = "etcd_servers")]
    snapshot: Option<PathBuf>,
    #[command(flatten)]
    etcd: EtcdArgs,
    /// The EncryptionConfiguration to hold it against [default: the one that the static pod names]
    #[arg(long, value_name = "FILE")]
    encryption_config: Option<PathBuf>,
    /// A keyring file, to say which keys are stale, disabled or unknown; its names are read, and it is not opened
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// The primary key by its key_id in full, as `claviger key list` prints it, to say what is under another one
    #[arg(long, value_name = "KEY_ID", conflicts_with = "keyring")]
    primary: Option<String>,
    /// The KMS provider whose values must all be under these keys; what is under one of them is judged by it, whatever its
    /// provider is called [default: claviger]
    #[arg(long, value_name = "NAME")]
    provider_name: Option<String>,
    /// Print one JSON line for each live object instead
    #[arg(long)]
    list: bool,
    /// Name every resource in the table, also those that need no encryption
    #[arg(long)]
    all: bool,
    /// Also write a page for auditors: one file that any browser shows
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Also write metrics for the textfile collector of Prometheus' node exporter, over what was there
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
}

/// Runs `claviger scan`.
///
/// # Errors
/// When nothing can be scanned, or what was found cannot be written.
pub(super) fn run(args: ScanArgs, global: &Global) -> Result<Exit, Failure> {
    hardening::forbid_dumps().map_err(|error| Failure::hardening(&error))?;
    let ScanArgs { snapshot, etcd, encryption_config, keyring, primary, provider_name, .. } = args;
    let settings = Settings { provider_name, encryption_config, ..Settings::default() };
    let config = global.config(etcd.put_into(settings))?;
    if let Some(html) = &args.html {
        check_export(html).map_err(|error| Failure::export(&error))?;
    }
    let primary = primary.as_deref().map(primary_key).transpose()?;
    let given = Given::read(&config, snapshot, keyring.as_deref(), primary)?;
    let names = Names::new(&given.prefix);
    let mut listing = Listing::default();
    let list: Option<List<'_>> = args.list.then(|| Box::new(|listed: &Listed<'_>| listing.print(listed)) as List<'_>);
    let scan = scan(&given, &names, args.html.is_some(), list, global)?;
    listing.finish()?;
    let time = Time::new(jiff::Timestamp::now()).to_string();
    let mut report = Report::new(scan, &given.judge, names.prefix(), time);
    report.notes = given.notes;
    publish(&report, args.html.as_deref(), args.prometheus.as_deref())?;
    show(&report, &Shown { is_listed: args.list, all: args.all }, global)?;
    Ok(match (report.is_incomplete(), report.clean) {
        (true, _) => Exit::Damaged,
        (false, false) => Exit::Found,
        (false, true) => Exit::Done,
    })
}

/// Reads `--primary`: a short name such as `k6` would match no value, and make all of them look stale.
fn primary_key(text: &str) -> Result<KeyId, Failure> {
    text.parse().map_err(|error| {
        let hint = "give the key_id in full; `claviger key list` shows it".to_owned();
        Failure::new(Exit::Usage, &format!("--primary {text:?}: {error}"), hint)
    })
}

struct Shown {
    is_listed: bool,
    all: bool,
}

fn scan(given: &Given, names: &Names, digest: bool, list: Option<List<'_>>, global: &Global) -> Result<Scan, Failure> {
    let mut random = [0; 16];
    SysRng.try_fill_bytes(&mut random).map_err(|error| Failure::new(Exit::Refused, &error, None))?;
    let observer = Observer::new(names.clone(), random);
    let is_shown = !global.quiet && global.output == Format::Text;
    match &given.place {
        Place::Snapshot(file) => {
            let bytes = file.metadata().map_or(0, |metadata| metadata.len());
            let mut bar = Bar::bytes(is_shown, bytes);
            let mut progress = |done, of| bar.share(done, of);
            let options = Options { digest, list, progress: &mut progress };
            snapshot::scan(file, &observer, &given.judge, options).map_err(|error| Failure::snapshot(&error, file))
        }
        Place::Etcd(servers) => {
            let mut bar = Bar::objects(is_shown);
            let mut progress = |done, of| bar.of(done, of);
            live::scan(servers, names, observer, &given.judge, (list, &mut progress))
                .map_err(|error| Failure::live(&error))
        }
    }
}

/// Prints live objects as they come, and remembers the first failure: a scan goes on without whoever reads it.
#[derive(Default)]
struct Listing {
    buffer: Vec<u8>,
    failed: Option<io::Error>,
}

const BUFFER: usize = 1 << 16;

impl Listing {
    fn print(&mut self, listed: &Listed<'_>) {
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = serde_json::to_writer(&mut self.buffer, &Line::from(listed)) {
            self.failed = Some(error.into());
        }
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(&self.buffer).and_then(|()| out.flush()) {
            self.failed = Some(error);
        }
        self.buffer.clear();
    }

    fn finish(mut self) -> Result<(), Failure> {
        if self.failed.is_none() && !self.buffer.is_empty() {
            self.flush();
        }
        self.failed.map_or(Ok(()), |error| {
            Err(Failure::new(Exit::Disk, &format!("writing to standard output: {error}"), None))
        })
    }
}

fn publish(report: &Report, html: Option<&Path>, prometheus: Option<&Path>) -> Result<(), Failure> {
    if let Some(path) = prometheus {
        let metrics = prometheus::text(report)?;
        replace_export(path, metrics.as_bytes()).map_err(|error| Failure::export(&error))?;
    }
    if let Some(path) = html {
        export(path, html::page(report).as_bytes()).map_err(|error| Failure::export(&error))?;
    }
    Ok(())
}

fn show(report: &Report, shown: &Shown, global: &Global) -> Result<(), Failure> {
    if shown.is_listed {
        output::aside(&report.headline(), global);
        report.incomplete.iter().for_each(|reason| output::aside(&format!("! {reason}"), global));
        return Ok(());
    }
    match global.output {
        Format::Json => output::json(report),
        Format::Text => {
            output::headline(&report.headline(), report.clean)?;
            output::text_line(&text::page(report, shown.all, global.quiet))
        }
    }
}
