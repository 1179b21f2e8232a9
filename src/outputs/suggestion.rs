//! Commands that a result suggests.

use std::io;

use shlex::try_quote;

use super::console::{note, result};
use super::terminal::columns;

/// A command of this program that answers a next question, as it can be pasted into a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    words: Vec<String>,
    about: String,
}

impl Suggestion {
    /// The command with these arguments, quoted where a shell needs it.
    pub fn new<W: AsRef<str>>(arguments: impl IntoIterator<Item = W>) -> Self {
        // The name as it was called: with cargo, `equimod` is not in the search path.
        let program = std::env::args().next().unwrap_or_else(|| "equimod".into());
        Self { words: vec![quoted(&program)], about: String::new() }.with(arguments)
    }

    /// The command of this process.
    pub fn again() -> Self {
        Self::new(std::env::args().skip(1))
    }

    /// The command of this process without these arguments.
    pub fn again_without(arguments: &[String]) -> Self {
        Self::new(std::env::args().skip(1).filter(|argument| !arguments.contains(argument)))
    }

    /// The command of this process without an option and its value.
    pub fn again_without_option(option: &str) -> Self {
        Self::new(without(option, std::env::args().skip(1).collect()))
    }

    /// The command of this process with other values of some options.
    pub fn again_with(options: &[(&str, String)]) -> Self {
        let arguments = options
            .iter()
            .fold(std::env::args().skip(1).collect(), |arguments, (option, _)| without(option, arguments));
        Self::new(arguments).with(options.iter().flat_map(|(option, value)| [*option, value]))
    }

    /// The command with further arguments.
    pub fn with<W: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(arguments.into_iter().map(|word| quoted(word.as_ref())));
        self
    }

    /// The command with an option, unless it has it.
    pub fn with_option(self, option: &str) -> Self {
        if self.words.iter().any(|word| word == option) { self } else { self.with([option]) }
    }

    /// The command with a remark on what it answers.
    pub fn about(self, remark: &str) -> Self {
        Self { about: remark.into(), ..self }
    }

    /// What the command answers.
    pub fn remark(&self) -> &str {
        &self.about
    }

    /// The command below the word `Next`, or beside it if it is short and has no remark.
    ///
    /// # Errors
    ///
    /// If stdout cannot be written.
    pub fn print(&self) -> anyhow::Result<()> {
        let columns = columns(&io::stdout());
        let beside = self.lines("Next: ", columns);
        match beside.lines().count() {
            1 => result(&beside),
            _ => result(&format!("Next:\n{}", self.lines("  ", columns))),
        }
    }

    /// Prints the command behind `text` on stderr, or below it if it is long.
    pub fn note(&self, text: &str) {
        let columns = columns(&io::stderr());
        let beside = self.lines(text, columns);
        match beside.lines().count() {
            1 => note(&beside),
            _ => note(&format!("{}\n{}", text.trim_end(), self.lines("  ", columns))),
        }
    }

    /// The command behind `indent`, below its remark as a comment: not every shell takes comments behind a command. A
    /// command longer than `columns` has several lines, which a shell joins again.
    pub fn lines(&self, indent: &str, columns: Option<usize>) -> String {
        let margin = " ".repeat(indent.chars().count());
        let above = if self.about.is_empty() { String::new() } else { format!("{margin}# {}\n", self.about) };
        let whole = format!("{indent}{}", self.words.join(" "));
        let Some(columns) = columns.filter(|&columns| whole.chars().count() > columns) else { return above + &whole };
        let (mut text, mut line) = (above, indent.to_owned());
        for (number, word) in self.words.iter().enumerate() {
            // A line ends in a space and a backslash.
            let is_full = line.chars().count() + word.chars().count() + 2 > columns;
            if is_full && number > 0 {
                text += &format!("{line}\\\n");
                line = format!("{margin}  ");
            }
            line += &format!("{word} ");
        }
        text + line.trim_end()
    }
}

/// Arguments without an option and its value.
fn without(option: &str, arguments: Vec<String>) -> Vec<String> {
    let (mut kept, mut is_value) = (Vec::new(), false);
    for argument in arguments {
        let is_option = argument == option;
        if !is_value && !is_option && !argument.starts_with(&format!("{option}=")) {
            kept.push(argument);
        }
        is_value = is_option;
    }
    kept
}

/// Commands as pages show them, each in a line below its remark.
pub fn on_page<'a>(suggestions: impl IntoIterator<Item = &'a Suggestion>) -> Vec<String> {
    suggestions.into_iter().map(|one| one.lines("", None)).collect()
}

/// Prints commands below the word `Next`.
///
/// # Errors
///
/// If stdout cannot be written.
pub fn print_all(suggestions: &[Suggestion]) -> anyhow::Result<()> {
    let columns = columns(&io::stdout());
    let lines: Vec<String> = suggestions.iter().map(|one| one.lines("  ", columns)).collect();
    result(&format!("\nNext:\n{}", lines.join("\n")))
}

/// A word of a command, quoted where a shell needs it. A word with a NUL, which no argument has, stays as it is.
pub fn quoted(word: &str) -> String {
    try_quote(word).map_or_else(|_| word.to_owned(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_left_out_with_its_value() {
        let of = |words: &str| without("--max-lr", words.split(' ').map(str::to_owned).collect()).join(" ");
        assert_eq!(of("find-lr a --max-lr 3 --steps 4"), "find-lr a --steps 4");
        assert_eq!(of("find-lr --max-lr=3 a"), "find-lr a");
        assert_eq!(of("find-lr --max 3"), "find-lr --max 3");
    }

    #[test]
    fn long_commands_have_several_lines_that_a_shell_joins() {
        let words = ["eval", "compare", "out/a b", "out/c"].map(quoted).to_vec();
        let suggestion = Suggestion { words, about: "by pairs".into() };
        let whole = "  # by pairs\n  eval compare 'out/a b' out/c";
        assert_eq!(suggestion.lines("  ", None), whole);
        assert_eq!(suggestion.lines("  ", Some(30)), whole);
        let narrow = suggestion.lines("  ", Some(25));
        assert_eq!(narrow, "  # by pairs\n  eval compare \\\n    'out/a b' out/c");
        let joined = narrow.lines().skip(1).collect::<Vec<_>>().join("\n").replace("\\\n", "");
        assert_eq!(shlex::split(&joined).unwrap(), ["eval", "compare", "out/a b", "out/c"]);
        assert_eq!(Suggestion::new(["runs"]).with(["a"]).words[1..], ["runs", "a"]);
    }
}
