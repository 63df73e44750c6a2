//! Reads kube-apiserver's flags from a systemd unit, or from what `systemctl cat` prints of it.
//!
//! Source: systemd.syntax(7), systemd.service(5) and systemd.exec(5).

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    error::{FlagDoubt, FlagsError, NoApiServer},
    flags::{CommandLine, ReadFlags},
    program::api_server,
    variables::Variables,
    words::{Dialect, Words, commands},
};

/// A function that reads a text file.
pub type ReadText<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// The settings of a unit that its commands depend on.
#[derive(Default)]
struct Unit {
    commands: Vec<String>,
    environment: Vec<String>,
    files: Vec<String>,
    directory: Option<PathBuf>,
}

/// Whether `text` has a section `[Service]`.
pub(super) fn is_unit(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == "[Service]")
}

/// Reads a unit. `read_text` reads its environment files.
///
/// # Errors
/// When no command is kube-apiserver's, or its flags cannot be used.
pub(super) fn read(text: &str, read_text: ReadText<'_>) -> Result<ReadFlags, FlagsError> {
    let unit = Unit::parse(text);
    let (variables, mut doubts) = unit.variables(read_text);
    let lookup = |name: &str| variables.value(name);
    let command = unit.commands.iter().find_map(|line| {
        let line = line.trim_start_matches(['-', '@', ':', '+', '!', '|']);
        let words = commands(line, Dialect::Systemd, &lookup).into_iter().next()?;
        api_server(unescape(words), &lookup)
    });
    let command = command.ok_or(FlagsError::NoApiServer(NoApiServer::Unit))?;
    let directory = unit.directory.as_deref().unwrap_or(Path::new("/"));
    let locate = |path: &str| Some(directory.join(path));
    let ReadFlags { flags, doubts: further } =
        CommandLine { words: &command.words, unknown: command.unknown, locate: &locate }.read()?;
    doubts.extend(further);
    Ok(ReadFlags { flags, doubts })
}

/// Replaces `%%` by a percent sign.
fn unescape(mut command: Words) -> Words {
    command.words.iter_mut().for_each(|word| *word = word.replace("%%", "%"));
    command
}

impl Unit {
    fn parse(text: &str) -> Self {
        let mut unit = Self::default();
        for (key, value) in assignments(text) {
            match key {
                "ExecStart" => add(&mut unit.commands, value),
                "Environment" => add(&mut unit.environment, value),
                "EnvironmentFile" => add(&mut unit.files, value),
                "WorkingDirectory" => unit.directory = Some(value.into()).filter(|path: &PathBuf| path.is_absolute()),
                _ => {}
            }
        }
        unit
    }

    /// Returns the variables of the commands. A variable in an environment file takes precedence over one in the unit.
    fn variables(&self, read_text: ReadText<'_>) -> (Variables, Vec<FlagDoubt>) {
        let mut variables = Variables::default();
        let words = self.environment.iter().flat_map(|line| commands(line, Dialect::Systemd, &|_| None));
        for word in words.flat_map(|command| command.words) {
            if let Some((name, value)) = word.split_once('=') {
                variables.set(name.to_owned(), Some(value.to_owned()));
            }
        }
        let mut doubts = Vec::new();
        for file in &self.files {
            let (path, is_optional) = file.strip_prefix('-').map_or((file.as_str(), false), |path| (path, true));
            if path.contains(['*', '?', '[', '%']) {
                let reason = "it is a pattern, which only systemd expands".to_owned();
                doubts.push(FlagDoubt::EnvironmentFile { path: path.into(), reason });
                continue;
            }
            match read_text(Path::new(path)) {
                Ok(text) => environment(&text).for_each(|(name, value)| variables.set(name, Some(value))),
                // systemd, which runs as root, ignores only a file that is missing.
                Err(error) if is_optional && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => doubts.push(FlagDoubt::EnvironmentFile { path: path.into(), reason: error.to_string() }),
            }
        }
        (variables, doubts)
    }
}

/// Adds a value to a list. As in systemd, an empty value empties the list.
fn add(list: &mut Vec<String>, value: String) {
    if value.is_empty() { list.clear() } else { list.push(value) }
}

/// Returns the variables of an environment file.
fn environment(text: &str) -> impl Iterator<Item = (String, String)> {
    assignments(text).map(|(name, value)| {
        let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        (name.to_owned(), quoted.unwrap_or(&value).to_owned())
    })
}

/// Returns the lines `key=value`, without comments. A line that ends with a backslash continues on the next line that
/// is no comment.
fn assignments(text: &str) -> impl Iterator<Item = (&str, String)> {
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', ';']));
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?;
            let Some((key, first)) = line.split_once('=') else { continue };
            let mut value = first.to_owned();
            while value.ends_with('\\') {
                value.pop();
                value.push(' ');
                value.push_str(lines.next().unwrap_or_default());
            }
            return Some((key.trim(), value.trim().to_owned()));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "
[Unit]
Description=Kubernetes API Server
[Service]
Environment=ETCD=http://ignored PREFIX=/k8s
Environment='ARGS=--etcd-cafile=ca.crt --v=2'
EnvironmentFile=-/etc/optional
EnvironmentFile=/etc/kubernetes/apiserver
ExecStartPre=/usr/bin/kube-apiserver --etcd-servers=http://pre
ExecStart=/bin/ignored
ExecStart=
ExecStart=-/usr/local/bin/kube-apiserver \\
  --etcd-servers=${ETCD} \\
# a comment inside
  --etcd-prefix=${PREFIX} $ARGS --x=50%% \\
  '--encryption-provider-config=/e/enc.yaml'
WorkingDirectory=/srv
[Install]
";

    fn files(path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/etc/kubernetes/apiserver") => Ok("# etcd\nETCD=\"http://a,http://b\"\n".to_owned()),
            Some("/locked") => Err(io::Error::new(io::ErrorKind::PermissionDenied, "Permission denied")),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "No such file")),
        }
    }

    #[test]
    fn commands_continue_and_variables_come_from_files_too() {
        assert!(is_unit(UNIT) && !is_unit("kind: Pod"));
        let ReadFlags { flags, doubts } = read(UNIT, &files).unwrap();
        assert_eq!(flags.servers.urls, ["http://a", "http://b"]);
        assert_eq!((flags.servers.cafile, flags.prefix.as_deref()), (Some("/srv/ca.crt".into()), Some("/k8s")));
        assert_eq!((flags.encryption_config, doubts), (Some("/e/enc.yaml".into()), vec![]));
    }

    #[test]
    fn a_script_of_a_unit_is_read() {
        let unit = "[Service]\nExecStart=/bin/sh -c 'exec kube-apiserver --etcd-servers=http://a >/log'\n";
        assert_eq!(read(unit, &files).unwrap().flags.servers.urls, ["http://a"]);
    }

    #[test]
    fn a_missing_file_and_an_unknown_variable_are_doubts() {
        let unit = "[Service]\nEnvironmentFile=/gone\nExecStart=/bin/kube-apiserver $ALL --etcd-servers=http://a\n";
        let ReadFlags { doubts, .. } = read(unit, &files).unwrap();
        let texts: Vec<String> = doubts.iter().map(ToString::to_string).collect();
        let hidden = "the value of $ALL is not known, and it may contain further flags";
        assert_eq!(texts, ["/gone of the unit cannot be read: No such file", hidden]);
        let unit = "[Service]\nEnvironmentFile=-/locked\nExecStart=/bin/kube-apiserver --etcd-servers=http://a\n";
        let ReadFlags { doubts, .. } = read(unit, &files).unwrap();
        let texts: Vec<String> = doubts.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["/locked of the unit cannot be read: Permission denied"], "systemd reads it");
        let unit = "[Service]\nEnvironmentFile=-/etc/apiserver.d/*.env\nExecStart=/bin/kube-apiserver --etcd-servers=http://a\n";
        let ReadFlags { doubts, .. } = read(unit, &files).unwrap();
        let texts: Vec<String> = doubts.iter().map(ToString::to_string).collect();
        let pattern = "/etc/apiserver.d/*.env of the unit cannot be read: it is a pattern, which only systemd expands";
        assert_eq!(texts, [pattern]);
        let other = read("[Service]\nExecStart=/usr/bin/k3s server\n", &files).unwrap_err();
        assert_eq!(other.to_string(), "no ExecStart= of this unit runs kube-apiserver");
    }
}
