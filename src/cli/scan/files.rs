//! The files that `claviger scan` writes beside its report, if asked to.

#[cfg(any(feature = "html", feature = "metrics"))]
use std::path::PathBuf;

use clap::Args;

use crate::scan::report::ScanReport;

#[cfg(any(feature = "html", feature = "metrics"))]
use super::super::arguments::named;
use super::super::failure::Failure;
#[cfg(feature = "html")]
use super::html;
#[cfg(feature = "metrics")]
use super::prometheus;
#[cfg(feature = "metrics")]
use crate::durable::replace_export;
#[cfg(feature = "html")]
use crate::durable::{check_export, export};

/// The flags that ask for files.
#[derive(Args)]
pub(super) struct FileArgs {
    /// Also write the report as one HTML page, for auditors. The file must not exist
    #[cfg(feature = "html")]
    #[arg(long, value_name = "FILE", value_parser = named())]
    html: Option<PathBuf>,
    /// Also write metrics for the textfile collector of Prometheus' node exporter; replaces the file
    #[cfg(feature = "metrics")]
    #[arg(long, value_name = "FILE", value_parser = named())]
    prometheus: Option<PathBuf>,
}

#[cfg_attr(not(feature = "html"), allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "as with the page"))]
impl FileArgs {
    /// Checks before the scan that the page can be written after it.
    ///
    /// # Errors
    /// When the page exists, or its directory does not.
    pub(super) fn check(&self) -> Result<(), Failure> {
        #[cfg(feature = "html")]
        if let Some(page) = &self.html {
            check_export(page).map_err(|error| Failure::export(&error))?;
        }
        Ok(())
    }

    /// Whether one of the files will contain the SHA-256 of the snapshot.
    pub(super) fn want_digest(&self) -> bool {
        #[cfg(feature = "html")]
        return self.html.is_some();
        #[cfg(not(feature = "html"))]
        false
    }

    /// Writes the files that were asked for.
    ///
    /// # Errors
    /// When one of them cannot be written.
    #[cfg_attr(not(any(feature = "html", feature = "metrics")), allow(unused_variables, reason = "no file to write"))]
    pub(super) fn write(&self, report: &ScanReport, hints: &[String]) -> Result<(), Failure> {
        #[cfg(feature = "metrics")]
        if let Some(path) = &self.prometheus {
            let metrics = prometheus::text(report)?;
            replace_export(path, metrics.as_bytes()).map_err(|error| Failure::export(&error))?;
        }
        #[cfg(feature = "html")]
        if let Some(path) = &self.html {
            export(path, html::page(report, hints).as_bytes()).map_err(|error| Failure::export(&error))?;
        }
        Ok(())
    }
}
