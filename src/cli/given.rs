//! The flags of this command that say which keyring, plugin or etcd it is about. The commands that it suggests get the
//! same flags, so that a suggestion works when it is pasted. A flag that they need and that nobody gave gets a
//! placeholder.

use std::{borrow::Cow, ffi::OsStr, fmt::Write, path::Path};

use clap::{Arg, ArgMatches, Command, parser::ValueSource};

use crate::{
    config::{Config, DEFAULT_SOCKET, DEFAULT_STATE_DIR},
    keeper::{KEYRING, ROOT},
};

use super::{
    lacking::lacking,
    repeated::{ETCDCTL, FILES, LIVE, REPEATED, REPEATED_BY_ITSELF, REPEATED_BY_ROTATION, anywhere},
};

/// A command in hints that does not name an etcd yet.
const SAVE: &str = "etcdctl snapshot save FILE";

/// The characters that end a command in a sentence.
const ENDS: [char; 3] = ['`', ';', '\n'];

/// The flags that this command was given, and the grammar of all commands.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    flags: Vec<Flag>,
    /// The name of this command, such as `key promote`.
    this: String,
    /// Whether a plugin of the keyring may listen at a socket that this command has no flag for.
    is_socket_unknown: bool,
    claviger: Option<fn() -> Command>,
}

#[derive(Debug, Clone)]
struct Flag {
    name: &'static str,
    /// The value, quoted for a shell. `None` if the flag takes no value.
    value: Option<String>,
    /// The value as the operator gave it. Messages contain it in this form.
    given: Option<String>,
    /// Whether only the same command repeats this flag.
    by_itself: bool,
    /// The flag that implies this one. A command that takes that flag does not need this one.
    implied_by: Option<&'static str>,
}

impl Flag {
    /// Returns a flag with a value that every command repeats.
    fn of(name: &'static str, given: String) -> Self {
        let value = Some(quoted(anywhere(name, &given)));
        Self { name, value, given: Some(given), by_itself: false, implied_by: None }
    }
}

impl Given {
    /// Collects the flags in `matches`, which are from the command line of `claviger`.
    pub(super) fn new(claviger: fn() -> Command, matches: &ArgMatches) -> Self {
        let mut command = built(claviger);
        let (mut matches, mut names) = (matches, Vec::new());
        while let Some((name, below)) = matches.subcommand() {
            matches = below;
            names.push(name);
            if let Some(verb) = command.find_subcommand(name).cloned() {
                command = verb;
            }
        }
        let mut flags = flags(&REPEATED, false, &command, matches);
        flags.extend(self::flags(&REPEATED_BY_ITSELF, true, &command, matches));
        if names == ["rotate"] {
            flags.extend(self::flags(&REPEATED_BY_ROTATION, true, &command, matches));
        }
        let has = |name: &str| flags.iter().any(|flag| flag.name == name);
        let state_dir = if has("state-dir") { None } else { state_dir_of_keyring(&command, matches) };
        let default = Some(DEFAULT_STATE_DIR);
        let is_elsewhere = state_dir.is_some()
            || flags.iter().any(|flag| flag.name == "state-dir" && flag.value.as_deref() != default);
        let is_socket_unknown = is_elsewhere && !has("config") && argument(&command, "socket").is_none();
        flags.extend(state_dir);
        Self { flags, this: names.join(" "), is_socket_unknown, claviger: Some(claviger) }
    }

    /// Returns the flags by which another command reaches the keyring and the plugin of this configuration, from any
    /// directory. A default needs no flag.
    pub(super) fn reaching(&self, config: &Config) -> Self {
        let flag = |name: &'static str, value: String, default: &str| (value != default).then(|| Flag::of(name, value));
        let state_dir = flag("state-dir", config.state_dir.display().to_string(), DEFAULT_STATE_DIR);
        let socket = flag("socket", config.socket.to_string(), DEFAULT_SOCKET);
        let flags = state_dir.into_iter().chain(socket).collect();
        Self { flags, this: String::new(), is_socket_unknown: false, claviger: self.claviger }
    }

    /// Returns the same flags without `failed`, and without the files that `message` names, because these are the
    /// reason of the failure.
    pub(super) fn without(&self, message: &str, failed: Option<&str>) -> Self {
        let is_named =
            |flag: &Flag| FILES.contains(&flag.name) && flag.given.as_ref().is_some_and(|given| names(message, given));
        let flags = self.flags.iter().filter(|flag| Some(flag.name) != failed && !is_named(flag));
        Self { flags: flags.cloned().collect(), ..self.clone() }
    }

    /// Returns the same flags with a placeholder for the socket, because the plugin does not listen at the given one.
    pub(super) fn at_unknown_socket(&self) -> Self {
        let value = Some("SOCKET".to_owned());
        let socket = Flag { name: "socket", value, given: None, by_itself: false, implied_by: None };
        let others = self.flags.iter().filter(|flag| flag.name != socket.name).cloned();
        Self { flags: others.chain([socket.clone()]).collect(), is_socket_unknown: false, ..self.clone() }
    }

    /// Returns `text`, and adds the flags to each command of claviger and etcdctl in it.
    pub(super) fn repeat_in<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if text.contains(SAVE) {
            self.repeat_in_claviger(&self.repeat_in_etcdctl(text)).into_owned().into()
        } else {
            self.repeat_in_claviger(text)
        }
    }

    /// Returns `text`, and adds the address and the certificates of etcd to each etcdctl command that saves a snapshot.
    /// A snapshot is taken of one member.
    fn repeat_in_etcdctl(&self, text: &str) -> String {
        let given = |name: &str| self.flags.iter().find(|flag| flag.name == name).and_then(|flag| flag.value.clone());
        let url = "URL".to_owned();
        let flags = ETCDCTL.iter().filter_map(|(name, ctl)| match (*name, given(name)) {
            ("etcd-servers", value) => Some(format!(" --{ctl} {}", value.unwrap_or(url.clone()))),
            (_, value) => Some(format!(" --{ctl} {}", value?)),
        });
        text.replace(SAVE, &format!("etcdctl{} snapshot save FILE", flags.collect::<String>()))
    }

    fn repeat_in_claviger<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(claviger) = self.claviger.filter(|_| text.contains("claviger ")) else { return text.into() };
        let claviger = built(claviger);
        let (mut whole, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(start) = rest.find("claviger ") {
            let (before, from) = rest.split_at(start);
            let mention = &from[..from.find(ENDS).unwrap_or(from.len())];
            whole.push_str(before);
            rest = &from[self.repeat(&claviger, mention, &mut whole)..];
        }
        whole.push_str(rest);
        whole.into()
    }

    /// Returns the given command of claviger with the flags. Unlike [`Given::repeat_in`], a value in it is never
    /// mistaken for a command.
    #[cfg(any(feature = "scan", test))]
    pub(super) fn command(&self, command: &str) -> String {
        let Some(claviger) = self.claviger else { return command.to_owned() };
        let mut whole = String::with_capacity(command.len());
        let end = self.repeat(&built(claviger), command, &mut whole);
        whole + &command[end..]
    }

    /// Returns the given command, which asks the plugin, with the flags. If it is not known where the plugin of another
    /// state directory listens, the command contains a placeholder for the socket.
    #[cfg(any(feature = "scan", test))]
    pub(super) fn plugin_command(&self, command: &str) -> String {
        let socket = if self.is_socket_unknown { " --socket SOCKET" } else { "" };
        format!("{}{socket}", self.command(command))
    }

    /// Appends the name of the mentioned command, its repeated flags and its placeholders to `whole`. Returns where the
    /// name ends in `mention`.
    fn repeat(&self, claviger: &Command, mention: &str, whole: &mut String) -> usize {
        let verbs = verbs(claviger, mention);
        whole.push_str(&mention[..verbs.end]);
        let name = mention[..verbs.end].strip_prefix("claviger ").unwrap_or_default();
        let is_this = name == self.this;
        let is_repeated = |flag: &&Flag| (is_this || !flag.by_itself) && verbs.takes(flag, mention);
        let flags: Vec<&Flag> = self.flags.iter().filter(is_repeated).collect();
        for flag in &flags {
            // Writing to a String cannot fail.
            let _ = write!(whole, " --{}", flag.name);
            let _ = flag.value.iter().try_for_each(|value| write!(whole, " {value}"));
        }
        let has = |name: &str| has_flag(mention, name) || flags.iter().any(|flag| flag.name == name);
        // A mention that was completed before has this flag already.
        let config = self.flags.iter().find(|flag| flag.name == "config").and_then(|flag| flag.given.as_deref());
        let lacked = lacking(name, has, config.map(Path::new)).into_iter();
        for (name, value) in lacked.filter(|(name, _)| verbs.knows(name)) {
            let _ = write!(whole, " --{name} {value}");
        }
        verbs.end
    }
}

/// Returns the command line with the global flags added to every command.
fn built(claviger: fn() -> Command) -> Command {
    let mut claviger = claviger();
    claviger.build();
    claviger
}

/// The words of a mention that name a command.
struct Verbs<'c> {
    /// The command that the words name, if it can be run.
    command: Option<&'c Command>,
    /// The position in the text after these words.
    end: usize,
}

impl Verbs<'_> {
    /// Whether the command takes the flag, and `mention` contains neither this flag nor one that contradicts it.
    fn takes(&self, flag: &Flag, mention: &str) -> bool {
        let has = |name: &str| has_flag(mention, name);
        // Another kubeconfig has other contexts.
        let contradicts = has("snapshot") && LIVE.contains(&flag.name)
            || has("kubeconfig") && flag.name == "context"
            || has("backup-dir") && flag.name == "without-backup"
            || has("without-backup") && flag.name == "backup-dir";
        let is_implied = flag.implied_by.is_some_and(|name| self.knows(name));
        self.knows(flag.name) && !has(flag.name) && !contradicts && !is_implied
    }

    /// Whether the command has a flag of this name.
    fn knows(&self, name: &str) -> bool {
        self.command.is_some_and(|command| argument(command, name).is_some())
    }
}

/// Whether a command contains the flag `--name`.
fn has_flag(mention: &str, name: &str) -> bool {
    mention.split_whitespace().any(|word| word.strip_prefix("--") == Some(name))
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

/// Returns the flags among `names` that `command` was given.
fn flags(names: &[&'static str], by_itself: bool, command: &Command, matches: &ArgMatches) -> Vec<Flag> {
    let mut flags = Vec::new();
    for &name in names {
        let Some(arg) = argument(command, name) else { continue };
        let id = arg.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        if !arg.get_action().takes_values() {
            flags.push(Flag { name, value: None, given: None, by_itself, implied_by: None });
            continue;
        }
        let values = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy());
        let values = values.filter(|value| can_be_read_again(value));
        flags.extend(values.map(|value| Flag { by_itself, ..Flag::of(name, value.into_owned()) }));
    }
    flags
}

/// Returns the argument of `command` that is given as `--name`.
fn argument<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(name))
}

/// Returns the state directory that contains the file of `--keyring`, for the commands that do not take `--keyring`.
fn state_dir_of_keyring(command: &Command, matches: &ArgMatches) -> Option<Flag> {
    let id = argument(command, "keyring")?.get_id().as_str();
    let file = Path::new(matches.get_raw(id)?.next()?);
    let dir = file.parent().filter(|_| file.ends_with(KEYRING))?;
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    // A copy of the keyring has no root file beside it.
    let is_elsewhere = dir != Path::new(DEFAULT_STATE_DIR) && dir.join(ROOT).is_file();
    let flag = || Flag { implied_by: Some("keyring"), ..Flag::of("state-dir", dir.display().to_string()) };
    is_elsewhere.then(flag)
}

/// Whether a message names this file, and not another file whose path contains the same text.
fn names(message: &str, file: &str) -> bool {
    let is_of_path = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    message.match_indices(file).any(|(start, _)| {
        let (before, after) = (&message[..start], &message[start + file.len()..]);
        !file.is_empty() && !before.ends_with(is_of_path) && !after.starts_with(is_of_path)
    })
}

/// Whether the file can be read a second time. Standard input and descriptors can be read only once.
fn can_be_read_again(value: &str) -> bool {
    value != "-" && !value.starts_with("/dev/")
}

/// Quotes a word for a shell, if that is needed.
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
    use clap::ArgAction;

    use super::*;

    fn flag(id: &'static str, name: &'static str) -> Arg {
        Arg::new(id).long(name)
    }

    fn claviger() -> Command {
        let keyring = |name: &'static str| Command::new(name).arg(flag("state_dir", "state-dir"));
        let promote =
            keyring("promote").arg(flag("socket", "socket")).arg(Arg::new("KEY")).arg(flag("wait", "wait").num_args(0));
        let promote = promote.arg(flag("without_backup", "without-backup").action(ArgAction::SetTrue));
        let identities = flag("recovery_identity", "recovery-identity").action(ArgAction::Append);
        Command::new("claviger")
            .arg(flag("config", "config").global(true))
            .subcommand(Command::new("key").subcommands([keyring("list"), promote]).subcommand_required(true))
            .subcommand(Command::new("check").arg(Arg::new("FILE")).arg(flag("state_dir", "state-dir")).arg(identities))
            .subcommand(
                Command::new("scan")
                    .arg(flag("snapshot", "snapshot"))
                    .arg(flag("etcd_servers", "etcd-servers"))
                    .arg(flag("etcd_cafile", "etcd-cafile"))
                    .arg(flag("etcd_prefix", "etcd-prefix"))
                    .arg(flag("keyring", "keyring"))
                    .arg(flag("html", "html"))
                    .arg(flag("all", "all").action(ArgAction::SetTrue)),
            )
            .subcommand(Command::new("status").arg(flag("state_dir", "state-dir")).arg(flag("socket", "socket")))
            .subcommand(Command::new("rotate").arg(flag("html", "html")).arg(flag("to", "to")))
    }

    fn repeated(line: &str, text: &str) -> String {
        let matches = claviger().try_get_matches_from(line.split(' ')).unwrap();
        from_here(Given::new(claviger, &matches).repeat_in(text))
    }

    /// Returns a text in which the paths of the current directory are relative.
    fn from_here(text: impl AsRef<str>) -> String {
        text.as_ref().replace(&format!("{}/", std::env::current_dir().unwrap().display()), "")
    }

    #[test]
    fn a_path_is_repeated_so_that_it_can_be_pasted_in_any_directory() {
        let line = "claviger status --state-dir ./st/ --config ../c.toml --socket run/s";
        let matches = claviger().try_get_matches_from(line.split(' ')).unwrap();
        let here = std::env::current_dir().unwrap();
        let expected =
            format!("claviger status --config {0}/../c.toml --state-dir {0}/st --socket {0}/run/s", here.display());
        assert_eq!(Given::new(claviger, &matches).repeat_in("claviger status"), expected);
        for socket in ["@name", "unix:///run/s", "/run/s", "s"] {
            let line = ["claviger", "status", "--socket", socket];
            let matches = claviger().try_get_matches_from(line).unwrap();
            let again = Given::new(claviger, &matches).repeat_in("claviger status").into_owned();
            assert_eq!(again, format!("claviger status --socket {socket}"));
        }
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

    #[cfg(feature = "reencrypt")]
    #[test]
    fn a_rotation_that_goes_on_still_writes_its_reports() {
        let line = "claviger rotate --to r1.report --html r1.html";
        let again = repeated(line, "go on: claviger rotate; see: claviger scan");
        assert_eq!(
            again,
            "go on: claviger rotate --html r1.html --to r1.report; see: claviger scan --etcd-servers URL"
        );
    }

    #[cfg(feature = "reencrypt")]
    #[test]
    fn a_command_that_has_its_flags_gets_no_placeholder_for_what_its_configuration_says() {
        let keep = tempfile::tempdir().unwrap();
        let config = keep.path().join("config.toml");
        std::fs::write(&config, "etcd-servers = ['http://a']\nencryption-config = '/e'\n").unwrap();
        let line = format!("claviger rotate --config {}", config.display());
        let once = repeated(&line, "claviger rotate");
        assert_eq!([once.as_str(), repeated(&line, &once).as_str()], [line.as_str(); 2]);
    }

    #[cfg(feature = "scan")]
    #[test]
    fn a_keyring_in_a_state_directory_says_which_directory_other_commands_need() {
        let keep = tempfile::tempdir().unwrap();
        let dir = keep.path().to_str().unwrap();
        let scan = format!("claviger scan --keyring {dir}/keyring");
        let hint = "claviger key list; claviger scan --list";
        assert_eq!(
            repeated(&scan, hint),
            format!("claviger key list; {scan} --etcd-servers URL --list"),
            "a copy is in no state directory"
        );
        std::fs::write(keep.path().join("root"), "").unwrap();
        assert_eq!(
            repeated(&scan, hint),
            format!("claviger key list --state-dir {dir}; {scan} --etcd-servers URL --list")
        );
        assert_eq!(repeated(&format!("claviger scan --keyring {dir}/copy"), hint).matches("state-dir").count(), 0);
    }

    #[test]
    fn a_plugin_is_reached_by_flags_unless_it_is_where_plugins_usually_are() {
        let config = |text: &str| Config::parse(text).unwrap();
        let reached = |text: &str| {
            let given = Given { claviger: Some(claviger), ..Given::default() };
            given.reaching(&config(text)).repeat_in("run `claviger status`, claviger key list").into_owned()
        };
        assert_eq!(reached(""), "run `claviger status`, claviger key list");
        assert_eq!(
            reached("state-dir = '/srv/a b'\nsocket = '@c'"),
            "run `claviger status --state-dir '/srv/a b' --socket @c`, claviger key list --state-dir '/srv/a b'"
        );
    }

    #[test]
    fn where_a_plugin_listens_is_asked_for_if_no_flag_could_say_it() {
        let asked = |line: &str| {
            let matches = claviger().try_get_matches_from(line.split(' ')).unwrap();
            from_here(Given::new(claviger, &matches).plugin_command("claviger status"))
        };
        for (line, expected) in [
            ("claviger key list --state-dir st", "claviger status --state-dir st --socket SOCKET"),
            ("claviger key list", "claviger status"),
            ("claviger key list --state-dir /var/lib/claviger", "claviger status --state-dir /var/lib/claviger"),
            ("claviger key list --state-dir st --config c", "claviger status --config c --state-dir st"),
            ("claviger status --state-dir st", "claviger status --state-dir st"),
        ] {
            assert_eq!(asked(line), expected, "{line}");
        }
    }

    #[test]
    fn a_snapshot_is_taken_where_the_given_flags_say() {
        let hint = "take another: etcdctl snapshot save FILE";
        let scan = "claviger scan --etcd-servers https://a:2379 --etcd-cafile ca.crt";
        assert_eq!(
            repeated(scan, hint),
            "take another: etcdctl --endpoints https://a:2379 --cacert ca.crt snapshot save FILE"
        );
        assert_eq!(repeated("claviger scan", hint), "take another: etcdctl --endpoints URL snapshot save FILE");
        for other in ["etcdctl --endpoints https://b snapshot save FILE", "what `etcdctl snapshot save` wrote"] {
            assert_eq!(repeated(scan, other), other);
        }
    }

    #[test]
    fn each_value_is_repeated_and_quoted_for_a_shell() {
        let line = "claviger check b.age --recovery-identity a;b --recovery-identity it's --recovery-identity - --config /etc/c.toml";
        let expected =
            r"claviger check --config /etc/c.toml --recovery-identity 'a;b' --recovery-identity 'it'\''s' FILE";
        assert_eq!(repeated(line, "claviger check FILE"), expected);
    }

    #[test]
    fn a_command_that_suggests_itself_repeats_more() {
        let given = |line: &[&str]| Given::new(claviger, &claviger().try_get_matches_from(line).unwrap());
        let prefix = |line: &[&str]| from_here(given(line).command("claviger scan --etcd-prefix /registry"));
        let expected = "claviger scan --snapshot 'a b' --etcd-prefix /registry";
        for line in [
            &["claviger", "scan", "--snapshot", "a b"][..],
            &["claviger", "scan", "--etcd-prefix", "/x", "--snapshot", "a b"],
            &["claviger", "scan", "--etcd-prefix=/x", "--snapshot", "a b"],
            &["claviger", "scan", "--html", "page", "--snapshot", "a b"],
        ] {
            assert_eq!(prefix(line), expected);
        }
        let live =
            given(&["claviger", "scan", "--etcd-servers", "http://a", "--keyring", "k", "--all", "--config", "c"]);
        assert_eq!(
            from_here(live.command("claviger scan --snapshot FILE")),
            "claviger scan --config c --keyring k --all --snapshot FILE"
        );
        assert_eq!(from_here(live.repeat_in("claviger key list")), "claviger key list --config c");
        let hostile = "claviger scan --etcd-prefix '/claviger status'";
        assert_eq!(live.command(hostile).matches("--config").count(), 1);
        assert_eq!(Given::default().command("claviger scan"), "claviger scan");
    }

    #[test]
    fn a_waiver_is_repeated_by_the_same_command_alone() {
        let promote = "claviger key promote k2 --without-backup";
        let again = repeated(promote, "claviger key promote k2 --despite-rotation");
        assert_eq!(again, "claviger key promote --without-backup k2 --despite-rotation");
        assert_eq!(repeated(promote, "claviger key list"), "claviger key list");
        let other_way = "claviger key promote k2 --backup-dir DIR";
        assert_eq!(repeated(promote, other_way), other_way, "one contradicts the other");
    }

    #[test]
    fn what_failed_is_not_repeated() {
        let line = "claviger check b.age --recovery-identity bad.txt --state-dir st --config c.toml";
        let given = Given::new(claviger, &claviger().try_get_matches_from(line.split(' ')).unwrap());
        let repeated = |message, failed| from_here(given.without(message, failed).repeat_in("claviger check FILE"));
        let all = "claviger check --config c.toml --state-dir st --recovery-identity bad.txt FILE";
        for message in ["no identity opens it", "reading not-bad.txt: denied", "reading st/bad.txt: denied"] {
            assert_eq!(repeated(message, None), all, "{message}");
        }
        let without = "claviger check --config c.toml --state-dir st FILE";
        assert_eq!(repeated("reading bad.txt: denied", None), without);
        assert_eq!(repeated("wrong", Some("recovery-identity")), without);
        assert_eq!(repeated("st is damaged", None), all, "a directory is repeated in any case");
    }

    /// Returns the string literals of a source file, without its comments, examples and tests, each on one line.
    fn texts(source: &str) -> String {
        let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let (mut texts, mut is_example) = (String::new(), false);
        for line in code.lines().map(str::trim_start) {
            is_example |= line.contains("after_help = ");
            if !is_example && !line.starts_with("//") && !line.starts_with("doc = ") {
                texts += &line.strip_suffix('\\').map_or_else(|| format!("{line}\n"), ToOwned::to_owned);
            }
            is_example &= !line.contains("\")");
        }
        texts
    }

    /// Whether a value or a placeholder follows the name of a command.
    fn has_value(rest: &str) -> bool {
        let word = rest.strip_prefix(' ').unwrap_or_default();
        let is_value = |c: char| c.is_ascii_uppercase() || "{'/<-".contains(c);
        word.starts_with(is_value) || (word.starts_with('k') && word[1..].starts_with(|c: char| c.is_ascii_digit()))
    }

    #[test]
    fn every_command_that_a_hint_names_has_its_arguments() {
        let claviger = built(<crate::cli::Cli as clap::CommandFactory>::command);
        let mut files = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli"))];
        let (mut mentions, mut incomplete) = (0, Vec::new());
        while let Some(file) = files.pop() {
            if file.is_dir() {
                files.extend(std::fs::read_dir(file).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let texts = texts(&std::fs::read_to_string(&file).unwrap());
            for (at, _) in texts.match_indices("claviger ") {
                let mention = texts[at..].split(ENDS).next().unwrap();
                let Verbs { command: Some(command), end } = verbs(&claviger, mention) else { continue };
                mentions += 1;
                let is_needed = |arg: &clap::Arg| arg.is_positional() && arg.is_required_set();
                let is_whole = !command.get_arguments().any(is_needed) || has_value(&mention[end..]);
                incomplete.extend((!is_whole).then(|| format!("{}: {mention}", file.display())));
            }
        }
        assert!(incomplete.is_empty(), "{incomplete:#?}");
        assert!(mentions > 50, "{mentions}");
    }

    #[test]
    fn a_shell_reads_each_word_as_it_is() {
        for word in ["", "a b", "it's", "$(id)", "a;b", "*", "\\", "k\u{e9}y", "/registry"] {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn nothing_is_repeated_before_the_command_line_was_read() {
        assert_eq!(Given::default().repeat_in("claviger status"), "claviger status");
    }
}
