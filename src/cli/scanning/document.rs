//! The frame of an HTML page for auditors: one file that needs neither network nor scripts.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::style::STYLE;
use crate::telemetry::escape;

/// Returns the HTML page, without characters that are invisible or change the direction of a line.
pub(in crate::cli) fn document(headline: &str, is_good: bool, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (headline) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1.bad[!is_good].good[is_good] { (headline) }
                (body)
            }
        }
    };
    escape::page(&page.into_string())
}
