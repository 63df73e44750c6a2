//! The flags of this command that say which keyring, plugin or etcd it is about. The commands that it suggests get the
//! same flags, so that a suggestion works when it is pasted.

use std::{borrow::Cow, ffi::OsStr, fmt::Write};

use clap::{ArgMatches, Command, parser::ValueSource};

/// The flags that a suggested command repeats, if it has them.
const REPEATED: [&str; 13] = [
    "config",
    "state-dir",
    "socket",
    "passphrase-file",
    "recovery-identity",
    "provider-name",
    "etcd-servers",
    "etcd-cafile",
    "etcd-certfile",
    "etcd-keyfile",
    "etcd-prefix",
    "apiserver-manifest",
    "apiserver-process",
];

/// Ends a command in a sentence.
const ENDS: [char; 3] = ['`', ';', '\n'];

/// The flags that this command was given, and the commands that there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    flags: Vec<Flag>,
    claviger: Option<fn() -> Command>,
}

#[derive(Debug, Clone)]
struct Flag {
    name: &'static str,
    /// As a shell takes it.
    value: String,
}

impl Given {
    /// Collects the flags that `matches` has from the command line of `claviger`.
    pub(super) fn new(claviger: fn() -> Command, matches: &ArgMatches) -> Self {
        let mut matches = matches;
        while let Some((_, below)) = matches.subcommand() {
            matches = below;
        }
        Self { flags: flags(matches), claviger: Some(claviger) }
    }

    /// Returns `text` with the flags in each command of claviger that it mentions.
    pub(super) fn repeat_in<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(claviger) = self.claviger.filter(|_| !self.flags.is_empty()) else { return text.into() };
        let mut claviger = claviger();
        // Gives every command the flags of all commands.
        claviger.build();
        let (mut whole, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(start) = rest.find("claviger ") {
            let (before, from) = rest.split_at(start);
            let mention = &from[..from.find(ENDS).unwrap_or(from.len())];
            let verbs = verbs(&claviger, mention);
            whole.push_str(before);
            whole.push_str(&mention[..verbs.end]);
            for flag in self.flags.iter().filter(|flag| verbs.takes(flag, mention)) {
                // Writing to a String cannot fail.
                let _ = write!(whole, " --{} {}", flag.name, flag.value);
            }
            rest = &from[verbs.end..];
        }
        whole.push_str(rest);
        whole.into()
    }
}

/// The words of a mentioned command that name it.
struct Verbs<'c> {
    /// The command that they name, if it is one that can be run.
    command: Option<&'c Command>,
    /// Where they end in the text.
    end: usize,
}

impl Verbs<'_> {
    /// Whether the command takes this flag, and was not mentioned with it.
    fn takes(&self, flag: &Flag, mention: &str) -> bool {
        let is_it = |arg: &clap::Arg| arg.get_long() == Some(flag.name);
        self.command.is_some_and(|command| command.get_arguments().any(is_it))
            && !mention.contains(&format!("--{}", flag.name))
    }
}

fn verbs<'c>(claviger: &'c Command, mention: &str) -> Verbs<'c> {
    let (mut command, mut end) = (claviger, "claviger".len());
    while let Some(rest) = mention[end..].strip_prefix(' ') {
        let word = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap_or_default();
        let Some(verb) = command.find_subcommand(word) else { break };
        (command, end) = (verb, end + 1 + word.len());
    }
    Verbs { command: (!command.has_subcommands()).then_some(command), end }
}

fn flags(matches: &ArgMatches) -> Vec<Flag> {
    let mut flags = Vec::new();
    for name in REPEATED {
        let id = name.replace('-', "_");
        let is_given =
            matches.ids().any(|it| it == id.as_str()) && matches.value_source(&id) == Some(ValueSource::CommandLine);
        let values = is_given.then(|| matches.get_raw(&id)).into_iter().flatten().flatten();
        let values = values.map(|value| value.to_string_lossy()).filter(|value| can_be_read_again(value));
        flags.extend(values.map(|value| Flag { name, value: quoted(&*value) }));
    }
    flags
}

/// Whether a later command finds the same at this path: standard input and descriptors are read only once.
fn can_be_read_again(value: &str) -> bool {
    value != "-" && !value.starts_with("/dev/")
}

/// Quotes a word for a shell, unless the shell takes it as it is.
pub(super) fn quoted(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-@:,+=%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    fn flag(id: &'static str, name: &'static str) -> Arg {
        Arg::new(id).long(name)
    }

    fn claviger() -> Command {
        let keyring = |name: &'static str| Command::new(name).arg(flag("state_dir", "state-dir"));
        let promote =
            keyring("promote").arg(flag("socket", "socket")).arg(Arg::new("KEY")).arg(flag("wait", "wait").num_args(0));
        let identities = flag("recovery_identity", "recovery-identity").action(ArgAction::Append);
        Command::new("claviger")
            .arg(flag("config", "config").global(true))
            .subcommand(Command::new("key").subcommands([keyring("list"), promote]).subcommand_required(true))
            .subcommand(Command::new("check").arg(Arg::new("FILE")).arg(flag("state_dir", "state-dir")).arg(identities))
            .subcommand(Command::new("status").arg(flag("state_dir", "state-dir")).arg(flag("socket", "socket")))
    }

    fn repeated(line: &str, text: &str) -> String {
        let matches = claviger().try_get_matches_from(line.split(' ')).unwrap();
        Given::new(claviger, &matches).repeat_in(text).into_owned()
    }

    #[test]
    fn a_suggested_command_gets_the_flags_that_it_takes() {
        let promote = "claviger key promote k2 --state-dir st --socket run/s --wait";
        for (text, expected) in [
            ("claviger status", "claviger status --state-dir st --socket run/s"),
            ("`claviger key list` shows it", "`claviger key list --state-dir st` shows it"),
            (
                "next: claviger key promote k3 --wait",
                "next: claviger key promote --state-dir st --socket run/s k3 --wait",
            ),
            (
                "claviger key list; then claviger status",
                "claviger key list --state-dir st; then claviger status --state-dir st --socket run/s",
            ),
            ("claviger status --state-dir other", "claviger status --socket run/s --state-dir other"),
            ("claviger key", "claviger key"),
            ("what claviger keeps", "what claviger keeps"),
            ("claviger", "claviger"),
        ] {
            assert_eq!(repeated(promote, text), expected);
        }
        assert_eq!(repeated("claviger key list", "claviger status"), "claviger status");
    }

    #[test]
    fn each_value_is_repeated_and_quoted_for_a_shell() {
        let line = "claviger check b.age --recovery-identity a;b --recovery-identity it's --recovery-identity - --config /etc/c.toml";
        let expected =
            r"claviger check --config /etc/c.toml --recovery-identity 'a;b' --recovery-identity 'it'\''s' FILE";
        assert_eq!(repeated(line, "claviger check FILE"), expected);
    }

    #[test]
    fn nothing_is_repeated_before_the_command_line_was_read() {
        assert_eq!(Given::default().repeat_in("claviger status"), "claviger status");
    }
}
