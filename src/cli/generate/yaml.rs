//! Prints documents for Kubernetes, as YAML or as JSON.

use serde::Serialize;

use super::super::{
    Format, Global,
    failure::{Exit, Failure},
    output,
};

/// Prints a document for Kubernetes: as YAML, or as JSON with `--output json`.
pub(super) fn print(document: &impl Serialize, global: &Global) -> Result<Exit, Failure> {
    match global.output {
        Format::Json => output::json(document)?,
        Format::Text => output::text_line(yaml(document)?.trim_end())?,
    }
    Ok(Exit::Done)
}

/// Returns the document as YAML.
#[cfg(feature = "scan")]
pub(super) fn yaml(document: &impl Serialize) -> Result<String, Failure> {
    serde_saphyr::to_string(document).map_err(|error| Failure::new(Exit::Usage, &error, None))
}

/// Returns the document as JSON, which is valid YAML.
#[cfg(not(feature = "scan"))]
pub(super) fn yaml(document: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(document).map_err(|error| Failure::new(Exit::Usage, &error, None))
}
