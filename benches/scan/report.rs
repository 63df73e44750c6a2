//! Prints the figures: as tables for people, and as JSON for programs.

use std::{fs, thread};

use anstream::println;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde::Serialize;

use crate::{contender::Contender, database::Shape, measured::Sample};

/// The number of objects from which on the cost of starting is negligible.
const MANY: u32 = 1_000_000;

/// All figures of a run of the benchmark.
pub(crate) struct Report {
    machine: String,
    rounds: u16,
    rows: Vec<Row>,
}

/// The figures of one contender on one database.
#[derive(Clone, Copy)]
struct Row {
    shape: Shape,
    contender: Contender,
    seconds: Spread,
    cpu_seconds: Spread,
    server_seconds: Option<Spread>,
    resident_kib: u32,
    anonymous_kib: u32,
}

#[derive(Clone, Copy, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

/// The growth of the memory from one database to the next.
#[derive(Serialize)]
struct Slope {
    contender: &'static str,
    from: u32,
    to: u32,
    bytes_per_live_key: f64,
}

/// A ratio or a size, and the goal for it.
#[derive(Serialize)]
struct Goal {
    what: &'static str,
    database: String,
    value: f64,
    limit: String,
    met: bool,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        Some(Self { min, median: figures[figures.len() / 2], max })
    }
}

impl Report {
    pub(crate) fn of_this_machine(rounds: u16) -> Self {
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let line = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_matches([' ', '\t', ':']).to_owned()
        };
        let (processor, kernel) = (line("/proc/cpuinfo", "model name"), line("/proc/sys/kernel/osrelease", ""));
        let load = line("/proc/loadavg", "");
        let machine = format!("{cores} cores of {processor}, Linux {kernel}, load before {load}");
        Self { machine, rounds, rows: Vec::new() }
    }

    /// Adds the samples of one contender on one database. The first comes from the round that counts for memory only.
    pub(crate) fn add(&mut self, shape: Shape, contender: Contender, samples: &[Sample]) {
        let timed = samples.get(1..).unwrap_or_default();
        let spread = |figure: fn(&Sample) -> f64| Spread::of(timed.iter().map(figure));
        let (Some(seconds), Some(cpu_seconds)) = (spread(|sample| sample.seconds), spread(|sample| sample.cpu_seconds))
        else {
            return;
        };
        self.rows.push(Row {
            shape,
            contender,
            seconds,
            cpu_seconds,
            server_seconds: Spread::of(timed.iter().filter_map(|sample| sample.server_seconds)),
            resident_kib: samples.iter().map(|sample| sample.resident_kib).max().unwrap_or(0),
            anonymous_kib: samples.iter().filter_map(|sample| sample.anonymous_kib).max().unwrap_or(0),
        });
    }

    pub(crate) fn print(&self) {
        println!("{}, rounds {}\n", self.machine, self.rounds);
        let (live, files): (Vec<&Row>, Vec<&Row>) = self.rows.iter().partition(|row| row.contender.is_live());
        if !files.is_empty() {
            println!("{}\n", self.table_of_files(&files));
        }
        if !live.is_empty() {
            println!("{}\n", self.table_of_etcd(&live));
        }
        for table in [self.table_of_slopes(), self.table_of_goals()].iter().filter(|table| !table.is_empty()) {
            println!("{table}\n");
        }
    }

    pub(crate) fn json(&self) -> String {
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        let json = serde_json::json!({
            "machine": self.machine,
            "rounds": self.rounds,
            "rows": rows,
            "slopes": self.slopes(),
            "goals": self.goals(),
        });
        format!("{json:#}\n")
    }

    fn table_of_files(&self, rows: &[&Row]) -> Table {
        let head = ["file", "contender", "min ms", "median", "max", "CPU ms", "over cat", "go-scan over it"];
        let mut table = table(&[&head[..], &MEMORY].concat());
        for row in rows {
            let over_cat = self.ratio(row.shape, row.contender, Contender::Cat);
            let go_over_it = self.ratio(row.shape, Contender::GoScan, row.contender);
            table.add_row([row.common(), vec![times(over_cat), times(go_over_it)], row.memory()].concat());
        }
        table
    }

    fn table_of_etcd(&self, rows: &[&Row]) -> Table {
        let head =
            ["etcd with", "contender", "min ms", "median", "max", "CPU ms", "etcd's CPU ms", "etcdctl get over it"];
        let mut table = table(&[&head[..], &MEMORY].concat());
        for row in rows {
            let server = row.server_seconds.map_or(String::new(), |seconds| millis(seconds.median));
            let etcdctl_over_it = self.ratio(row.shape, Contender::WithValues, row.contender);
            table.add_row([row.common(), vec![server, times(etcdctl_over_it)], row.memory()].concat());
        }
        table
    }

    fn table_of_slopes(&self) -> Table {
        let mut table = table(&["anonymous memory", "from", "to", "bytes per live key"]);
        for Slope { contender, from, to, bytes_per_live_key } in self.slopes() {
            let (from, to) = (format!("{from} objects"), format!("{to} objects"));
            table.add_row([contender.to_owned(), from, to, format!("{bytes_per_live_key:.1}")]);
        }
        table
    }

    fn table_of_goals(&self) -> Table {
        let mut table = table(&["goal", "database", "limit", "has", ""]);
        for Goal { what, database, value, limit, met } in self.goals() {
            let verdict = if met { "met" } else { "MISSED" };
            table.add_row([what.to_owned(), database, limit, format!("{value:.2}"), verdict.to_owned()]);
        }
        table
    }

    /// Returns the slope from each size to the next larger one, without history.
    fn slopes(&self) -> Vec<Slope> {
        let mut slopes = Vec::new();
        for contender in Contender::OF_FILES.into_iter().chain(Contender::OF_ETCD) {
            let of_contender = |row: &&Row| row.contender == contender && !row.shape.has_history();
            let mut rows: Vec<&Row> = self.rows.iter().filter(of_contender).collect();
            rows.sort_by_key(|row| row.shape.objects);
            rows.dedup_by_key(|row| row.shape.objects);
            for pair in rows.windows(2).filter(|_| contender != Contender::Cat) {
                let (small, large) = (pair[0], pair[1]);
                let (from, to) = (small.shape.objects, large.shape.objects);
                let kib = f64::from(large.anonymous_kib) - f64::from(small.anonymous_kib);
                let bytes_per_live_key = kib * 1024.0 / f64::from(to - from);
                slopes.push(Slope { contender: contender.name(), from, to, bytes_per_live_key });
            }
        }
        slopes
    }

    /// Returns the goals, which hold for a million objects. With fewer objects, costs that do not depend on their
    /// number dominate.
    fn goals(&self) -> Vec<Goal> {
        let many = self.rows.iter().filter(|row| row.shape.revisions() >= MANY);
        many.flat_map(|row| self.goals_of(row)).collect()
    }

    fn goals_of(&self, row: &Row) -> Vec<Goal> {
        let ratio = |of, over| self.ratio(row.shape, of, over);
        let anonymous = Some(f64::from(row.anonymous_kib) / 1024.0);
        let at_most = |what, value: Option<f64>, limit: f64| {
            value.map(|value| goal(row, what, value, format!("at most {limit}"), value <= limit))
        };
        let at_least = |what, value: Option<f64>, limit: f64| {
            value.map(|value| goal(row, what, value, format!("at least {limit}"), value >= limit))
        };
        let goals = match row.contender {
            Contender::Claviger => vec![
                at_most("time over that of cat", ratio(Contender::Claviger, Contender::Cat), 2.0),
                at_least("time of go-scan over it", ratio(Contender::GoScan, Contender::Claviger), 3.0),
                at_most("MiB besides mapped files", anonymous, 64.0),
            ],
            Contender::ClavigerLive => vec![
                at_least("live: time of etcdctl get over it", ratio(Contender::WithValues, row.contender), 1.0),
                at_most("live: MiB besides mapped files", anonymous, 64.0),
            ],
            _ => Vec::new(),
        };
        goals.into_iter().flatten().collect()
    }

    /// Returns the median time of one contender over that of another one, on the same database.
    fn ratio(&self, shape: Shape, of: Contender, over: Contender) -> Option<f64> {
        let seconds = |contender| {
            let row = self.rows.iter().find(|row| row.shape == shape && row.contender == contender)?;
            Some(row.seconds.median)
        };
        Some(seconds(of)? / seconds(over)?)
    }
}

const MEMORY: [&str; 2] = ["peak MiB", "anonymous"];

impl Row {
    fn common(&self) -> Vec<String> {
        let Spread { min, median, max } = self.seconds;
        let name = self.contender.name().to_owned();
        vec![self.shape.to_string(), name, millis(min), millis(median), millis(max), millis(self.cpu_seconds.median)]
    }

    fn memory(&self) -> Vec<String> {
        [self.resident_kib, self.anonymous_kib].map(|kib| format!("{:.1}", f64::from(kib) / 1024.0)).to_vec()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "objects": self.shape.objects,
            "revisions": self.shape.revisions(),
            "contender": self.contender.name(),
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "server_cpu_seconds": self.server_seconds,
            "peak_resident_kib": self.resident_kib,
            "peak_anonymous_kib": self.anonymous_kib,
        })
    }
}

fn goal(row: &Row, what: &'static str, value: f64, limit: String, met: bool) -> Goal {
    Goal { what, database: row.shape.to_string(), value, limit, met }
}

fn millis(seconds: f64) -> String {
    format!("{:.1}", seconds * 1e3)
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
}

/// Returns a table with the figures at the right, so that their lengths can be compared.
fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(head);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
