//! Runs `docs/drill.md` on this machine: a control plane is lost, and comes back from a snapshot, a backup and two
//! shares.
//!
//! It prints the paragraphs of the page, and each command with its output. It always removes everything that it made.

#[path = "../../tests/harness/mod.rs"]
mod harness;
mod page;

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode};

use anstream::{eprintln, println};
use serde_json::Value;

use harness::{
    api_server::ApiServer,
    claviger,
    error::{Context, Error, Result},
    etcd::Etcd,
    machine::Machine,
    processes::Run,
};

use self::page::{Chapter, Part, chapters};

const PAGE: &str = include_str!("../../docs/drill.md");

/// The paths on the page that exist on one machine only.
const PATHS: [&str; 3] = ["/var/lib/claviger", "/var/lib/etcd", "/etc/kubernetes/claviger"];

/// The disks on the page, which outlive machines.
const DISKS: [&str; 5] = ["usb", "safe", "alice", "bob", "carol"];

/// The disks that are lost with the machines.
const LOST: [&str; 2] = ["safe", "carol"];

const HELP: &str = "\
Runs the commands of docs/drill.md on this machine: a control plane is lost, and comes back from a snapshot, a backup and
two shares. Then everything ends, and its directory is removed. It takes no options.

Usage: cargo run --example drill";

fn main() -> ExitCode {
    if let Some(argument) = std::env::args_os().nth(1) {
        return harness::explain(HELP, &argument);
    }
    match drill() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error}");
            ExitCode::FAILURE
        }
    }
}

fn drill() -> Result<()> {
    println!("Building claviger, and finding or building etcd, kube-apiserver and kubectl (minutes, the first time)");
    let mut drill = Drill::new(claviger::build()?)?;
    for chapter in chapters(PAGE) {
        drill.tell(&chapter)?;
    }
    let count = drill.compare()?;
    println!("\n\x1b[1mEvery one of {count} Secrets is what it was before the loss. Nothing is left behind.\x1b[0m");
    Ok(())
}

/// The contents of all Secrets, by namespace and name.
type Secrets = BTreeMap<String, Value>;

struct Drill {
    run: Run,
    claviger: PathBuf,
    media: PathBuf,
    /// The machine of the chapter, with its name in the heading.
    machine: Option<(&'static str, Machine)>,
    /// The control plane of that machine, if it runs.
    plane: Option<(Etcd, ApiServer)>,
    /// The Secrets before the machines were lost.
    before: Secrets,
}

impl Drill {
    fn new(claviger: PathBuf) -> Result<Self> {
        let run = Run::new()?;
        let media = run.path("media");
        for disk in DISKS {
            fs::create_dir_all(media.join(disk)).during(|| format!("making the disk {disk}"))?;
        }
        Ok(Self { run, claviger, media, machine: None, plane: None, before: Secrets::new() })
    }

    /// Goes through a chapter, on the machine that its heading names.
    fn tell(&mut self, chapter: &Chapter) -> Result<()> {
        println!("\n\x1b[1m{}\x1b[0m", chapter.heading);
        let name = chapter.heading.split(':').next().unwrap_or_default();
        self.go_to(name)?;
        for part in &chapter.parts {
            match part {
                Part::Text(text) => println!("\n{text}\n"),
                Part::Commands(commands) => commands.iter().try_for_each(|command| self.run(command))?,
            }
        }
        Ok(())
    }

    /// Makes the machine `name`, unless it is the present one. The machine before it is lost with its files.
    fn go_to(&mut self, name: &'static str) -> Result<()> {
        if self.machine.as_ref().is_some_and(|(present, _)| *present == name) {
            return Ok(());
        }
        self.lose()?;
        let directory = name.rsplit(' ').next().unwrap_or(name);
        let mut machine = Machine::new(&self.run, directory, &self.claviger, &PATHS)?;
        machine.mount("/media", &self.media);
        self.machine = Some((name, machine));
        Ok(())
    }

    /// Loses the machine, its control plane, and the disks that are not in another place.
    fn lose(&mut self) -> Result<()> {
        if let Some((_, api)) = &self.plane {
            self.before = secrets(api)?;
        }
        self.plane = None;
        let Some((_, machine)) = self.machine.take() else { return Ok(()) };
        let lost: Vec<PathBuf> = LOST.iter().map(|disk| self.media.join(disk)).collect();
        let root = machine.root().to_owned();
        drop(machine);
        let lost = [root].into_iter().chain(lost).filter(|path| path.exists());
        lost.into_iter().try_for_each(|path| fs::remove_dir_all(&path).during(|| format!("losing {}", path.display())))
    }

    /// Runs a command of the page, and shows its output.
    fn run(&mut self, command: &str) -> Result<()> {
        let Some((_, machine)) = &self.machine else { return Err(Error::new("no heading names a machine")) };
        if command.starts_with("kubectl") && self.plane.is_none() {
            self.plane = Some(control_plane(machine)?);
            println!("  (etcd and kube-apiserver were started)");
        }
        println!("  $ {command}");
        let kubeconfig = self.plane.as_ref().map(|(_, api)| api.kubeconfig());
        let printed = machine.bash(command, kubeconfig.as_deref())?;
        printed.trim_end().lines().for_each(|line| println!("    {line}"));
        if let Some((_, api)) = self.plane.as_mut().filter(|_| command.contains("key promote")) {
            machine.bash("systemctl restart claviger", None)?;
            api.restart()?;
            println!("  (kube-apiserver was restarted)");
        }
        Ok(())
    }

    /// Compares the Secrets with those before the loss.
    fn compare(&self) -> Result<usize> {
        let Some((_, api)) = &self.plane else { return Err(Error::new("nothing was restored")) };
        let now = secrets(api)?;
        if self.before.len() < 3 || now != self.before {
            return Err(Error::new(format!("there were {:#?}, and there are {now:#?}", self.before)));
        }
        Ok(now.len())
    }
}

/// Starts etcd, with the data that were restored on this machine if there are any, and kube-apiserver with the plugin.
fn control_plane(machine: &Machine) -> Result<(Etcd, ApiServer)> {
    let data = machine.root().join("var/lib/etcd");
    let etcd = if data.exists() { Etcd::start_on(machine.run(), &data)? } else { Etcd::start(machine.run(), 1)? };
    let config = machine.root().join("etc/kubernetes/claviger/encryption-configuration.yaml");
    let settings = format!("etcd-servers = [\"{}\"]\nencryption-config = \"{}\"\n", etcd.endpoints(), config.display());
    machine.configure(&settings)?;
    machine.add_etcdctl(&etcd)?;
    let api = ApiServer::on(machine.run(), &etcd).encryption_config(config).start()?;
    Ok((etcd, api))
}

fn secrets(api: &ApiServer) -> Result<Secrets> {
    let list = api.kubectl(&["get", "secrets", "--all-namespaces", "-o", "json"])?;
    let list: Value = serde_json::from_str(&list).during(|| "reading all Secrets".to_owned())?;
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let essence = |item: &Value| {
        let metadata = &item["metadata"];
        let name = format!("{}/{}", metadata["namespace"], metadata["name"]);
        (name, serde_json::json!([metadata["uid"], item["type"], item["data"]]))
    };
    Ok(items.iter().map(essence).collect())
}
