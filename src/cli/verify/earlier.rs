//! Reads an earlier report: the text alone, or a page that contains it.

use std::path::{Path, PathBuf};

use crate::{
    crypto::Digest,
    keeper::Opened,
    proof::{REPORT_MAX, VerifyReport},
};

use super::super::{
    failure::{Exit, Explain, Failure, NO_REPORT},
    files::read_text,
};

/// The greatest length in bytes of a file that may contain a report. An HTML page shows each group up to three times.
const FILE_MAX: usize = 8 * REPORT_MAX;

/// The HTML before and after the report's text in a page.
pub(super) const BEFORE: &str = "<pre id=\"report\">";
const AFTER: &str = "</pre>";

/// An earlier report whose HMAC is valid.
pub(super) struct EarlierReport {
    pub(super) file: PathBuf,
    /// The SHA-256 of the report's text.
    pub(super) sha256: Digest,
    pub(super) report: VerifyReport,
    is_page: bool,
}

impl EarlierReport {
    /// Reads the report in `file`, and checks that the keyring here has made it.
    ///
    /// # Errors
    /// When the file cannot be read, or its report is not authentic.
    pub(super) fn read(file: PathBuf, opened: &Opened) -> Result<Self, Failure> {
        let whole = read_text(&file, FILE_MAX).map_err(|failure| match failure.exit() {
            Exit::Damaged => failure.with_hint(NO_REPORT),
            _ => failure,
        })?;
        let text = text_in(&whole);
        let report = opened.read_report(text.as_bytes()).map_err(|error| refused(&error, &file))?;
        let is_page = text.len() < whole.len();
        Ok(Self { file, sha256: Digest::of(text.as_bytes()), report, is_page })
    }

    /// Returns the note about the parts of a page that are not authenticated.
    pub(super) fn note(&self) -> Option<String> {
        let file = self.file.display();
        self.is_page.then(|| {
            format!("{file} is a page: only the authenticated report in it was checked, and not what else it shows")
        })
    }
}

fn refused(error: &(impl Explain + std::fmt::Display), file: &Path) -> Failure {
    Failure::explained(&format!("{}: {error}", file.display()), error.explain())
}

/// Returns the report's text in an HTML page, or the whole text of another file. A browser that saves a page may write
/// the arrows of the text in another form.
fn text_in(file: &str) -> String {
    let in_page = file.split_once(BEFORE).and_then(|(_, rest)| rest.split_once(AFTER)).map(|(text, _)| text);
    in_page.map_or_else(|| file.to_owned(), |text| text.replace("&gt;", ">"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_found_in_a_page_however_a_browser_saves_it() {
        let text = "claviger/report/v1\n-> etcd 1 a\n--- AAAA\n";
        assert_eq!(text_in(text), text);
        let page = format!("<html><pre id=\"report\">{text}</pre> <pre>other</pre></html>");
        assert_eq!(text_in(&page), text);
        assert_eq!(text_in(&page.replace("-> ", "-&gt; ")), text);
        assert_eq!(text_in("<html></html>"), "<html></html>");
    }
}
