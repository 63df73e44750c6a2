//! Reads `docs/drill.md` into chapters with their commands.

/// A chapter that has commands.
pub(crate) struct Chapter {
    pub(crate) heading: &'static str,
    /// The paragraphs and the blocks of commands, in their order.
    pub(crate) parts: Vec<Part>,
}

pub(crate) enum Part {
    Text(&'static str),
    Commands(Vec<String>),
}

/// Returns the chapters of the page that have commands.
pub(crate) fn chapters(page: &'static str) -> Vec<Chapter> {
    let all = page.split("\n## ").skip(1).filter_map(|text| text.split_once('\n'));
    all.map(|(heading, text)| Chapter { heading, parts: parts(text) })
        .filter(|chapter| chapter.parts.iter().any(|part| matches!(part, Part::Commands(_))))
        .collect()
}

fn parts(text: &'static str) -> Vec<Part> {
    let mut parts = Vec::new();
    for (number, piece) in text.split("```").enumerate() {
        match piece.strip_prefix("sh\n").filter(|_| number % 2 == 1) {
            Some(block) => parts.push(Part::Commands(commands(block))),
            None if number % 2 == 0 && !piece.trim().is_empty() => parts.push(Part::Text(piece.trim())),
            None => {}
        }
    }
    parts
}

/// Returns the commands of a block. A line that ends in a backslash goes on in the next one.
fn commands(block: &str) -> Vec<String> {
    let lines = block.trim_end().replace("\\\n", "\\\u{0}");
    lines.lines().map(|line| line.replace("\\\u{0}", "\\\n")).collect()
}
