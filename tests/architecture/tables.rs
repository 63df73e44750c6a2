//! The tables of modules in README.md and in the header of `src/lib.rs`.

/// Returns the rows of README's table of modules: what its first column names, and what its last one names.
pub fn readme(page: &str) -> Vec<(String, Vec<String>)> {
    let table = page.lines().skip_while(|line| !line.starts_with("| in `src/` |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(str::to_owned).collect::<Vec<_>>();
    rows.map(|row| {
        let cells = cells(row);
        (quoted(&cells[0]).join(" "), quoted(cells.last().unwrap()))
    })
    .collect()
}

/// Returns the modules that the header of `src/lib.rs` lists.
pub fn header(code: &str) -> Vec<String> {
    code.lines()
        .filter_map(|line| line.strip_prefix("//! | `"))
        .filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect()
}

/// Returns the texts in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
