//! A whole control plane on this machine, to try things out: a real etcd, a real kube-apiserver, claviger between them.
//!
//! It explains each step, leaves everything running until Ctrl-C, and then removes everything that it made.

#[path = "../../tests/harness/mod.rs"]
mod harness;
#[path = "../../tests/rotate/hurried_clock.rs"]
mod hurried_clock;
mod second_act;
mod side_by_side;

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use age::secrecy::ExposeSecret;
use anstream::{eprintln, println};

use harness::{
    api_server::ApiServer,
    binaries::{EtcdVersion, Program, Version},
    claviger,
    error::{Context, Error, Result},
    etcd::Etcd,
    plugin::Plugin,
    processes::Run,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

const SECRET: &str = "/registry/secrets/default/user";
const YAML: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: from-yaml
type: Opaque
stringData:
  token: s3cr3t-from-yaml
";

const HELP: &str = "\
Starts a real etcd, a real kube-apiserver and claviger on this machine, shows what they do, and runs until Ctrl-C.
Then everything ends, and its directory is removed. It takes no options. CONTRIBUTING.md says what it needs.

Usage: cargo run --example playground";

#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(argument) if argument == second_act::HURRIED => return second_act::rotate(),
        Some(argument) => return harness::explain(HELP, &argument),
        None => {}
    }
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{error}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> Result<()> {
    // Signals are caught from the start, so that Ctrl-C ends everything in order at any time.
    let mut signals = Signals::new([SIGINT, SIGTERM]).during(|| "catching Ctrl-C".to_owned())?;
    let (send, receive) = std::sync::mpsc::channel();
    let interrupted = send.clone();
    std::thread::spawn(move || {
        signals.forever().next();
        let _ = interrupted.send(Ok(None));
    });
    std::thread::spawn(move || {
        let _ = send.send(tell().map(Some));
    });
    // The story ends and its world is kept until Ctrl-C, or Ctrl-C came first and the exit ends everything.
    let world = receive.recv().during(|| "telling the story".to_owned())??;
    if let Some(world) = &world {
        world.invite()?;
        receive.recv().during(|| "waiting for Ctrl-C".to_owned())??;
    }
    println!("\nEnding everything; nothing is left behind.");
    Ok(())
}

/// The processes and files that stay until Ctrl-C.
struct World {
    api: ApiServer,
    plugin: Plugin,
    etcd: Etcd,
    claviger: PathBuf,
    socket: String,
    config: PathBuf,
    /// An age identity, and its recipient.
    identity: (PathBuf, String),
    run: Run,
}

/// Builds claviger, and finds or builds the programs of the control plane. Returns the path of claviger.
fn build() -> Result<PathBuf> {
    step("Building claviger, and finding or building etcd, kube-apiserver and kubectl (minutes, the first time)");
    let claviger = claviger::build()?;
    for program in [
        Program::Etcd(EtcdVersion::V3_7),
        Program::Etcdctl(EtcdVersion::V3_7),
        Program::KubeApiserver(Version::V1_37),
        Program::Kubectl(Version::V1_37),
    ] {
        program.path()?;
    }
    Ok(claviger)
}

fn tell() -> Result<World> {
    println!("claviger's playground: a real etcd, a real kube-apiserver, and claviger between them, on this machine.");
    let claviger = build()?;
    let run = Run::new()?;
    step("Starting etcd, and an API server as Kubernetes has it by default: without encryption");
    let etcd = Etcd::start(&run, 1)?;
    let mut api = ApiServer::on(&run, &etcd).start()?;
    let file = run.path("username.txt");
    fs::write(&file, "admin-s3cr3t\n").during(|| format!("writing {}", file.display()))?;
    kubectl(&api, &["create", "secret", "generic", "user", &format!("--from-file={}", file.display())])?;
    let before = stored(&etcd)?;

    step("Making keys, starting the plugin, and starting the API server again with the plugin in front of etcd");
    let mut plugin = Plugin::init(&run, &claviger, "claviger")?;
    println!("  $ claviger init --state-dir {} --without-recovery", plugin.state_dir().display());
    let socket = run.socket("kms.sock")?.display().to_string();
    println!("  $ claviger serve --state-dir {} --socket {socket}", plugin.state_dir().display());
    plugin.serve(&socket)?;
    let config = plugin.encryption_config(&["secrets"], true)?;
    let identity = identity(&run)?;
    println!("  $ claviger generate encryption-configuration --socket {socket} > {}", config.display());
    println!("  $ kube-apiserver … --encryption-provider-config={}", config.display());
    api.kill()?;
    let mut api = ApiServer::on(&run, &etcd).encryption_config(config.clone()).start()?;

    step("Re-encrypting the Secret that was there in plaintext, and making more, the ways users do");
    let reencrypt = reencrypt(&etcd, &config, &api);
    println!("  $ claviger {}", reencrypt.iter().map(quoted).collect::<Vec<_>>().join(" "));
    print_indented(&plugin.claviger(&reencrypt.iter().map(String::as_str).collect::<Vec<_>>())?);
    kubectl(&api, &["create", "secret", "generic", "literal", "--from-literal=password=s3cr3t-literal"])?;
    println!("  $ kubectl apply -f - <<EOF");
    print_indented(&format!("{YAML}EOF"));
    print_indented(&api.kubectl_stdin(&["apply", "-f", "-"], YAML)?);

    step("The same Secret in etcd, before and after (· stands for a byte that is no character)");
    let after = stored(&etcd)?;
    println!("{}", side_by_side::picture("without claviger", &before, "with claviger", &after));
    let readable = |value: &[u8]| yes(value.windows(12).any(|window| window == b"admin-s3cr3t"));
    println!("  \"admin-s3cr3t\" can be read there: {} before, {} after.", readable(&before), readable(&after));

    step("And the API server still reads it");
    kubectl(&api, &["get", "secret", "user", "-o", r"go-template={{index .data `username.txt` | base64decode}}"])?;

    step("What claviger says of itself");
    println!("  $ claviger status --backups none    # the playground keeps no backup");
    print_indented(&plugin.claviger(&["status", "--backups", "none", "--socket", &socket])?);
    second_act::play(&plugin, &mut api, &socket)?;
    Ok(World { api, plugin, etcd, claviger, socket, config, identity, run })
}

impl World {
    /// Shows the commands to try while the playground runs.
    fn invite(&self) -> Result<()> {
        let kubectl = Program::Kubectl(Version::V1_37).path()?;
        let etcdctl = Program::Etcdctl(EtcdVersion::V3_7).path()?;
        step("It is yours until Ctrl-C. In another terminal:");
        println!("  export KUBECONFIG={}", quoted(&self.api.kubeconfig().display()));
        println!("  alias kubectl={} claviger={}", quoted(&kubectl.display()), quoted(&self.claviger.display()));
        println!("  alias etcdctl='{} --endpoints={}'", quoted(&etcdctl.display()), self.etcd.endpoints());
        println!("\nMake a Secret, and look at it in etcd:");
        println!("  kubectl create secret generic mine --from-literal=password=hunter2");
        println!("  etcdctl get /registry/secrets/default/mine | od -c | head       # unreadable");
        println!("  kubectl get secret mine -o jsonpath='{{.data.password}}' | base64 -d");
        self.suggest();
        println!("\nCtrl-C ends all of it and removes its directory.");
        Ok(())
    }

    fn suggest(&self) {
        let (state_dir, socket) = (quoted(&self.plugin.state_dir().display()), quoted(&self.socket));
        let keyring = quoted(&self.plugin.state_dir().join("keyring").display());
        let backup = quoted(&self.run.path("backup.age").display());
        let (identity, recipient) = &self.identity;
        println!("\nAsk etcd itself what is encrypted, and the plugin how it is:");
        println!(
            "  claviger scan --etcd-servers {} --encryption-config {} --keyring {keyring}",
            self.etcd.endpoints(),
            quoted(&self.config.display())
        );
        println!("  claviger status --state-dir {state_dir} --socket {socket} --backups none");
        println!("\nChange the key step by step; `scan` then shows that nothing is under the old one:");
        println!("  claviger key add --state-dir {state_dir} --socket {socket}");
        println!(
            "  claviger key promote k3 --without-backup --wait --state-dir {state_dir} --socket {socket}    # up to three minutes"
        );
        let reencrypt = reencrypt(&self.etcd, &self.config, &self.api);
        let reencrypt: Vec<String> = reencrypt.iter().map(quoted).collect();
        println!("  claviger {} --state-dir {state_dir}", reencrypt.join(" "));
        println!("\nMake a backup, which belongs on another disk, and prove that it opens:");
        println!("  claviger backup create {backup} --recipient {recipient} --state-dir {state_dir}");
        println!(
            "  claviger backup check {backup} --recovery-identity {} --state-dir {state_dir}",
            quoted(&identity.display())
        );
    }
}

/// Returns the arguments of `claviger reencrypt`, without the state directory.
fn reencrypt(etcd: &Etcd, config: &Path, api: &ApiServer) -> Vec<String> {
    let (config, kubeconfig) = (config.display().to_string(), api.kubeconfig().display().to_string());
    let endpoints = etcd.endpoints();
    let flags =
        ["reencrypt", "--etcd-servers", &endpoints, "--encryption-config", &config, "--kubeconfig", &kubeconfig];
    flags.map(ToOwned::to_owned).to_vec()
}

/// Returns an identity that opens backups, in the form that `age-keygen` writes. Outside of a playground, keep an
/// identity offline.
fn identity(run: &Run) -> Result<(PathBuf, String)> {
    let identity = age::x25519::Identity::generate();
    let file = run.path("identity.txt");
    let text = identity.to_string();
    fs::write(&file, format!("{}\n", text.expose_secret())).during(|| format!("writing {}", file.display()))?;
    Ok((file, identity.to_public().to_string()))
}

/// Quotes a word for a shell, unless the shell takes it as it is.
fn quoted(word: &impl Display) -> String {
    let word = word.to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-@:,+=%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn stored(etcd: &Etcd) -> Result<Vec<u8>> {
    etcd.get(SECRET)?.ok_or_else(|| Error::new(format!("etcd has no {SECRET}")))
}

/// Runs kubectl, and shows the command with its output.
fn kubectl(api: &ApiServer, arguments: &[&str]) -> Result<()> {
    println!("  $ kubectl {}", arguments.iter().map(quoted).collect::<Vec<_>>().join(" "));
    print_indented(&api.kubectl(arguments)?);
    Ok(())
}

fn print_indented(text: &str) {
    for line in text.trim_end().lines() {
        println!("    {line}");
    }
}

fn step(text: &str) {
    println!("\n\x1b[1m{text}\x1b[0m");
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
