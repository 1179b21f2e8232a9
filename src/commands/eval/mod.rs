//! `equimod eval`.

mod compare;
mod contenders;
mod next;
mod protocols;
mod session;
mod settings;
mod transfer;

use std::process::ExitCode;

use crate::cli::{Eval, EvalCommand};
use crate::process::launch::refuse_several;
pub use contenders::names;
pub use next::{Kept, after_evaluation};
pub use protocols::{Chosen, of as protocol_of};
pub use session::measure;

/// Evaluates models with a protocol.
pub fn run(arguments: &Eval) -> anyhow::Result<ExitCode> {
    refuse_several("eval")?;
    match &arguments.command {
        EvalCommand::Transfer(arguments) => transfer::run(arguments),
        EvalCommand::Compare(arguments) => compare::run(arguments),
        command => match protocols::of(command)? {
            Some(chosen) => session::run(&chosen),
            None => Ok(ExitCode::SUCCESS),
        },
    }
}
