//! The program for an example: Cargo builds it for tests, but not for examples.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::error::{Context, Error, Result};

/// claviger in the profile that this example was built in.
pub(crate) fn build() -> Result<PathBuf> {
    let own = env::current_exe().during(|| "finding the file of the example".to_owned())?;
    let target = own.parent().and_then(Path::parent).map(Path::to_owned);
    let target = target.ok_or_else(|| Error::new(format!("{} is not below target/", own.display())))?;
    let profile = match target.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--bin", "claviger", "--profile", profile, "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .status()
        .during(|| "running cargo".to_owned())?;
    if !status.success() {
        return Err(Error::new("claviger was not built").hint("cargo said above why"));
    }
    Ok(target.join("claviger"))
}
