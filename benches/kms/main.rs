//! Compares claviger with an empty tonic service, which is the limit, and with the least plugin in Go.
//!
//! `cargo bench --bench kms`; `benches/README.md` explains the tables. Every round measures each contender once, so
//! that other load on the machine affects all contenders equally. The tables show the median of the rounds.

mod alone;
mod contender;
#[path = "../../src/crypto/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, missing_docs, reason = "the product uses all of it")]
mod crypto;
mod empty;
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod load;
#[path = "../../src/memory/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, missing_docs, reason = "the product uses all of it")]
mod memory;
mod report;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anstream::eprintln;
use clap::Parser;

use contender::{Contender, Stable};
use harness::error::{Context, Error, Result};
use load::End;
use report::{Cell, Report};

/// The code that `build.rs` makes of `proto/kms-v2.proto`.
#[allow(dead_code, missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
mod api {
    tonic::include_proto!("v2");
}

/// claviger's allocator, for the empty service, which this program serves itself.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

const METHODS: [&str; 3] = ["Status", "Encrypt", "Decrypt"];
const CALLERS: [usize; 3] = [1, 8, 64];

/// Measures claviger beside an empty tonic service and the least plugin in Go
#[derive(Parser)]
struct Options {
    /// Only these: calls, alone, start, memory, instructions, size
    only: Vec<String>,
    /// How long each contender is called in each round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often each contender is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Short rounds and few of them: whether it runs, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Where to write all figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[arg(long, hide = true)]
    serve_empty: Option<PathBuf>,
    /// The flag that cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A kind of measurement, which puts its figures into the report.
type Part = fn(&Options, &Stable, &mut Report) -> Result<()>;

fn main() -> ExitCode {
    let mut options = Options::parse();
    let outcome = match &options.serve_empty {
        Some(socket) => empty::serve(socket).during(|| "serving the empty service".to_owned()),
        None => measure(&mut options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &mut Options) -> Result<()> {
    if options.quick {
        (options.seconds, options.rounds) = (0.2, 1);
    }
    let stable = Stable::new()?;
    let mut report = Report::of_this_machine();
    let parts: [(&str, Part); 6] = [
        ("calls", calls),
        ("instructions", instructions),
        ("alone", alone),
        ("start", start),
        ("memory", memory),
        ("size", size),
    ];
    for (name, part) in parts {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            eprintln!("measuring: {name}");
            part(options, &stable, &mut report)?;
        }
    }
    report.print();
    match &options.json {
        Some(path) => fs::write(path, report.json()).during(|| format!("writing {}", path.display())),
        None => Ok(()),
    }
}

/// Measures throughput, latency and processor time of each method, with both clients.
fn calls(options: &Options, stable: &Stable, report: &mut Report) -> Result<()> {
    let end = End::After(Duration::from_secs_f64(options.seconds));
    let mut rounds: BTreeMap<_, Vec<Cell>> = BTreeMap::new();
    for _ in 0..options.rounds {
        for (client, method, callers) in places() {
            for contender in Contender::ALL {
                let server = stable.start(contender)?;
                let before = server.cpu_time();
                let seen = match client {
                    "grpc-go" => load::from_go(&server.socket, method, callers, &end)?,
                    _ => load::from_rust(&server.socket, method, callers, &end)?,
                };
                let cell = Cell::new(seen, server.cpu_time().saturating_sub(before));
                rounds.entry((client, method, callers, contender)).or_default().push(cell);
                server.end()?;
            }
        }
    }
    for ((client, method, callers, contender), cells) in rounds {
        report.calls(client, method, callers, contender, Cell::median(&cells));
    }
    Ok(())
}

fn places() -> impl Iterator<Item = (&'static str, &'static str, usize)> {
    let methods = METHODS.into_iter().flat_map(|method| CALLERS.map(|callers| (method, callers)));
    methods.flat_map(|(method, callers)| ["grpc-go", "tonic"].map(|client| (client, method, callers)))
}

/// Counts instructions, which noise does not change: the difference between a run of the server and one with more
/// calls.
fn instructions(options: &Options, stable: &Stable, report: &mut Report) -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("skipped: this machine has no valgrind");
        return Ok(());
    }
    let few = if options.quick { 100 } else { 1000 };
    for method in METHODS {
        for contender in [Contender::Claviger, Contender::Empty] {
            let (less, more) = (stable.count(contender, method, few)?, stable.count(contender, method, 3 * few)?);
            let each = |less: u64, more: u64| more.saturating_sub(less) / (2 * few);
            let allocations = each(less.allocations, more.allocations);
            report.instructions(method, contender, each(less.instructions, more.instructions), allocations);
        }
    }
    Ok(())
}

fn alone(_: &Options, _: &Stable, report: &mut Report) -> Result<()> {
    let (wrap, unwrap) = alone::wrap_and_unwrap().ok_or_else(|| Error::new("no memory for a key".to_owned()))?;
    report.figure("wrap alone", "ns", wrap, Some(700.0));
    report.figure("unwrap alone", "ns", unwrap, Some(450.0));
    Ok(())
}

/// Measures from starting the program to the first answer to Status.
fn start(options: &Options, stable: &Stable, report: &mut Report) -> Result<()> {
    let rounds = if options.quick { 3 } else { 31 };
    for contender in Contender::ALL {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let begin = Instant::now();
            let server = stable.launch(contender)?;
            while !load::is_answered(&server.socket) {
                thread::sleep(Duration::from_micros(100));
            }
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            server.end()?;
        }
        times.sort_by(f64::total_cmp);
        let target = (contender == Contender::Claviger).then_some(10.0);
        report.figure(&format!("exec to first Status, {}", contender.name()), "ms", times[rounds / 2], target);
    }
    Ok(())
}

/// Measures resident memory before and after many calls.
fn memory(options: &Options, stable: &Stable, report: &mut Report) -> Result<()> {
    let calls = if options.quick { 10_000 } else { 1_000_000 };
    for contender in Contender::ALL {
        let server = stable.start(contender)?;
        let mebibytes = |kibibytes: u64| f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) / 1024.0;
        let ours = contender == Contender::Claviger;
        let idle = mebibytes(server.resident());
        report.figure(&format!("resident, idle, {}", contender.name()), "MiB", idle, ours.then_some(6.0));
        for share in [calls / 10, calls - calls / 10] {
            load::from_go(&server.socket, "Encrypt,Decrypt", 64, &End::Calls(share))?;
            let made = if share < calls / 2 { calls / 10 } else { calls };
            let now = mebibytes(server.resident());
            report.figure(&format!("resident, after {made} calls, {}", contender.name()), "MiB", now, None);
        }
        server.end()?;
    }
    Ok(())
}

fn size(_: &Options, _: &Stable, report: &mut Report) -> Result<()> {
    let binary = env!("CARGO_BIN_EXE_claviger");
    let bytes = fs::metadata(binary).during(|| format!("looking at {binary}"))?.len();
    let megabytes = f64::from(u32::try_from(bytes / 1000).unwrap_or(u32::MAX)) / 1e3;
    report.figure("stripped binary", "MB", megabytes, Some(8.0));
    Ok(())
}
