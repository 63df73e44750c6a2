//! A small disk for a test, in a private mount namespace: a tmpfs, which may be full or read-only, or a disk other than
//! that of the sandbox.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{
    sandbox::{Answer, Call, Sandbox, root_for},
    tree::Tree,
};

/// The bytes of a tmpfs that a write of less than a page takes.
const PAGE: u64 = 4096;

/// A disk at `disk` in a sandbox. Only the commands of [`Disk::call`] see it. It is removed when dropped.
pub(crate) struct Disk<'a> {
    sandbox: &'a Sandbox,
    /// The process that keeps the mount namespace.
    holder: Child,
}

impl<'a> Disk<'a> {
    /// Returns a disk of `pages` pages in memory. Returns `None` and prints the reason if this user may not mount.
    pub(crate) fn new(sandbox: &'a Sandbox, pages: u64) -> Option<Self> {
        let mount = format!("mount -t tmpfs -o size={},mode=0700 claviger-test \"$1\"", pages * PAGE);
        Self::mounted(sandbox, &mount)
    }

    /// Returns a disk that is another one than the sandbox's: a file system in a file.
    pub(crate) fn looped(sandbox: &'a Sandbox) -> Option<Self> {
        let make = "truncate -s 4M \"$1.image\" && mkfs.ext4 -q -m 0 \"$1.image\" && mount -o loop \"$1.image\" \"$1\"";
        Self::mounted(sandbox, &format!("{make} && chmod 0700 \"$1\" && rmdir \"$1/lost+found\""))
    }

    fn mounted(sandbox: &'a Sandbox, mount: &str) -> Option<Self> {
        // In a user namespace of our own, `/` would not belong to root, and claviger would refuse it.
        if !root_for("a mount") {
            return None;
        }
        sandbox.make_dir("disk", 0o700);
        let mount = format!("{mount} && echo mounted && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &mount, "sh"])
            .arg(sandbox.path("disk"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let disk = Self { sandbox, holder };
        if line.is_empty() {
            eprintln!("left out, as root may not mount here");
            return None;
        }
        Some(disk)
    }

    /// Returns a command of claviger that sees the disk.
    pub(crate) fn call(&self, line: &str) -> Call<'a> {
        self.sandbox.call(line).under(self.enter(), "")
    }

    /// Runs a command that must be refused, as [`Call::refused`] does. Checks that it changes nothing on the disk
    /// either.
    pub(crate) fn refused(&self, exit: i32, line: &str) -> Answer {
        let before = Tree::of(&self.path(""));
        let answer = self.call(line).refused(exit);
        assert_eq!(before.changes(&Tree::of(&self.path(""))), Vec::<String>::new(), "{answer}");
        answer
    }

    /// Returns the path of `name` on the disk, as this process sees it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let disk = self.sandbox.path("disk").join(name);
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), disk.display()))
    }

    /// Mounts the disk again with other options, for example `ro` or `size=1m`.
    pub(crate) fn remount(&self, options: &str) {
        let enter = self.enter();
        let status = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["mount", "-o", &format!("remount,{options}")])
            .arg(self.sandbox.path("disk"))
            .status();
        assert!(status.unwrap().success(), "remount,{options}");
    }

    fn enter(&self) -> [String; 4] {
        ["nsenter", "--mount", "--target", &self.holder.id().to_string()].map(ToOwned::to_owned)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // The process may have ended before.
        _ = self.holder.kill();
        _ = self.holder.wait();
    }
}
