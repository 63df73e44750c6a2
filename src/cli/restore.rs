//! `claviger backup restore`: into an empty directory, or into a keyring that is there.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;

use crate::{
    config::Settings,
    durable::{Dir, DurableError, Privacy},
    keeper::{self, Expect, ExpectError, Initialised, MergePlan, OpenError, Opened, RestorePlan, Source},
    keyring::{
        backup::Backup,
        key_id::KeyId,
        merge::{Row, Wishes},
        record,
        recovery::Identities,
        time::Time,
    },
};

use super::{
    Format, Global, KeyringArgs, Site,
    backup::{counted, read},
    failure::{Exit, Failure},
    init::absolute,
    key, output,
    recovery::Identity,
};

/// Set an empty state directory up with the keyring of a backup, or bring its keys into the keyring that is there
///
/// Takes a backup, or a copy of the file `keyring` alone if that has a recovery blob for the identity, or is under a root key
/// that the keyring here has or had.
///
/// Into an empty directory: whoever knows a recipient could have made a backup, so --expect says which keyring it has to be,
/// that one or a later one. Never run two machines with one keyring file: what one of them changes, the other does not have.
///
/// Into a keyring that is there, older, newer, damaged or gone another way: every key of both is kept, a fresh key wraps, the
/// others unwrap. What becomes of each key is shown, which ends with 1, and done with --accept.
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --expect UUID:7:SHA256
  claviger backup restore /media/usb/claviger.age --recovery-identity /media/usb2/identity.txt --accept")]
pub(super) struct RestoreArgs {
    /// The backup, or a keyring; several to bring into a keyring that is there
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    identity: Identity,
    /// Which record it has to be, uuid:generation:sha256 as `backup create` and `status` print it; without it the
    /// generation is asked for on a terminal
    #[arg(long, value_name = "EXPECT")]
    expect: Option<Expect>,
    /// Where the slot's key file goes, better on another disk [default: slot-file.key in the state directory]
    #[arg(long, value_name = "FILE")]
    slot_file: Option<PathBuf>,
    /// Move a restore that did not finish aside and begin again
    #[arg(long)]
    restart: bool,
    /// Merge into the keyring that is there as was shown
    #[arg(long)]
    accept: bool,
    /// In a merge, leave a key destroyed although a backup holds it; its key_id in full
    #[arg(long, value_name = "KEY_ID")]
    keep_destroyed: Vec<KeyId>,
    /// In a merge, go on without a key that was here and is in no backup; its key_id in full
    #[arg(long, value_name = "KEY_ID")]
    lost: Vec<KeyId>,
    #[command(flatten)]
    keyring: KeyringArgs,
}

#[derive(Serialize)]
struct RestoreReport<'a> {
    format: &'static str,
    state_dir: &'a Path,
    uuid: String,
    generation: u64,
    keys: usize,
    expect: String,
    moved_aside: Option<&'a Path>,
}

#[derive(Serialize)]
struct MergeReport<'a> {
    format: &'static str,
    state_dir: &'a Path,
    /// What is wrong with the keyring that is there.
    doubt: Option<&'a str>,
    generation: u64,
    keys: Vec<MergedKey>,
    /// The key that wraps then; null if nothing was done.
    fresh: Option<String>,
    /// What the record is then; null if nothing was done.
    expect: Option<String>,
}

#[derive(Serialize)]
struct MergedKey {
    key_id: String,
    /// In the order of the keyring here, if it can be read, and the backups.
    before: Vec<Option<&'static str>>,
    after: &'static str,
}

/// Runs `claviger backup restore`.
///
/// # Errors
/// When a backup does not open or is not the one that is expected, or a file cannot be written.
pub(super) fn run(args: RestoreArgs, global: &Global) -> Result<Exit, Failure> {
    let config =
        global.config(Settings { state_dir: args.keyring.state_dir.state_dir.clone(), ..Settings::default() })?;
    let is_merge = holds_keyring(&config.state_dir)? && args.slot_file.is_none() && !args.restart;
    if is_merge { merge(args, global) } else { set_up(args, &config.state_dir, global) }
}

fn holds_keyring(state_dir: &Path) -> Result<bool, Failure> {
    match Dir::open(state_dir, Privacy::Private).and_then(|dir| keeper::is_set_up(&dir)) {
        // What is wrong with it is told by what uses it.
        Err(DurableError::Missing(_)) => Ok(false),
        outcome => outcome.map_err(|error| Failure::state_dir(error, state_dir)),
    }
}

fn now() -> Time {
    Time::new(jiff::Timestamp::now())
}

fn set_up(args: RestoreArgs, state_dir: &Path, global: &Global) -> Result<Exit, Failure> {
    let RestoreArgs { files, identity, expect, slot_file, restart, .. } = args;
    let [file] = files.as_slice() else {
        let hint = "restore the newest one, then bring the others in by the same command".to_owned();
        return Err(Failure::new(Exit::Usage, &"an empty directory takes one backup", hint));
    };
    if args.accept || !args.keep_destroyed.is_empty() || !args.lost.is_empty() {
        let message = format!("{} holds no keyring, so there is nothing to merge", state_dir.display());
        return Err(Failure::new(Exit::Usage, &message, "leave --accept, --keep-destroyed and --lost away".to_owned()));
    }
    let backup = Backup::open(&read(file)?, &identity.read()?).map_err(|error| Failure::backup(&error, file))?;
    confirm(&backup, expect.as_ref())?;
    let slot_file = slot_file.as_deref().map(absolute).transpose()?;
    restore(RestorePlan { backup, slot_file, restart, now: now() }, state_dir, global)
}

/// Makes sure that it is the keyring that is wanted.
fn confirm(backup: &Backup, expect: Option<&Expect>) -> Result<(), Failure> {
    if let Some(expect) = expect {
        let checked = expect.check(&backup.keyring, backup.digest());
        return checked.map_err(|error| Failure::new(Exit::Refused, &error, None));
    }
    let generation = backup.keyring.generation().to_string();
    let shown = output::fields(&[
        ("keyring", backup.keyring.uuid().to_hex()),
        ("generation", generation.clone()),
        ("expect", backup.expect().to_string()),
    ]);
    let refused = |message: &str| {
        let hint = "give --expect with what `backup create` or `status` printed where the keyring was".to_owned();
        Failure::new(Exit::Refused, &message, hint)
    };
    if !io::stdin().is_terminal() {
        return Err(refused("nothing says that this is the right keyring"));
    }
    let table = key::table(&key::rows(&backup.keyring), None);
    output::text(&format!("{shown}\n\n{table}\n\nIf this is the keyring, type its generation: "))?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed).map_err(|error| refused(&error.to_string()))?;
    if typed.trim() == generation { Ok(()) } else { Err(refused("that is not its generation; nothing was written")) }
}

fn restore(plan: RestorePlan, state_dir: &Path, global: &Global) -> Result<Exit, Failure> {
    let dir = Dir::open_or_create(state_dir).map_err(|error| Failure::init(&error.into(), state_dir))?;
    let slot_file = plan.slot_file.clone();
    let Initialised { keyring, digest, moved_aside } =
        keeper::restore(&dir, plan).map_err(|error| Failure::init(&error, state_dir))?;
    let report = RestoreReport {
        format: "claviger/backup-restore/v1",
        state_dir,
        uuid: keyring.uuid().to_hex(),
        generation: keyring.generation(),
        keys: keyring.keys().count(),
        expect: Expect::of(&keyring, digest).to_string(),
        moved_aside: moved_aside.as_deref(),
    };
    if global.output == Format::Json {
        output::json(&report)?;
        return Ok(Exit::Done);
    }
    if let Some(path) = &moved_aside {
        output::text_line(&format!("moved what had not finished to {}", path.display()))?;
    }
    let slot = slot_file.unwrap_or_else(|| dir.path_of("slot-file.key"));
    output::text_line(&output::fields(&[
        ("keyring", format!("{} in {}", report.uuid, state_dir.display())),
        ("generation", format!("{}, {}", report.generation, counted(report.keys, "key"))),
        ("slot", format!("file, its key in {}", slot.display())),
    ]))?;
    if !global.quiet {
        output::text_line(&format!("\nnext:  claviger serve --state-dir {}", state_dir.display()))?;
    }
    Ok(Exit::Done)
}

fn merge(args: RestoreArgs, global: &Global) -> Result<Exit, Failure> {
    let RestoreArgs { files, identity, expect, accept, keep_destroyed, lost, keyring, .. } = args;
    let site = Site::find(keyring.settings(), global)?;
    let sources = sources(&site, &files, &identity, expect.as_ref())?;
    let wishes = Wishes { destroyed: keep_destroyed, lost };
    let failed = |error: &keeper::ChangeFailed| failed(error, &site);
    let planned =
        keeper::plan_merge(&site.dir, &site.means, &sources, &wishes, now()).map_err(|error| failed(&error))?;
    let Some(plan) = planned else {
        return nothing_to_do(&site, global);
    };
    if !accept {
        print_merge(&site, &Shown::of(&plan), None, global)?;
        return Ok(Exit::Found);
    }
    let shown = Shown::of(&plan);
    let opened = plan.carry_out(&site.dir, &site.means).map_err(|error| failed(&error))?;
    print_merge(&site, &shown, Some(&opened), global)?;
    Ok(Exit::Done)
}

fn failed(error: &keeper::ChangeFailed, site: &Site) -> Failure {
    let failure = Failure::change(error, &site.config.state_dir);
    match error {
        keeper::ChangeFailed::Open(OpenError::Root { .. } | OpenError::Missing(_)) => failure.hint(
            "if it cannot be opened any more: move what is in the state directory to another one, restore into the empty one, \
             then bring in the file `keyring` that you moved by another `claviger backup restore`",
        ),
        _ => failure,
    }
}

/// Opens each file by the root keys that are here, or else by an identity, which is asked for once.
fn sources(
    site: &Site,
    files: &[PathBuf],
    identity: &Identity,
    expect: Option<&Expect>,
) -> Result<Vec<Source>, Failure> {
    let mut known: Option<Identities> = None;
    let mut sources = Vec::new();
    for file in files {
        let bytes = read(file)?;
        let by_root = record::root_id(&bytes).ok().and_then(|_| Source::known(&site.dir, &site.means, &bytes).ok());
        let mut source = if let Some(source) = by_root {
            source
        } else {
            let identities = known.take().map_or_else(|| identity.read(), Ok)?;
            let backup = Backup::open(&bytes, &identities).map_err(|error| Failure::backup(&error, file))?;
            known = Some(identities);
            Source::from(&backup)
        };
        let checked = expect.map_or(Ok(()), |expect| expect.check(&source.keyring, source.digest));
        checked.map_err(|error: ExpectError| Failure::new(Exit::Refused, &error, None))?;
        source.expected = expect.is_some();
        sources.push(source);
    }
    Ok(sources)
}

fn nothing_to_do(site: &Site, global: &Global) -> Result<Exit, Failure> {
    let opened = site.open()?;
    if global.output == Format::Json {
        output::json(&MergeReport {
            format: "claviger/backup-merge/v1",
            state_dir: &site.config.state_dir,
            doubt: None,
            generation: opened.keyring.generation(),
            keys: Vec::new(),
            fresh: None,
            expect: Some(Expect::of(&opened.keyring, opened.digest).to_string()),
        })?;
        return Ok(Exit::Done);
    }
    output::text_line("nothing to do: the keyring here has every key of it")?;
    Ok(Exit::Done)
}

/// A plan as it is printed.
struct Shown {
    doubt: Option<String>,
    generation: u64,
    columns: Vec<(&'static str, u64)>,
    rows: Vec<Row>,
    fresh: KeyId,
}

impl Shown {
    fn of(plan: &MergePlan) -> Self {
        let MergePlan { doubt, generation, columns, rows, fresh, .. } = plan;
        let (doubt, columns, rows) = (doubt.clone(), columns.clone(), rows.clone());
        Self { doubt, generation: *generation, columns, rows, fresh: *fresh }
    }
}

/// What is to be done; or what was done, to give the keyring that was `opened` then.
fn print_merge(site: &Site, shown: &Shown, opened: Option<&Opened>, global: &Global) -> Result<(), Failure> {
    let Shown { doubt, generation, columns, rows, fresh } = shown;
    let state_dir = &site.config.state_dir;
    let expect = opened.map(|opened| Expect::of(&opened.keyring, opened.digest).to_string());
    if global.output == Format::Json {
        let key =
            |row: &Row| MergedKey { key_id: row.key_id.to_string(), before: row.before.clone(), after: row.after };
        return output::json(&MergeReport {
            format: "claviger/backup-merge/v1",
            state_dir,
            doubt: doubt.as_deref(),
            generation: *generation,
            keys: rows.iter().map(key).collect(),
            fresh: opened.map(|_| fresh.to_string()),
            expect,
        });
    }
    let mut fields = vec![("keyring", state_dir.display().to_string())];
    fields.extend(doubt.iter().map(|doubt| ("because", doubt.clone())));
    let made = if opened.is_some() { "was made" } else { "will be made" };
    fields.push(("generation", format!("{generation} {made}")));
    fields.extend(expect.map(|expect| ("expect", expect)));
    output::text_line(&format!(
        "{}\n\n{}",
        output::fields(&fields),
        merge_table(columns, rows, fresh, opened.is_some())
    ))?;
    match opened {
        _ if global.quiet => Ok(()),
        Some(_) => output::text_line("\nnext:  claviger backup create FILE, as the fresh key is in no backup yet"),
        None => output::text_line("\nnothing was changed; to do it:  the same command with --accept"),
    }
}

fn merge_table(columns: &[(&'static str, u64)], rows: &[Row], fresh: &KeyId, is_done: bool) -> String {
    let heads: Vec<String> =
        columns.iter().map(|(what, generation)| format!("{}, {generation}", what.to_uppercase())).collect();
    let mut head = vec!["KEY"];
    head.extend(heads.iter().map(String::as_str));
    head.push("BECOMES");
    let cells = |row: &Row| {
        let before = row.before.iter().map(|state| state.unwrap_or("-").to_owned());
        [row.key_id.to_string()].into_iter().chain(before).chain([row.after.to_owned()]).collect::<Vec<_>>()
    };
    // A fresh key has no name before it is made for good.
    let name = if is_done { fresh.to_string() } else { "a fresh key".to_owned() };
    let last = [name].into_iter().chain(columns.iter().map(|_| "-".to_owned())).chain(["primary".to_owned()]);
    output::table(&head, rows.iter().map(cells).chain([last.collect()]))
}
