//! `equimod eval`: one file a kind of protocol.

mod classify;
mod compare;
mod models;
mod session;
mod transfer;

use std::process::ExitCode;

use crate::cli::{Eval, EvalCommand};

/// Evaluates a model by one protocol.
pub fn run(arguments: &Eval) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        EvalCommand::Logistic(arguments) => classify::logistic(arguments),
        EvalCommand::Knn(arguments) => classify::knn(arguments),
        EvalCommand::Transfer(arguments) => transfer::run(arguments),
        EvalCommand::Compare(arguments) => compare::run(arguments),
    }
}
