//! Exit codes: 0 done · 1 failed · 2 usage or recipe · 3 data · 4 diverged · 75 interrupted after a checkpoint ·
//! 130 interrupted.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::{of_another_command, of_another_program, of_images};
use crate::outputs::console;

/// Interrupted after a checkpoint: a batch system may requeue the run (`EX_TEMPFAIL`).
pub const INTERRUPTED: u8 = 75;
/// A second interrupt, before the checkpoint was written.
pub const KILLED: i32 = 130;

/// Any other failure.
pub const FAILED: u8 = 1;
const USAGE: u8 = 2;
/// Unusable data.
pub const DATA: u8 = 3;
/// Training diverged.
pub const DIVERGED: u8 = 4;

/// A mistake in the command line.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Message of the last panic.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps panic messages for [`of_panic`] instead of printing them, since most panics become errors on their way, such
/// as those of another crate on a damaged file. With `RUST_BACKTRACE` set, they are printed as usual.
pub fn keep_panics() {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|panic| {
            *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.to_string().replace('\n', " "));
        }));
    }
}

/// Reports an uncaught panic.
pub fn of_panic() -> ExitCode {
    console::error(&format!("a defect of equimod, please report it: {}", last_panic()));
    ExitCode::from(FAILED)
}

/// Message of the last panic.
pub fn last_panic() -> String {
    PANIC.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
}

/// Similarity of two options, from 0 to 1, below which one is no likely mistake for the other.
const SIMILAR: f64 = 0.75;

/// Removes suggestions that are no likely mistakes in typing.
fn remove_tips(error: &mut clap::Error) {
    error.remove(ContextKind::Suggested);
    if let (Some(ContextValue::String(near)), Some(ContextValue::String(wrong))) =
        (error.get(ContextKind::SuggestedArg), error.get(ContextKind::InvalidArg))
        && strsim::normalized_damerau_levenshtein(near, wrong) < SIMILAR
    {
        error.remove(ContextKind::SuggestedArg);
        // It names the suggestion as if it were given.
        error.remove(ContextKind::Usage);
    }
}

/// Prints clap's message, and returns the exit code: success for help and version.
pub fn of_usage(mut error: clap::Error) -> ExitCode {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // The help itself is no error, and no command was run.
        let _ = error.print();
        return ExitCode::from(USAGE);
    }
    let answers = [of_images, of_another_program, of_another_command];
    if let Some(text) = answers.into_iter().find_map(|answer| answer(&error)) {
        console::error(&text);
        return ExitCode::from(USAGE);
    }
    if error.use_stderr() {
        remove_tips(&mut error);
        console::error(error.render().to_string().trim_end().trim_start_matches("error: "));
        return ExitCode::from(USAGE);
    }
    // Printing help fails only if the output is closed.
    let _ = error.print();
    ExitCode::SUCCESS
}

/// Prints the error (with `verbose`, also its causes), and returns the exit code.
pub fn of_error(error: &anyhow::Error, verbose: bool) -> ExitCode {
    if console::is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    console::error(&error.to_string());
    if verbose {
        error.chain().skip(1).for_each(|reason| console::error(&format!("because: {reason}")));
    }
    ExitCode::from(code_of(error))
}

/// Exit code of an error.
pub fn code_of(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code).unwrap_or(FAILED)
}

fn code(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    use equimod_eval::Error as Eval;
    use equimod_train::Error as Train;
    if error.is::<Usage>() {
        return Some(USAGE);
    }
    if let Some(error) = error.downcast_ref::<equimod_data::Error>() {
        return Some(if matches!(error, equimod_data::Error::Config(_)) { USAGE } else { DATA });
    }
    match error.downcast_ref::<Train>() {
        Some(Train::Recipe(_) | Train::RunDirectory(_)) => return Some(USAGE),
        Some(Train::Data(_) | Train::DataSet(_)) => return Some(DATA),
        Some(Train::Diverged { .. }) => return Some(DIVERGED),
        _ => {}
    }
    match error.downcast_ref::<Eval>() {
        Some(Eval::Data(_) | Eval::Protocol(_)) => Some(DATA),
        _ => None,
    }
}
