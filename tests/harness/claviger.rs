//! Builds claviger for an example. Cargo builds it for tests, but not for examples.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use super::error::{Context, Error, Result};

/// Builds claviger in the profile of this example.
pub(crate) fn build() -> Result<PathBuf> {
    let own = env::current_exe().during(|| "finding the file of the example".to_owned())?;
    let target = own.parent().and_then(Path::parent).map(Path::to_owned);
    let target = target.ok_or_else(|| Error::new(format!("{} is not below target/", own.display())))?;
    let profile = match target.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut cargo = cargo(env::vars_os().map(|(name, _)| name));
    cargo
        .args(["build", "--quiet", "--locked", "--bin", "claviger", "--profile", profile, "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    let status = cargo.status().during(|| "running cargo".to_owned())?;
    if !status.success() {
        return Err(Error::new("claviger was not built").hint("cargo said above why"));
    }
    Ok(target.join("claviger"))
}

/// Returns Cargo without the variables in `names` that `cargo run` sets for this example.
///
/// Build scripts read some of them, and run again if one has changed. So each build would undo the other one's.
pub(crate) fn cargo(names: impl Iterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for name in names.filter(|name| name.as_ref().to_str().is_some_and(is_set_by_cargo)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Whether Cargo sets the variable for a program that it runs. Cargo reads all other variables that begin with `CARGO`.
/// Source: the Cargo Book, "Environment Variables".
fn is_set_by_cargo(name: &str) -> bool {
    const ONE: [&str; 5] = ["CARGO", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR", "OUT_DIR"];
    const MANY: [&str; 4] = ["CARGO_BIN_EXE_", "CARGO_BIN_NAME", "CARGO_MANIFEST_", "CARGO_PKG_"];
    ONE.contains(&name) || MANY.iter().any(|start| name.starts_with(start))
}
