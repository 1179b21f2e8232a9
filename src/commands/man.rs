//! `equimod man`.

use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff};

use crate::cli::Cli;
use crate::outputs::console;
use crate::process::exit::Usage;

/// Prints one manual page with every command, or that of the command with these names.
///
/// # Errors
///
/// If there is no such command, or stdout cannot be written.
pub fn run(names: &[String]) -> anyhow::Result<ExitCode> {
    let page = if names.is_empty() { page(Cli::command())? } else { page_of(Cli::command(), names)? };
    console::result(&page)?;
    Ok(ExitCode::SUCCESS)
}

fn page_of(mut command: Command, names: &[String]) -> anyhow::Result<String> {
    command.build();
    let mut found = &command;
    // As the pages of git, eval-few-shot may stand for eval few-shot.
    let split = |name: &String| name.split_once('-').map(|(first, second)| [first, second].map(str::to_owned));
    let parts =
        names.first().filter(|name| names.len() == 1 && command.find_subcommand(name).is_none()).and_then(split);
    let names = parts.as_ref().map_or(names, |parts| parts);
    for name in names {
        let unknown = || Usage(format!("there is no command {}; see `equimod --help`", names.join(" ")));
        found = found.find_subcommand(name).ok_or_else(unknown)?;
    }
    let mut bytes = Vec::new();
    Man::new(found.clone()).render(&mut bytes)?;
    Ok(String::from_utf8(bytes)?)
}

fn page(mut command: Command) -> anyhow::Result<String> {
    command.build();
    let mut bytes = Vec::new();
    Man::new(command.clone()).render(&mut bytes)?;
    for subcommand in command.get_subcommands().filter(|subcommand| is_shown(subcommand)) {
        add(subcommand, "equimod", &mut bytes)?;
    }
    Ok(String::from_utf8(bytes)?)
}

fn is_shown(command: &Command) -> bool {
    !command.is_hide_set() && command.get_name() != "help"
}

/// Adds the sections of a command and of those below it.
fn add(command: &Command, above: &str, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    let name = format!("{above} {}", command.get_name());
    let mut heading = Roff::new();
    heading.control("SH", [name.to_uppercase().as_str()]);
    if let Some(about) = command.get_about() {
        heading.text([Inline::Roman(about.to_string())]);
    }
    heading.to_writer(bytes)?;
    let man = Man::new(command.clone());
    man.render_synopsis_section(bytes)?;
    if command.get_subcommands().any(is_shown) {
        return command
            .get_subcommands()
            .filter(|below| is_shown(below))
            .try_for_each(|below| add(below, &name, bytes));
    }
    man.render_options_section(bytes)?;
    Ok(man.render_extra_section(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_with_its_options() {
        let page = page(Cli::command()).unwrap();
        for part in ["EQUIMOD PRETRAIN", "EQUIMOD EVAL FEW", "\\-\\-recipe", "EQUIMOD MAN", "Exit codes"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let of = |names: &[&str]| page_of(Cli::command(), &names.iter().map(|&name| name.into()).collect::<Vec<_>>());
        assert!(of(&["eval", "knn"]).unwrap().contains("\\-\\-temperature"));
        assert_eq!(of(&["eval-few-shot"]).unwrap(), of(&["eval", "few-shot"]).unwrap());
        assert!(of(&["find-lr"]).is_ok() && of(&["data-nothing"]).is_err());
        assert!(of(&["eval", "nn"]).unwrap_err().to_string().contains("no command eval nn"));
    }
}
