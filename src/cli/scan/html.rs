//! A report for auditors: one self-contained page.

use maud::{DOCTYPE, html};

use crate::scan::report::Report;

/// The page.
pub(super) fn page(report: &Report) -> String {
    html! { (DOCTYPE) html { body { (report.headline()) } } }.into_string()
}
