//! Prints two values side by side, as far as a person can read them.

/// The number of characters of a value in a line.
const WIDTH: usize = 36;
/// The number of lines of a picture. The value of a Secret takes about ten.
const LINES: usize = 16;

/// Returns a picture of `left` and `right` under their titles.
pub(crate) fn picture(left_title: &str, left: &[u8], right_title: &str, right: &[u8]) -> String {
    let (left_lines, right_lines) = (lines(left), lines(right));
    let count = left_lines.len().max(right_lines.len()).min(LINES);
    let mut out = format!("  {left_title:WIDTH$} | {right_title}\n  {} | {}\n", "-".repeat(WIDTH), "-".repeat(WIDTH));
    for index in 0..count {
        let line = |lines: &[String]| lines.get(index).cloned().unwrap_or_default();
        out.push_str(format!("  {:WIDTH$} | {}", line(&left_lines), line(&right_lines)).trim_end());
        out.push('\n');
    }
    out.push_str(format!("  {:WIDTH$} | {}", more(left), more(right)).trim_end());
    out
}

fn lines(value: &[u8]) -> Vec<String> {
    let character = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '·' };
    value.chunks(WIDTH).map(|chunk| chunk.iter().map(character).collect()).collect()
}

fn more(value: &[u8]) -> String {
    let shown = (WIDTH * LINES).min(value.len());
    let rest = value.len() - shown;
    if rest == 0 { format!("({} bytes)", value.len()) } else { format!("({rest} of {} bytes more)", value.len()) }
}
