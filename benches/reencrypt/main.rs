//! Compares `claviger reencrypt` with kubectl and with plain updates, on a real API server.
//!
//! `cargo bench --bench reencrypt`; `benches/README.md` explains the table. Before each measurement a new key becomes
//! primary, so that every Secret is stale. After it, a scan checks that no Secret is stale any more.

#[path = "../../tests/harness/mod.rs"]
mod harness;
mod others;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anstream::{eprintln, println};
use clap::Parser;

use harness::{
    api_server::ApiServer,
    binaries::{Program, Version},
    commands::output_of_success,
    error::Result,
    etcd::Etcd,
    plugin::Plugin,
    processes::Run,
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// The time limit for one contender, on a slow machine.
const LIMIT: Duration = Duration::from_mins(10);

/// Measures `claviger reencrypt` beside kubectl and plain updates
#[derive(Parser)]
struct Options {
    /// How often each contender is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many Secrets there are
    #[arg(long, default_value_t = 10_000)]
    secrets: u32,
    /// Few Secrets and one round: whether it runs, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Measure how long other clients wait while claviger rewrites at its default rate, instead of the contenders
    #[arg(long)]
    others: bool,
    /// The flag that cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A program that has the API server write every Secret again.
#[derive(Clone, Copy)]
enum Contender {
    /// `claviger reencrypt` without a limit of the rate.
    Claviger,
    /// `kubectl get -o json | kubectl replace`, as Kubernetes' documentation has it.
    Kubectl,
    /// Plain updates, as many at once as the number says, which keep the API server busy.
    Updates(u16),
}

impl Contender {
    const ALL: [Self; 5] = [Self::Claviger, Self::Kubectl, Self::Updates(16), Self::Updates(32), Self::Updates(64)];

    fn name(self) -> String {
        match self {
            Self::Claviger => "claviger reencrypt --rate unlimited".to_owned(),
            Self::Kubectl => "kubectl get | kubectl replace".to_owned(),
            Self::Updates(at_once) => format!("plain updates, {at_once} at once"),
        }
    }
}

fn main() -> ExitCode {
    match measure(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(mut options: Options) -> Result<()> {
    if options.quick {
        (options.rounds, options.secrets) = (1, 200);
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut cluster = Cluster::start(options.secrets)?;
    if options.others {
        return others::measure(&mut cluster, options.rounds, load.trim());
    }
    let mut seconds = Contender::ALL.map(|_| Vec::new());
    for round in 1..=options.rounds {
        for (contender, seconds) in Contender::ALL.into_iter().zip(&mut seconds) {
            eprintln!("round {round} of {}: {}", options.rounds, contender.name());
            cluster.make_stale()?;
            seconds.push(cluster.run_contender(contender)?);
        }
    }
    println!("{} Secrets, {} rounds; load before: {}", options.secrets, options.rounds, load.trim());
    println!("{:38} {:>8} {:>8} {:>8} {:>10}", "", "median s", "least s", "most s", "Secrets/s");
    for (contender, mut seconds) in Contender::ALL.into_iter().zip(seconds) {
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let (least, most) = (seconds[0], seconds[seconds.len() - 1]);
        let rate = f64::from(options.secrets) / median;
        println!("{:38} {median:>8.1} {least:>8.1} {most:>8.1} {rate:>10.0}", contender.name());
    }
    Ok(())
}

/// A control plane with Secrets under claviger.
struct Cluster {
    api: ApiServer,
    plugin: Plugin,
    etcd: Etcd,
    config: PathBuf,
    keys: u32,
    secrets: u32,
    // Dropped last, because it ends the processes.
    _run: Run,
}

impl Cluster {
    fn start(secrets: u32) -> Result<Self> {
        let run = Run::new()?;
        let etcd = Etcd::start(&run, 1)?;
        let mut plugin = Plugin::init(&run, BINARY, "claviger")?;
        plugin.serve(run.socket("kms.sock")?.display().to_string())?;
        let config = plugin.encryption_config(&["secrets"], true)?;
        let api = ApiServer::on(&run, &etcd).encryption_config(&config).start()?;
        let cluster = Self { api, plugin, etcd, config, keys: 1, secrets, _run: run };
        eprintln!("making {secrets} Secrets");
        cluster.api_client(&["--fill", &secrets.to_string()])?;
        Ok(cluster)
    }

    /// Makes another key primary, and has the API server write under it from now on.
    fn make_stale(&mut self) -> Result<()> {
        self.plugin.claviger(&["key", "add"])?;
        self.keys += 1;
        self.plugin.claviger(&["key", "promote", &format!("k{}", self.keys), "--without-backup"])?;
        self.plugin.kill()?;
        self.plugin.restart()?;
        self.api.restart()
    }

    /// Returns how many seconds the contender took.
    fn run_contender(&self, contender: Contender) -> Result<f64> {
        let begin = Instant::now();
        match contender {
            Contender::Claviger => self.reencrypt(&["--rate", "unlimited"])?,
            Contender::Kubectl => self.replace()?,
            Contender::Updates(at_once) => self.api_client(&["--rewrite", &at_once.to_string()])?,
        }
        let seconds = begin.elapsed().as_secs_f64();
        let (endpoints, config) = (self.etcd.endpoints(), self.config.display().to_string());
        let scan = ["scan", "--etcd-servers", &endpoints, "--encryption-config", &config];
        let report = self.plugin.claviger(&scan)?;
        let expected = format!("All {} Secrets are encrypted", with_commas(self.secrets));
        assert!(report.contains(&expected), "{expected} is missing in\n{report}");
        Ok(seconds)
    }

    fn reencrypt(&self, rate: &[&str]) -> Result<()> {
        let (endpoints, config) = (self.etcd.endpoints(), self.config.display().to_string());
        let kubeconfig = self.api.kubeconfig().display().to_string();
        let line = ["reencrypt", "--etcd-servers", &endpoints, "--encryption-config", &config];
        let command = self.plugin.command(&[&line[..], &["--kubeconfig", &kubeconfig], rate].concat());
        output_of_success(command, &[], LIMIT).map(drop)
    }

    fn replace(&self) -> Result<()> {
        let kubectl = Program::Kubectl(Version::V1_37).path()?;
        let (kubectl, kubeconfig) = (kubectl.display().to_string(), self.api.kubeconfig().display().to_string());
        let mut command = Command::new("bash");
        let line = "set -o pipefail; \"$0\" get secrets --all-namespaces -o json | \"$0\" replace -f -";
        command.args(["-c", line, &kubectl]).env("KUBECONFIG", kubeconfig);
        output_of_success(command, &[], LIMIT).map(drop)
    }

    fn api_client(&self, arguments: &[&str]) -> Result<()> {
        output_of_success(client(&self.api.kubeconfig(), arguments)?, &[], LIMIT).map(drop)
    }
}

fn client(kubeconfig: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(Program::ApiClient.path()?);
    command.arg("--kubeconfig").arg(kubeconfig).args(arguments);
    Ok(command)
}

/// Returns a number with commas, as in reports.
fn with_commas(number: u32) -> String {
    let digits = number.to_string();
    let (head, tail) = digits.split_at(digits.len().saturating_sub(3));
    if head.is_empty() { tail.to_owned() } else { format!("{head},{tail}") }
}
