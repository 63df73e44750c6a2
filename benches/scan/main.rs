//! Compares `claviger scan` with `cat`, which is the limit, with the least scan in Go, and with etcd's own tools.
//!
//! `cargo bench --bench scan`; `benches/README.md` explains the tables. Every round measures each contender once, so
//! that other load on the machine affects all contenders equally, and checks the counts of each. A first round, whose
//! times do not count, fills the page cache and watches the memory.

mod contender;
mod database;
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod measured;
mod report;

use std::{ffi::OsString, fs, path::PathBuf, process::ExitCode};

use anstream::eprintln;
use clap::Parser;

use contender::{Contender, Target};
use database::{Database, Shape};
use harness::{
    error::{Context, Result},
    etcd::Etcd,
    processes::Run,
};
use measured::Sample;
use report::Report;

/// Measures `claviger scan` beside cat, a scan in Go, etcdutl and etcdctl
#[derive(Parser)]
struct Options {
    /// Only these: snapshot, live
    only: Vec<String>,
    /// How often each contender is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many objects there are in a database, for databases without history
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "10000,100000,1000000")]
    objects: Vec<u32>,
    /// Databases with history, each as how many objects and how many revisions of each; read as files only
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "250000x4")]
    history: Vec<String>,
    /// Small databases and one round: whether it runs, not how fast it is
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

/// The arguments of this program when the benchmark runs it as the parent of a contender.
#[derive(clap::Args)]
struct Inner {
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
    let Inner { sample_to, stdout, watch, line } = &options.inner;
    let outcome = match sample_to {
        Some(sample) => measured::be_parent(line, stdout, sample, *watch),
        None => measure(options),
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
        (options.rounds, options.objects, options.history) = (1, vec![1000, 10_000], vec!["1000x4".to_owned()]);
    }
    let is_wanted = |part| options.only.is_empty() || options.only.iter().any(|only| only == part);
    let (snapshot, live) = (is_wanted("snapshot"), is_wanted("live"));
    let run = Run::new()?;
    let mut report = Report::of_this_machine(options.rounds);
    for shape in shapes(&options)? {
        if !snapshot && (shape.has_history() || !live) {
            continue;
        }
        eprintln!("writing {shape}");
        let database = Database::generate(&run, shape)?;
        if snapshot {
            files(&options, &run, &database, &mut report)?;
        }
        if live && !shape.has_history() {
            etcd(&options, &run, &database, &mut report)?;
        }
    }
    report.print();
    match &options.json {
        Some(path) => fs::write(path, report.json()).during(|| format!("writing {}", path.display())),
        None => Ok(()),
    }
}

fn shapes(options: &Options) -> Result<Vec<Shape>> {
    let plain = options.objects.iter().map(|objects| Ok(Shape::without_history(*objects)));
    plain.chain(options.history.iter().map(|text| text.parse())).collect()
}

/// Measures all contenders that read a file.
fn files(options: &Options, run: &Run, database: &Database, report: &mut Report) -> Result<()> {
    eprintln!("measuring {}, as a file", database.shape);
    rounds(options, run, &Contender::OF_FILES, &mut Target { database, etcd: None }, report)
}

/// Measures all contenders that ask a server.
fn etcd(options: &Options, run: &Run, database: &Database, report: &mut Report) -> Result<()> {
    eprintln!("measuring {}, in a live etcd", database.shape);
    let mut etcd = Etcd::start_from_snapshot(run, &database.with_digest)?;
    let data = etcd.database(0);
    rounds(options, run, &Contender::OF_ETCD, &mut Target { database, etcd: Some(&mut etcd) }, report)?;
    etcd.stop(0)?;
    // The directory of the run is removed only at the end. This file alone may have gigabytes.
    fs::remove_file(&data).during(|| format!("removing {}", data.display()))
}

fn rounds(
    options: &Options,
    run: &Run,
    contenders: &[Contender],
    target: &mut Target<'_>,
    report: &mut Report,
) -> Result<()> {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); contenders.len()];
    for round in 0..=options.rounds {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            samples.push(contender.measure(run, target, round == 0)?);
        }
    }
    for (contender, samples) in contenders.iter().zip(&samples) {
        report.add(target.database.shape, *contender, samples);
    }
    Ok(())
}
