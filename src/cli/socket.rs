//! The hints for an address that is not valid, and for a plugin that has no socket to listen on.

use std::path::Path;

use super::given::quoted;
use crate::listen::{Address, SocketError};

/// The forms of the address of a socket.
pub(super) const ADDRESS: &str = "--socket /run/claviger/kms.sock, or --socket @claviger";

/// Returns the hint for an address that is not valid. A bare name may mean a file here or an abstract socket.
pub(super) fn address(wrong: &str) -> String {
    let is_name = wrong.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if wrong.is_empty() || !is_name {
        return ADDRESS.to_owned();
    }
    format!(
        "for a file, give its whole path: --socket /run/claviger/{wrong}; for an abstract socket: --socket @{wrong}"
    )
}

/// Returns the hint for the error, if there is one.
pub(super) fn hint(error: &SocketError) -> Option<String> {
    Some(match error {
        SocketError::NotADirectory(_) | SocketError::Occupied(_) => "move it away, or give another --socket".to_owned(),
        SocketError::Missing(path) => own_directory(path),
        // Others may use a directory that exists, so the hint suggests a new directory instead of changing that one.
        SocketError::System(_) | SocketError::Ancestor(_) => another_directory(),
        SocketError::Writable { path, .. } => {
            format!("if only claviger uses it: chmod go-w {}; otherwise {}", quoted(path), another_directory())
        }
        SocketError::Owner { owner, .. } => {
            format!(
                "if the plugin that serves there runs as uid {owner}, run this one as that user; otherwise {}",
                another_directory()
            )
        }
        SocketError::Unwritable { path, .. } => {
            format!("run it as the owner of {}, or as root; otherwise {}", quoted(path), another_directory())
        }
        SocketError::Held(Address::Path(path)) => {
            format!(
                "to see which keyring it serves: claviger status; to replace it without a pause: claviger serve --take-over; to \
                 find it: fuser {}.lock",
                quoted(path)
            )
        }
        SocketError::Held(Address::Abstract(name)) => {
            format!("to see which keyring it serves: claviger status; to find it: ss -xlp src @{name}")
        }
        SocketError::Stranger(path) => {
            format!("to see which program it is: ss -xlp src {}; end it, or give another --socket", quoted(path))
        }
        SocketError::Followed(path) => {
            format!("the plugin that it replaces has not ended yet; to find both: fuser {}.lock", quoted(path))
        }
        SocketError::AbstractTakeOver(_) => "stop the other plugin first, or serve on a path".to_owned(),
        SocketError::AbstractGroup(_) => "leave --socket-group out: --allow-uid alone says who may connect".to_owned(),
        SocketError::Group { group, .. } => format!("make the plugin's user a member of group {group}"),
        SocketError::Io { .. } => return None,
    })
}

/// Returns the hint to make a directory that nobody uses yet. A running plugin may use the usual directory.
fn another_directory() -> String {
    let make = own_directory(Path::new("/run/NEW"));
    format!("give the socket a directory of its own: {make}, and --socket /run/NEW/kms.sock")
}

fn own_directory(path: &Path) -> String {
    format!("install -d -m 0750 -o {} {}", rustix::process::geteuid().as_raw(), quoted(path))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        io,
        os::unix::fs::PermissionsExt,
        path::PathBuf,
    };

    use super::*;
    use crate::listen::{Access, bind};

    fn hint_of(error: &SocketError) -> String {
        hint(error).unwrap()
    }

    fn refused(path: PathBuf) -> String {
        hint_of(&bind(&Address::Path(path), Access::default()).unwrap_err())
    }

    fn own_directory_hint() -> String {
        let ours = rustix::process::geteuid().as_raw();
        format!(
            "give the socket a directory of its own: install -d -m 0750 -o {ours} /run/NEW, and --socket /run/NEW/kms.sock"
        )
    }

    #[test]
    fn a_directory_that_is_missing_is_made_and_anything_else_is_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, file) = (dir.path().join("missing"), dir.path().join("file"));
        let ours = rustix::process::geteuid().as_raw();
        assert_eq!(refused(missing.join("kms.sock")), format!("install -d -m 0750 -o {ours} {}", missing.display()));
        fs::write(&file, "").unwrap();
        for path in [file.join("kms.sock"), file] {
            assert_eq!(refused(path), "move it away, or give another --socket");
        }
    }

    #[test]
    fn a_directory_of_others_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        fs::set_permissions(&below, Permissions::from_mode(0o750)).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        for path in [below.join("kms.sock"), "/etc/kms.sock".into()] {
            assert_eq!(refused(path), own_directory_hint());
        }
        let own = own_directory_hint();
        let writable = refused(dir.path().join("kms.sock"));
        assert_eq!(writable, format!("if only claviger uses it: chmod go-w {}; otherwise {own}", dir.path().display()));
        let owner = SocketError::Owner { path: "/run/claviger".into(), owner: 4711, ours: 0 };
        let as_owner = "if the plugin that serves there runs as uid 4711, run this one as that user; otherwise ";
        assert_eq!(hint_of(&owner), format!("{as_owner}{own}"));
        let unwritable = SocketError::Unwritable { path: "/run/claviger".into(), ours: 7 };
        let as_root = "run it as the owner of /run/claviger, or as root; otherwise ";
        assert_eq!(hint_of(&unwritable), format!("{as_root}{own}"));
        for error in [owner, unwritable] {
            let hint = hint_of(&error);
            assert!(!hint.contains("-o 0 /run/claviger"), "it is not taken from a plugin that runs: {hint}");
        }
    }

    #[test]
    fn the_plugin_that_holds_a_socket_can_be_found() {
        let path = Path::new("/run/claviger/kms.sock");
        let at = |name: &str| Address::Abstract(name.to_owned());
        for (error, expected) in [
            (
                SocketError::Held(Address::Path(path.to_owned())),
                "to see which keyring it serves: claviger status; to replace it without a pause: claviger serve --take-over; to \
                 find it: fuser /run/claviger/kms.sock.lock",
            ),
            (
                SocketError::Held(at("kms")),
                "to see which keyring it serves: claviger status; to find it: ss -xlp src @kms",
            ),
            (
                SocketError::Followed(path.to_owned()),
                "the plugin that it replaces has not ended yet; to find both: fuser /run/claviger/kms.sock.lock",
            ),
            (
                SocketError::Stranger(path.to_owned()),
                "to see which program it is: ss -xlp src /run/claviger/kms.sock; end it, or give another --socket",
            ),
            (SocketError::AbstractTakeOver(at("kms")), "stop the other plugin first, or serve on a path"),
            (
                SocketError::AbstractGroup("kms".to_owned()),
                "leave --socket-group out: --allow-uid alone says who may connect",
            ),
            (SocketError::Group { group: 7, ours: 1 }, "make the plugin's user a member of group 7"),
        ] {
            assert_eq!(hint_of(&error), expected);
        }
    }

    #[test]
    fn a_reason_of_the_kernel_speaks_for_itself() {
        let error = SocketError::Io { step: "lock", path: "/run/s".into(), error: io::ErrorKind::Other.into() };
        assert_eq!(hint(&error), None);
    }
}
