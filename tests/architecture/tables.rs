//! Reads the tables of modules in README.md and in the header of `src/lib.rs`.

/// The beginning of the last cell of a module that uses nearly all modules below it.
const ALL_EXCEPT: &str = " all modules below, except ";

/// Returns the rows of README's table of modules: the module in the first column, and the modules in `modules` that it
/// uses. `modules` are all modules, the highest first.
pub fn readme(page: &str, modules: &[&str]) -> Vec<(String, Vec<String>)> {
    let table = page.lines().skip_while(|line| !line.starts_with("| in `src/` |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(str::to_owned).collect::<Vec<_>>();
    rows.map(|row| {
        let cells = cells(row);
        let name = quoted(&cells[0]).join(" ");
        let uses = match cells.last().unwrap().strip_prefix(ALL_EXCEPT) {
            Some(except) => below(&name, modules, &quoted(except)),
            None => quoted(cells.last().unwrap()),
        };
        (name, uses)
    })
    .collect()
}

fn below(name: &str, modules: &[&str], except: &[String]) -> Vec<String> {
    let rest = modules.iter().skip_while(|module| **module != name.trim_end_matches('/')).skip(1);
    rest.map(|module| (*module).to_owned()).filter(|module| !except.contains(module)).collect()
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
