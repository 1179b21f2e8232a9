//! Lines that fit the terminal.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use terminal_size::{Width, terminal_size_of};
use textwrap::{Options, fill};

/// Columns of a terminal that does not say its own.
const COLUMNS: usize = 80;

/// Columns of the terminal behind `output`; `None` if it is none. The last column stays free, because some terminals
/// wrap behind it.
pub fn columns(output: &(impl AsFd + IsTerminal)) -> Option<usize> {
    let width = || terminal_size_of(output).map_or(COLUMNS, |(Width(width), _)| usize::from(width));
    output.is_terminal().then(|| width().saturating_sub(1))
}

/// `text` with its long lines broken between words. A line that ends in a command stays whole, so that it can be
/// pasted. Without `columns`, for files and other programs, the text is unchanged.
pub fn wrapped(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return text.to_owned() };
    let line = |line: &str| {
        if line.contains(": equimod ") {
            return line.to_owned();
        }
        let indent = " ".repeat(line.len() - line.trim_start_matches(' ').len() + 2);
        fill(line, Options::new(columns).subsequent_indent(&indent).break_words(false))
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_between_words_and_commands_do_not() {
        let text = "short\n  one two three four\ngo on with: equimod pretrain --out folder --resume\n";
        let narrow = "short\n  one two\n    three\n    four\ngo on with: equimod pretrain --out folder --resume\n";
        assert_eq!(wrapped(text, Some(10)), narrow);
        assert_eq!(wrapped(text, None), text);
        assert_eq!(wrapped(text, Some(60)), text);
    }
}
