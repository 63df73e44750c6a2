//! Prints the figures: as tables for people, and as JSON for programs.

use std::{fs, thread};

use anstream::println;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::{Value, json};

use crate::{contender::Contender, measured::Sample};

/// The number of objects from which on the cost of starting is negligible.
const MANY: u32 = 1_000_000;

/// All figures of a run of the benchmark.
pub(crate) struct Report {
    machine: String,
    rows: Vec<Row>,
}

/// The figures of one contender on one database.
struct Row {
    objects: u32,
    contender: Contender,
    /// The times of the rounds in seconds, in ascending order.
    seconds: Vec<f64>,
    cpu_seconds: f64,
    resident_kib: u32,
    anonymous_kib: u32,
}

impl Report {
    pub(crate) fn of_this_machine(rounds: u16) -> Self {
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let machine = format!("{cores} cores of {processor}, load before {}, rounds {rounds}", load.trim());
        Self { machine, rows: Vec::new() }
    }

    /// Adds the samples of one contender. The first is from the round that counts for memory only.
    pub(crate) fn add(&mut self, objects: u32, contender: Contender, samples: &[Sample]) {
        let timed = samples.get(1..).unwrap_or_default();
        let sorted = |figure: fn(&Sample) -> f64| {
            let mut figures: Vec<f64> = timed.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures
        };
        self.rows.push(Row {
            objects,
            contender,
            seconds: sorted(|sample| sample.seconds),
            cpu_seconds: median(&sorted(|sample| sample.cpu_seconds)),
            resident_kib: samples.iter().map(|sample| sample.resident_kib).max().unwrap_or(0),
            anonymous_kib: samples.iter().filter_map(|sample| sample.anonymous_kib).max().unwrap_or(0),
        });
    }

    pub(crate) fn print(&self) {
        let head = [
            "Secrets",
            "contender",
            "min ms",
            "median",
            "max",
            "CPU ms",
            "objects/s",
            "go-decrypt over it",
            "over the limit",
            "peak MiB",
            "anonymous",
        ];
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(head);
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for row in &self.rows {
            table.add_row(self.cells(row));
        }
        println!("{}\n\n{table}\n", self.machine);
        for (goal, is_met) in self.goals() {
            println!("{goal}: {}", if is_met { "met" } else { "MISSED" });
        }
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let millis = |seconds: f64| format!("{:.1}", seconds * 1e3);
        let mib = |kib: u32| format!("{:.1}", f64::from(kib) / 1024.0);
        let (min, max) = (row.seconds.first().copied().unwrap_or(0.0), row.seconds.last().copied().unwrap_or(0.0));
        vec![
            row.objects.to_string(),
            row.contender.name().to_owned(),
            millis(min),
            millis(row.median()),
            millis(max),
            millis(row.cpu_seconds),
            format!("{:.0}", row.rate()),
            format!("{:.2}", self.median_of(row.objects, Contender::GoDecrypt) / row.median()),
            format!("{:.2}", row.median() / self.median_of(row.objects, Contender::Limit)),
            mib(row.resident_kib),
            mib(row.anonymous_kib),
        ]
    }

    fn median_of(&self, objects: u32, contender: Contender) -> f64 {
        let row = self.rows.iter().find(|row| (row.objects, row.contender) == (objects, contender));
        row.map_or(f64::NAN, Row::median)
    }

    /// Returns each goal with whether it is reached. The goals hold for a million objects.
    fn goals(&self) -> Vec<(String, bool)> {
        let of_claviger = |row: &&Row| row.contender == Contender::Claviger && row.objects >= MANY;
        let goals = self.rows.iter().filter(of_claviger).flat_map(|row| {
            let go = self.median_of(row.objects, Contender::GoDecrypt) / row.median();
            let mib = f64::from(row.resident_kib) / 1024.0;
            [
                (format!("at least 300,000 objects/s: {:.0}", row.rate()), row.rate() >= 300_000.0),
                (format!("at least 3 times as fast as go-decrypt: {go:.2}"), go >= 3.0),
                (format!("below 128 MiB: {mib:.1}"), mib < 128.0),
            ]
        });
        goals.collect()
    }

    pub(crate) fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        format!("{:#}\n", json!({"machine": self.machine, "rows": rows}))
    }
}

impl Row {
    fn median(&self) -> f64 {
        median(&self.seconds)
    }

    fn rate(&self) -> f64 {
        f64::from(self.objects) / self.median()
    }

    fn json(&self) -> Value {
        json!({
            "objects": self.objects,
            "contender": self.contender.name(),
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_resident_kib": self.resident_kib,
            "peak_anonymous_kib": self.anonymous_kib,
        })
    }
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
