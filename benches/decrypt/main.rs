//! Compares `claviger decrypt` with a program in Go that uses kube-apiserver's own transformers, and with the limit:
//! reading the file, and AES-GCM over its bytes, on all cores.
//!
//! `cargo bench --bench decrypt`; `benches/README.md` explains the tables. Every round measures each contender once, so
//! that other load on the machine affects all of them equally. Before the rounds, the output of claviger and of the Go
//! program is compared object by object. A first round, whose times do not count, fills the page cache and watches the
//! memory.

mod contender;
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod limit;
#[path = "../scan/measured.rs"]
#[allow(dead_code, reason = "nothing here asks an etcd")]
mod measured;
mod report;
mod secrets;

use std::{ffi::OsString, fs, path::PathBuf, process::ExitCode};

use anstream::eprintln;
use clap::Parser;

use contender::Contender;
use harness::{
    error::{Context, Result},
    processes::Run,
};
use report::Report;
use secrets::{Keys, Secrets};

/// The code that `build.rs` makes of `proto/kms-v2.proto`.
#[allow(dead_code, missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
mod v2 {
    tonic::include_proto!("v2");
}

/// Measures `claviger decrypt` beside kube-apiserver's transformers in Go, and beside the limit
#[derive(Parser)]
struct Options {
    /// How often each contender is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many Secrets there are in a database
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "100000,1000000")]
    objects: Vec<u32>,
    /// A small database and one round: whether it runs, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Where to write all figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    inner: Inner,
    /// The flag that cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The arguments of this program when the benchmark runs it as a contender.
#[derive(clap::Args)]
struct Inner {
    /// Reads this file and encrypts its bytes, as the limit.
    #[arg(long, hide = true)]
    limit: Option<PathBuf>,
    #[arg(long, hide = true)]
    sample_to: Option<PathBuf>,
    #[arg(long, hide = true, default_value = measured::NOWHERE)]
    stdout: PathBuf,
    #[arg(long, hide = true)]
    watch: bool,
    #[arg(last = true, hide = true)]
    line: Vec<OsString>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let Inner { limit, sample_to, stdout, watch, line } = &options.inner;
    let outcome = match (limit, sample_to) {
        (Some(file), _) => limit::read_and_decrypt(file),
        (None, Some(sample)) => measured::be_parent(line, stdout, sample, *watch),
        (None, None) => measure(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(mut options: Options) -> Result<()> {
    if options.quick {
        (options.rounds, options.objects) = (1, vec![10_000]);
    }
    let run = Run::new()?;
    let keys = Keys::make(&run)?;
    let mut report = Report::of_this_machine(options.rounds);
    secrets::compare(&run, &keys)?;
    for objects in &options.objects {
        eprintln!("writing {objects} Secrets");
        let secrets = Secrets::generate(&run, &keys, *objects)?;
        eprintln!("measuring {objects} Secrets");
        let mut samples: Vec<Vec<_>> = vec![Vec::new(); Contender::ALL.len()];
        for round in 0..=options.rounds {
            for (contender, samples) in Contender::ALL.iter().zip(&mut samples) {
                samples.push(contender.measure(&run, &keys, &secrets, round == 0)?);
            }
        }
        for (contender, samples) in Contender::ALL.iter().zip(&samples) {
            report.add(*objects, *contender, samples);
        }
    }
    report.print();
    match &options.json {
        Some(path) => fs::write(path, report.json()).during(|| format!("writing {}", path.display())),
        None => Ok(()),
    }
}
