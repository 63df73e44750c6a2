//! `claviger runbook`: prints `docs/runbook.md` or its chapters, for a node that has only the program.

use clap::Args;

use super::{
    failure::{Exit, Failure},
    output,
};

const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// Print what to do when something is lost, broken or leaked
#[derive(Args)]
#[command(after_help = "\
Examples:
  claviger runbook | less
  claviger runbook passphrase
  claviger runbook plugin is down")]
pub(super) struct RunbookArgs {
    /// Words of the title of a chapter [default: the whole runbook]
    #[arg(value_name = "WORDS")]
    words: Vec<String>,
}

/// Runs `claviger runbook`.
///
/// # Errors
/// When no chapter has a title with these words.
pub(super) fn run(args: &RunbookArgs) -> Result<Exit, Failure> {
    if args.words.is_empty() {
        output::text(RUNBOOK)?;
        return Ok(Exit::Done);
    }
    let words = args.words.join(" ");
    let found: Vec<&str> = chapters().filter(|chapter| has(title(chapter), &words)).map(str::trim_end).collect();
    if found.is_empty() {
        let titles: Vec<&str> = chapters().map(title).collect();
        let message = format!("no chapter of the runbook has {words:?} in its title");
        return Err(Failure::new(Exit::Usage, &message, format!("the chapters are: {}", titles.join("; "))));
    }
    output::text(&format!("{}\n", found.join("\n\n")))?;
    Ok(Exit::Done)
}

/// Returns the chapters, each from its title to its last line.
fn chapters() -> impl Iterator<Item = &'static str> {
    const MARK: &str = "\n## ";
    let starts = RUNBOOK.match_indices(MARK).map(|(at, _)| at + 1);
    starts.map(|start| {
        let chapter = &RUNBOOK[start..];
        &chapter[..chapter.find(MARK).map_or(chapter.len(), |end| end + 1)]
    })
}

fn title(chapter: &str) -> &str {
    chapter.lines().next().unwrap_or_default().trim_start_matches("## ")
}

/// Whether the title has the words, in capitals or not.
fn has(title: &str, words: &str) -> bool {
    title.to_lowercase().contains(&words.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chapters_are_the_whole_runbook_but_its_introduction() {
        let all: String = chapters().collect();
        assert!(RUNBOOK.ends_with(&all) && chapters().count() > 10);
        assert_eq!(chapters().map(title).next(), Some("First set-up"));
        assert!(chapters().all(|chapter| chapter.matches("\n## ").count() == 0));
    }

    #[test]
    fn a_chapter_is_found_by_words_of_its_title() {
        let found = |words: &str| chapters().map(title).filter(|title| has(title, words)).collect::<Vec<_>>();
        assert_eq!(found("passphrase"), ["The passphrase is lost"]);
        assert_eq!(found("directory was DELETED"), ["The directory was deleted"]);
        assert!(found("is lost").len() > 1 && found("unicorn").is_empty());
    }
}
