//! `equimod eval`.

mod compare;
mod contenders;
mod protocols;
mod session;
mod transfer;

use std::process::ExitCode;

use crate::cli::{Eval, EvalCommand};

/// Evaluates models with a protocol.
pub fn run(arguments: &Eval) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        EvalCommand::Logistic(arguments) => protocols::logistic(arguments),
        EvalCommand::Knn(arguments) => protocols::knn(arguments),
        EvalCommand::Linear(arguments) => protocols::linear(arguments),
        EvalCommand::Finetune(arguments) => protocols::finetune(arguments),
        EvalCommand::FewShot(arguments) => protocols::few_shot(arguments),
        EvalCommand::Equivariance(arguments) => protocols::equivariance(arguments),
        EvalCommand::Params(arguments) => protocols::params(arguments),
        EvalCommand::Retrieval(arguments) => protocols::retrieval(arguments),
        EvalCommand::Health(arguments) => protocols::health(arguments),
        EvalCommand::Transfer(arguments) => transfer::run(arguments),
        EvalCommand::Compare(arguments) => compare::run(arguments),
    }
}
