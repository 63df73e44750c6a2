//! Writes the files that `claviger verify` was asked for: the authenticated report, and the HTML page for auditors.

use std::path::PathBuf;

use clap::Args;

use crate::durable::{check_export, export};

#[cfg(feature = "html")]
use super::html;
use super::{
    super::{arguments::named, failure::Failure},
    verified::Verified,
};

/// The flags that ask for files.
#[derive(Args)]
pub(in crate::cli) struct KeptArgs {
    /// Also write the authenticated report, which `--report` checks later. The file must not exist
    #[arg(long, value_name = "FILE", value_parser = named())]
    to: Option<PathBuf>,
    /// Also write the report as one HTML page, for auditors. It contains the authenticated report. The file must not
    /// exist
    #[cfg(feature = "html")]
    #[arg(long, value_name = "FILE", value_parser = named())]
    html: Option<PathBuf>,
}

impl KeptArgs {
    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        #[cfg(feature = "html")]
        return self.to.iter().chain(&self.html);
        #[cfg(not(feature = "html"))]
        self.to.iter()
    }

    /// Returns the file in which the report is kept, if one is named.
    pub(in crate::cli) fn kept(&self) -> Option<&PathBuf> {
        self.paths().next()
    }

    /// Checks before the scan that the files can be written after it.
    ///
    /// # Errors
    /// When a file exists, or its directory does not.
    pub(in crate::cli) fn check(&self) -> Result<(), Failure> {
        self.paths().try_for_each(|path| check_export(path).map_err(|error| Failure::export(&error)))
    }

    /// Writes the files that were asked for.
    ///
    /// # Errors
    /// When one of them cannot be written.
    pub(in crate::cli) fn write(&self, verified: &Verified) -> Result<(), Failure> {
        if let Some(path) = &self.to {
            export(path, verified.text.as_bytes()).map_err(|error| Failure::export(&error))?;
        }
        #[cfg(feature = "html")]
        if let Some(path) = &self.html {
            export(path, html::page(verified).as_bytes()).map_err(|error| Failure::export(&error))?;
        }
        Ok(())
    }
}
