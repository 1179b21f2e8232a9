//! `equimod eval`: one file a kind of protocol.

mod classify;
mod compare;
mod measures;
mod models;
mod session;
mod trained;
mod transfer;

use std::process::ExitCode;

use crate::cli::{Eval, EvalCommand};

/// Evaluates a model by one protocol.
pub fn run(arguments: &Eval) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        EvalCommand::Logistic(arguments) => classify::logistic(arguments),
        EvalCommand::Knn(arguments) => classify::knn(arguments),
        EvalCommand::Linear(arguments) => trained::linear(arguments),
        EvalCommand::Finetune(arguments) => trained::finetune(arguments),
        EvalCommand::FewShot(arguments) => measures::few_shot(arguments),
        EvalCommand::Equivariance(arguments) => measures::equivariance(arguments),
        EvalCommand::Params(arguments) => measures::params(arguments),
        EvalCommand::Retrieval(arguments) => measures::retrieval(arguments),
        EvalCommand::Health(arguments) => measures::health(arguments),
        EvalCommand::Transfer(arguments) => transfer::run(arguments),
        EvalCommand::Compare(arguments) => compare::run(arguments),
    }
}
