//! Lines that fit the terminal.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use terminal_size::{Width, terminal_size_of};
use textwrap::{Options, WordSeparator, WordSplitter, fill};

/// Columns of a terminal that does not say its own.
const COLUMNS: usize = 80;

/// Columns of the terminal behind `output`; `None` if it is none. The last column stays free, because some terminals
/// wrap behind it.
pub fn columns(output: &(impl AsFd + IsTerminal)) -> Option<usize> {
    let width = || terminal_size_of(output).map_or(COLUMNS, |(Width(width), _)| usize::from(width));
    output.is_terminal().then(|| width().saturating_sub(1))
}

/// `text` with its long lines broken between words; a second column goes on below its beginning. A line that ends in a command stays whole, so that it can be
/// pasted. Without `columns`, for files and other programs, the text is unchanged.
pub fn wrapped(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return text.to_owned() };
    let line = |line: &str| {
        if line.contains(": equimod ") {
            return line.to_owned();
        }
        let indent =
            " ".repeat(second_column(line).filter(|&start| 2 * start < columns).unwrap_or(first_column(line) + 2));
        // A number stays with its per cent sign.
        let kept = line.replace(" %", "\u{a0}%");
        let words = WordSeparator::AsciiSpace;
        // Paths and options stay whole.
        let options = Options::new(columns).subsequent_indent(&indent).break_words(false);
        let options = options.word_separator(words).word_splitter(WordSplitter::NoHyphenation);
        fill(&kept, options).replace('\u{a0}', " ")
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Number of spaces at the start of a line.
fn first_column(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Where the second column of a line begins, in characters: behind the first gap of several spaces.
fn second_column(line: &str) -> Option<usize> {
    let gap = first_column(line) + line.trim_start_matches(' ').find("  ")?;
    let (left, right) = line.split_at(gap);
    Some(left.chars().count() + first_column(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_between_words_and_commands_do_not() {
        let text = "short\n  one two three four\ngo on with: equimod pretrain --out folder --resume\n";
        let narrow = "short\n  one two\n    three\n    four\ngo on with: equimod pretrain --out folder --resume\n";
        assert_eq!(wrapped(text, Some(10)), narrow);
        assert_eq!(wrapped("try --max-lr 1000", Some(10)), "try\n  --max-lr\n  1000");
        assert_eq!(wrapped("it is 95 % of all", Some(8)), "it is\n  95 %\n  of all");
        assert_eq!(wrapped("  knn   one two three", Some(17)), "  knn   one two\n        three");
        assert_eq!(wrapped("a long name  one two", Some(16)), "a long name  one\n  two");
        assert_eq!(wrapped(text, None), text);
        assert_eq!(wrapped(text, Some(60)), text);
    }
}
