//! The second act: the key is replaced while the Secrets exist.

use std::{env, ffi::OsString, process::Command, process::ExitCode, time::Duration};

use anstream::println;

use super::{
    harness::{
        api_server::ApiServer,
        commands::output_of_success,
        error::{Context, Result},
        plugin::Plugin,
    },
    hurried_clock, kubectl, print_indented, quoted, step,
};

/// The argument with which the playground runs claviger with a clock on which minutes pass at once.
pub(super) const HURRIED: &str = "--hurried";

/// The time limit for the rotation. It waits for the API server, which asks the plugin for the key now and then.
const LIMIT: Duration = Duration::from_mins(5);

/// Runs the command line after [`HURRIED`].
pub(super) fn rotate() -> ExitCode {
    let mut words: Vec<OsString> = env::args_os().collect();
    words.remove(1);
    hurried_clock::run(&words)
}

/// Shows a rotation with the Secrets of the first act.
pub(super) fn play(plugin: &Plugin, api: &mut ApiServer, socket: &str) -> Result<()> {
    step("Second act: another key. The old one stays, and reads old snapshots of etcd");
    println!(
        "  In a real cluster this takes about five minutes, because an API server may write under the old key for so long."
    );
    println!("  The playground's clock is ahead: its minutes pass at once.");
    let (state_dir, kubeconfig) = (plugin.state_dir().display().to_string(), api.kubeconfig().display().to_string());
    let pid = api.process()?.id().to_string();
    let line = [
        ["rotate", "--without-backup", "--state-dir"].as_slice(),
        &[&state_dir, "--socket", socket, "--kubeconfig", &kubeconfig, "--apiserver-process", &pid],
    ]
    .concat();
    println!("  $ claviger {}", line.iter().map(quoted).collect::<Vec<_>>().join(" "));
    let mut command = Command::new(env::current_exe().during(|| "finding this program".to_owned())?);
    command.arg(HURRIED).args(&line);
    print_indented(&String::from_utf8_lossy(&output_of_success(command, &[], LIMIT)?));
    step("The API server reads the Secret as before");
    kubectl(api, &["get", "secret", "user", "-o", r"go-template={{index .data `username.txt` | base64decode}}"])
}
