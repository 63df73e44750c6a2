//! Prints the figures: as tables for people, and as JSON for programs.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use anstream::println;
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

use crate::{contender::Contender, load::Seen};

/// The figures of one contender in one place.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cell {
    calls_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us_per_call: f64,
}

/// The place of a measurement: client, method, number of callers.
type Place = (&'static str, &'static str, usize);

/// All figures of a run of the benchmark.
#[derive(Debug)]
pub(crate) struct Report {
    machine: String,
    calls: BTreeMap<Place, BTreeMap<Contender, Cell>>,
    counted: Vec<PerCall>,
    figures: Vec<Figure>,
}

#[derive(Debug, Serialize)]
struct PerCall {
    method: &'static str,
    contender: &'static str,
    instructions: u64,
    allocations: u64,
}

#[derive(Debug, Serialize)]
struct Figure {
    what: String,
    unit: &'static str,
    value: f64,
    at_most: Option<f64>,
}

/// A ratio, and the goal for it.
#[derive(Debug, Serialize)]
struct Goal {
    what: &'static str,
    client: &'static str,
    method: &'static str,
    callers: usize,
    value: f64,
    limit: f64,
    met: bool,
}

impl Cell {
    pub(crate) fn new(seen: Seen, cpu: Duration) -> Self {
        let number = |calls: u64| f64::from(u32::try_from(calls).unwrap_or(u32::MAX));
        Self {
            calls_per_second: number(seen.calls) / seen.seconds,
            p50_us: seen.p50,
            p99_us: seen.p99,
            cpu_us_per_call: cpu.as_secs_f64() * 1e6 / number(seen.answered),
        }
    }

    /// Returns the median of each figure.
    pub(crate) fn median(cells: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| {
            let mut figures: Vec<f64> = cells.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Self {
            calls_per_second: median(|cell| cell.calls_per_second),
            p50_us: median(|cell| cell.p50_us),
            p99_us: median(|cell| cell.p99_us),
            cpu_us_per_call: median(|cell| cell.cpu_us_per_call),
        }
    }
}

impl Report {
    pub(crate) fn of_this_machine() -> Self {
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let line = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
                .trim_matches([' ', '\t', ':'])
                .to_owned()
        };
        let (processor, kernel) = (line("/proc/cpuinfo", "model name"), line("/proc/sys/kernel/osrelease", ""));
        let load = line("/proc/loadavg", "");
        let machine = format!("{cores} cores of {processor}, Linux {kernel}, load before {load}");
        Self { machine, calls: BTreeMap::new(), counted: Vec::new(), figures: Vec::new() }
    }

    pub(crate) fn calls(
        &mut self,
        client: &'static str,
        method: &'static str,
        callers: usize,
        contender: Contender,
        cell: Cell,
    ) {
        self.calls.entry((client, method, callers)).or_default().insert(contender, cell);
    }

    pub(crate) fn instructions(
        &mut self,
        method: &'static str,
        contender: Contender,
        instructions: u64,
        allocations: u64,
    ) {
        self.counted.push(PerCall { method, contender: contender.name(), instructions, allocations });
    }

    pub(crate) fn figure(&mut self, what: &str, unit: &'static str, value: f64, at_most: Option<f64>) {
        self.figures.push(Figure { what: what.to_owned(), unit, value, at_most });
    }

    pub(crate) fn print(&self) {
        println!("{}\n", self.machine);
        if !self.calls.is_empty() {
            println!("{}\n", self.table_of_calls());
            println!("{}\n", self.table_of_goals());
        }
        if !self.counted.is_empty() {
            println!("{}\n", self.table_of_instructions());
        }
        if !self.figures.is_empty() {
            println!("{}", self.table_of_figures());
        }
    }

    pub(crate) fn json(&self) -> String {
        let calls: Vec<_> = self
            .calls
            .iter()
            .flat_map(|((client, method, callers), cells)| {
                cells.iter().map(move |(contender, cell)| {
                    let contender = contender.name();
                    serde_json::json!({ "client": client, "method": method, "callers": callers, "contender": contender, "cell": cell })
                })
            })
            .collect();
        let json = serde_json::json!({
            "machine": self.machine,
            "calls": calls,
            "goals": self.goals(),
            "instructions": self.counted,
            "figures": self.figures,
        });
        format!("{json:#}\n")
    }

    fn table_of_calls(&self) -> Table {
        let mut table =
            table(["client", "method", "callers", "contender", "calls/s", "p50 µs", "p99 µs", "CPU µs/call"]);
        for ((client, method, callers), cells) in &self.calls {
            for (contender, cell) in cells {
                table.add_row([
                    (*client).to_owned(),
                    (*method).to_owned(),
                    callers.to_string(),
                    contender.name().to_owned(),
                    format!("{:.0}", cell.calls_per_second),
                    format!("{:.1}", cell.p50_us),
                    format!("{:.1}", cell.p99_us),
                    format!("{:.2}", cell.cpu_us_per_call),
                ]);
            }
        }
        table
    }

    fn table_of_goals(&self) -> Table {
        let mut table = table(["claviger is to have", "client", "method", "callers", "goal", "has", ""]);
        for goal in self.goals() {
            table.add_row([
                goal.what.to_owned(),
                goal.client.to_owned(),
                goal.method.to_owned(),
                goal.callers.to_string(),
                format!("{:.2}", goal.limit),
                format!("{:.2}", goal.value),
                verdict(goal.met).to_owned(),
            ]);
        }
        table
    }

    fn table_of_instructions(&self) -> Table {
        let mut table = table(["method", "contender", "instructions/call", "allocations/call"]);
        for PerCall { method, contender, instructions, allocations } in &self.counted {
            table.add_row([*method, *contender, &instructions.to_string(), &allocations.to_string()]);
        }
        table
    }

    fn table_of_figures(&self) -> Table {
        let mut table = table(["figure", "value", "at most", ""]);
        for Figure { what, unit, value, at_most } in &self.figures {
            let limit = at_most.map(|limit| format!("{limit} {unit}")).unwrap_or_default();
            let met = at_most.map_or("", |limit| verdict(*value <= limit));
            table.add_row([what.clone(), format!("{value:.2} {unit}"), limit, met.to_owned()]);
        }
        table
    }

    /// Returns the goals with grpc-go, with which kube-apiserver calls, and with tonic.
    fn goals(&self) -> Vec<Goal> {
        self.calls.iter().flat_map(|(place, cells)| goals(*place, cells)).collect()
    }
}

fn goals(place: Place, cells: &BTreeMap<Contender, Cell>) -> Vec<Goal> {
    let (client, method, callers) = place;
    let [Some(ours), Some(empty), Some(go)] = Contender::ALL.map(|contender| cells.get(&contender)) else {
        return Vec::new();
    };
    let at_most =
        |what, value: f64, limit: f64| Goal { what, client, method, callers, value, limit, met: value <= limit };
    let at_least =
        |what, value: f64, limit: f64| Goal { what, client, method, callers, value, limit, met: value >= limit };
    // Status wraps and unwraps a value, which the empty service does not.
    let over_empty = if method == "Status" { 1.35 } else { 1.15 };
    let mut goals =
        vec![at_most("CPU over that of the empty service", ours.cpu_us_per_call / empty.cpu_us_per_call, over_empty)];
    if method != "Status" {
        goals.push(at_least(
            "calls/s over those of the empty service",
            ours.calls_per_second / empty.calls_per_second,
            0.95,
        ));
    }
    goals.push(at_most("CPU over that of the Go plugin", ours.cpu_us_per_call / go.cpu_us_per_call, 0.4));
    if callers == 1 {
        goals.push(at_most("p50 over that of the Go plugin", ours.p50_us / go.p50_us, 0.8));
        goals.push(at_most("p99 over that of the Go plugin", ours.p99_us / go.p99_us, 0.75));
    }
    if callers == 64 {
        goals.push(at_least("calls/s over those of the Go plugin", ours.calls_per_second / go.calls_per_second, 1.3));
    }
    goals
}

fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(head);
    table
}

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
