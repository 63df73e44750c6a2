//! Checks the attributes of error types.

/// Returns the public error enums of a file without `#[non_exhaustive]`. Somebody who matches on an error must expect
/// that a later version has more variants.
pub fn exhaustive(text: &str) -> Vec<&str> {
    let mut attributes = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.push_str(line);
        } else {
            let is_error = attributes.contains("thiserror::Error") && !attributes.contains("non_exhaustive");
            found.extend(line.strip_prefix("pub enum ").filter(|_| is_error));
            attributes.clear();
        }
    }
    found
}
