//! Tests state directories that cannot be used: every command that reads one refuses it in one line, `serve` ends and
//! leaves no socket, and nothing is changed.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, lchown, symlink},
    path::Path,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{
    sandbox::{Answer, NOBODY, Sandbox, root_for, snapshot},
    status::{STATUS, backed_up, finding, serve},
    tree::Tree,
};

/// The files without which a keyring does not open, and the mark.
const FILES: [&str; 4] = ["root", "slot-file.key", "keyring", "mark"];

/// Damages each of `files` in its own sandbox, and compares the error texts. `exit` is the exit code for each.
fn damaged(name: &str, files: &[(&str, i32)], damage: impl Fn(&Sandbox, &Path)) {
    let answers: Vec<Answer> = files
        .iter()
        .map(|(file, exit)| {
            let sandbox = Sandbox::initialised();
            damage(&sandbox, &sandbox.path("state").join(file));
            sandbox.unopened(*exit, "state")
        })
        .collect();
    snapshot(&format!("state/{name}"), &answers.iter().collect::<Vec<_>>());
}

/// Returns all files, with one exit code.
fn all(exit: i32) -> Vec<(&'static str, i32)> {
    FILES.map(|file| (file, exit)).to_vec()
}

#[test]
fn missing() {
    let required: Vec<_> = all(7).into_iter().filter(|(file, _)| *file != "mark").collect();
    damaged("missing", &required, |_, path| fs::remove_file(path).unwrap());
}

#[test]
fn truncated() {
    damaged("truncated", &all(7), |_, path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[test]
fn empty() {
    damaged("empty", &all(7), |_, path| fs::write(path, "").unwrap());
}

#[test]
fn too_long() {
    damaged("too-long", &all(7), |_, path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, [&bytes[..], &vec![b'x'; 512 * 1024]].concat()).unwrap();
    });
}

#[test]
fn one_bit_changed() {
    // The bit is in the middle: in a root file, of the sealed root key; in a key file, of the key. Both look like a
    // wrong key.
    damaged("one-bit-changed", &[("root", 4), ("slot-file.key", 4), ("keyring", 4), ("mark", 4)], |_, path| {
        let mut bytes = fs::read(path).unwrap();
        let last = bytes.len() - if path.ends_with("slot-file.key") { 1 } else { 20 };
        bytes[last] = if bytes[last] == b'A' { b'B' } else { b'A' };
        fs::write(path, bytes).unwrap();
    });
}

#[test]
fn of_another_installation() {
    damaged("of-another-installation", &all(4), |sandbox, path| {
        sandbox.init("other");
        fs::copy(sandbox.path("other").join(path.file_name().unwrap()), path).unwrap();
    });
}

#[test]
fn of_a_newer_format() {
    let texts: Vec<_> = all(3).into_iter().filter(|(file, _)| *file != "slot-file.key").collect();
    damaged("of-a-newer-format", &texts, |_, path| {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text.replacen("/v1\n", "/v2\n", 1)).unwrap();
    });
}

#[test]
fn of_something_else() {
    damaged("of-something-else", &all(7), |_, path| fs::write(path, "apiVersion: v1\nkind: Secret\n").unwrap());
}

#[test]
fn readable_by_others() {
    for (name, mode) in [("readable-by-all", 0o644), ("readable-by-its-group", 0o640), ("writable-by-all", 0o602)] {
        damaged(name, &all(3), |sandbox, path| {
            sandbox.chmod(path.strip_prefix(sandbox.root()).unwrap().to_str().unwrap(), mode);
        });
    }
}

#[test]
fn a_link() {
    damaged("a-link", &all(3), |sandbox, path| {
        let real = sandbox.path("real");
        fs::rename(path, &real).unwrap();
        symlink(&real, path).unwrap();
    });
}

#[test]
fn a_fifo() {
    damaged("a-fifo", &all(3), |_, path| {
        fs::remove_file(path).unwrap();
        mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    });
}

#[test]
fn a_directory() {
    damaged("a-directory", &all(3), |_, path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    });
}

#[test]
fn owned_by_another_user() {
    if root_for("a file of another user's") {
        damaged("owned-by-another-user", &all(3), |_, path| chown(path, Some(NOBODY), None).unwrap());
    }
}

#[test]
fn never_set_up() {
    let sandbox = Sandbox::new();
    let missing = sandbox.unopened(3, "state");
    sandbox.make_dir("state", 0o700);
    let empty = sandbox.unopened(3, "state");
    snapshot("state/never-set-up", &[&missing, &empty]);
    let error = sandbox.run("key list --state-dir [DIR]/state --output json");
    let error: serde_json::Value = serde_json::from_str(&error.ends_with(3).stderr).unwrap();
    assert_eq!((&error["format"], &error["exit"]), (&"claviger/error/v1".into(), &3.into()));
}

#[test]
fn gone_but_for_the_mark() {
    let sandbox = Sandbox::initialised();
    for name in ["root", "keyring"] {
        fs::remove_file(sandbox.path("state").join(name)).unwrap();
    }
    sandbox.unopened(7, "state").matches("state/gone-but-for-the-mark");
}

#[test]
fn a_directory_that_others_look_into() {
    let sandbox = Sandbox::initialised();
    let answers = [0o755, 0o750, 0o711, 0o777].map(|mode| {
        sandbox.chmod("state", mode);
        sandbox.refused(3, "init --state-dir [DIR]/state --without-recovery");
        sandbox.unopened(3, "state")
    });
    snapshot("state/directory-open-to-others", &answers.each_ref());
}

#[test]
fn a_directory_that_is_none() {
    let sandbox = Sandbox::initialised();
    symlink(sandbox.path("state"), sandbox.path("link")).unwrap();
    fs::write(sandbox.path("file"), "").unwrap();
    mknodat(CWD, sandbox.path("fifo"), FileType::Fifo, Mode::from(0o700), 0).unwrap();
    let answers = ["link", "file", "fifo"].map(|name| {
        sandbox.refused(3, &format!("init --state-dir [DIR]/{name} --without-recovery"));
        sandbox.unopened(3, name)
    });
    snapshot("state/directory-is-none", &answers.each_ref());
}

#[test]
fn a_directory_below_one_that_others_write_to() {
    let sandbox = Sandbox::new();
    sandbox.make_dir("above", 0o700);
    sandbox.init("above/state");
    sandbox.chmod("above", 0o777);
    sandbox.refused(3, "init --state-dir [DIR]/above/new/state --without-recovery");
    let all = sandbox.unopened(3, "above/state");
    sandbox.chmod("above", 0o770);
    snapshot("state/ancestor-writable", &[&all, &sandbox.unopened(3, "above/state")]);
}

#[test]
fn a_directory_of_another_user_below_one_that_all_share_is_refused_with_the_reason() {
    if !root_for("a directory of another user's") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.make_dir("shared", 0o1777);
    sandbox.init("shared/state");
    sandbox.run("key list --state-dir [DIR]/shared/state").ends_with(0);
    for entry in fs::read_dir(sandbox.path("shared/state")).unwrap() {
        chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(sandbox.path("shared/state"), Some(NOBODY), Some(NOBODY)).unwrap();
    let refused = sandbox.refused(3, "key list --state-dir [DIR]/shared/state");
    let said = "error: [DIR]/shared is writable by others (mode 1777), and is above [DIR]/shared/state\nhint:  [DIR]/shared/state belongs \
                to uid 65534, and this command runs as uid 0: in [DIR]/shared, where anybody can make a directory, each user uses only \
                directories of their own: run it as uid 65534; or use a directory that nobody but root and its owner can replace, as in \
                /var/lib\n";
    assert_eq!(refused.complaint(), said);
}

#[test]
fn a_state_directory_inside_of_another_one_is_refused() {
    let sandbox = super::backup::with_recovery();
    sandbox.run("backup create [DIR]/b.age --state-dir [DIR]/state").ends_with(0);
    symlink(sandbox.path("state"), sandbox.path("link")).unwrap();
    for below in ["state/x", "state/x/y", "link/x"] {
        let said = format!(
            "error: [DIR]/{below} is inside of the state directory [DIR]/state\nhint:  give a directory outside of it: --state-dir DIR; \
             to see the keyring that is there: claviger status --socket [DIR]/run/kms.sock --state-dir [DIR]/state\n"
        );
        for line in ["init --without-recovery", "backup restore --recovery-identity [DIR]/ours.txt [DIR]/b.age"] {
            let line = format!("{line} --state-dir [DIR]/{below} --socket [DIR]/run/kms.sock");
            assert_eq!(sandbox.refused(3, &line).complaint(), said, "{line}");
        }
    }
    // Also if its mode keeps claviger from opening it.
    let mode = |mode| fs::set_permissions(sandbox.path("state"), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o755);
    let refused = sandbox.refused(3, "init --without-recovery --state-dir [DIR]/state/x");
    assert!(refused.stderr.contains("is inside of the state directory [DIR]/state"), "{refused}");
    mode(0o700);
    // The directory above has no keyring, or this one has.
    sandbox.make_dir("plain", 0o700);
    sandbox.init("plain/state");
    let again = sandbox.refused(3, "init --without-recovery --state-dir [DIR]/plain/state");
    assert!(again.stderr.contains("already holds a keyring"), "{again}");
}

#[test]
fn a_directory_of_another_user() {
    if !root_for("a directory of another user's") {
        return;
    }
    let sandbox = Sandbox::initialised();
    let list = |name: &str| sandbox.call(&format!("key list --state-dir [DIR]/{name}")).by_nobody().refused(3);
    let private = list("state");
    sandbox.make_dir("public", 0o755);
    let public = list("public");
    sandbox.make_dir("above", 0o755);
    sandbox.init("above/state");
    chown(sandbox.path("above"), Some(NOBODY), None).unwrap();
    let above = sandbox.unopened(3, "above/state");
    snapshot("state/directory-of-another-user", &[&private, &public, &above]);
}

#[test]
fn root_does_not_take_a_directory_that_anybody_could_have_made() {
    if !root_for("a directory of another user's") {
        return;
    }
    let sandbox = Sandbox::initialised();
    sandbox.make_dir("shared", 0o1777);
    sandbox.make_dir("shared/prepared", 0o700);
    chown(sandbox.path("shared/prepared"), Some(NOBODY), Some(NOBODY)).unwrap();
    sandbox.run("init --state-dir [DIR]/shared/prepared --without-recovery").ends_with(3);
    assert!(Tree::names(&sandbox.path("shared/prepared")).is_empty());

    // A directory that somebody's link leads to is refused, too.
    symlink(sandbox.root(), sandbox.path("shared/link")).unwrap();
    lchown(sandbox.path("shared/link"), Some(NOBODY), Some(NOBODY)).unwrap();
    sandbox.run("key list --state-dir [DIR]/shared/link/state").ends_with(3);
    lchown(sandbox.path("shared/link"), Some(0), Some(0)).unwrap();
    sandbox.run("key list --state-dir [DIR]/shared/link/state").ends_with(0);
}

#[test]
fn root_leaves_the_files_to_the_directorys_owner() {
    use std::os::unix::fs::MetadataExt;
    if !root_for("a directory of another user's") {
        return;
    }
    // The sandbox is not below /tmp, because there anybody could have made a directory that root finds.
    let sandbox = Sandbox::inside(Path::new("/run"));
    sandbox.make_dir("state", 0o700);
    chown(sandbox.path("state"), Some(NOBODY), Some(NOBODY)).unwrap();
    sandbox.init("state");
    for name in Tree::names(&sandbox.path("state")) {
        let found = sandbox.path("state").join(&name).metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY), "{name}");
    }
    sandbox.call("key list --state-dir [DIR]/state").by_nobody().run().ends_with(0);
}

#[test]
fn a_plan_that_cannot_be_read_is_a_finding() {
    let (sandbox, _) = backed_up();
    let _daemon = serve(&sandbox);
    fs::write(sandbox.path("state/rotation"), "torn").unwrap();
    sandbox.chmod("state/rotation", 0o644);
    let open = sandbox.run(STATUS);
    finding(open.ends_with(1), "[DIR]/state/rotation has mode 0644, expected 0600; chmod 0600 [DIR]/state/rotation");
    sandbox.chmod("state/rotation", 0o600);
    let torn = sandbox.run(STATUS);
    finding(torn.ends_with(1), "the plan of the rotation: ");
    finding(&torn, "start the rotation again, which writes a new plan: claviger rotate ");
}
