//! Classifiers on frozen features.

use std::process::ExitCode;

use equimod_core::Model;
use equimod_eval::knn::KnnConfig;
use equimod_eval::logistic::{LogisticConfig, penalties};

use super::session::{Found, Session};
use crate::cli::{CropKind, EvalArgs, Knn, Logistic};
use crate::evaluation::page;
use crate::evaluation::{Evaluation, Outcome, Rows, beside};

/// What intervals and chance are.
const SUMMARY: &str = "Intervals are 95 % bootstrap intervals over test pictures; chance is what guessing the most frequent \
    classes gives.";

/// `eval knn`.
pub fn knn(arguments: &Knn) -> anyhow::Result<ExitCode> {
    let config = KnnConfig { k: arguments.k as usize, temperature: arguments.temperature };
    classified("knn", &arguments.common, CropKind::Centre, |evaluation, _| evaluation.knn(&config))
}

/// `eval logistic`.
pub fn logistic(arguments: &Logistic) -> anyhow::Result<ExitCode> {
    let config = LogisticConfig {
        penalties: penalties(arguments.penalties as usize),
        select_by_class: arguments.by_class,
        ..Default::default()
    };
    classified("logistic", &arguments.common, CropKind::Centre, |evaluation, _| evaluation.logistic(&config))
}

/// Runs a classifier on the model, and on the untrained network if it was asked for; `crop` is the protocol's own.
pub fn classified(
    protocol: &str,
    arguments: &EvalArgs,
    crop: CropKind,
    classify: impl Fn(&Evaluation, &Model) -> anyhow::Result<Vec<Outcome>>,
) -> anyhow::Result<ExitCode> {
    let session = Session::open(arguments, crop)?;
    let evaluation = Evaluation::new(&session.model, &session.splits, session.settings())?;
    let outcomes = classify(&evaluation, &session.model)?;
    let rows = |outcomes: &[Outcome]| {
        let of = |outcome: &Outcome| outcome.rows(&session.splits.name, arguments.seed, Rows::All);
        outcomes.iter().flat_map(of).collect::<Vec<_>>()
    };
    let mut found = rows(&outcomes);
    if let Some(untrained) = session.untrained()? {
        let evaluation = Evaluation::new(&untrained, &session.splits, session.settings())?;
        found = beside(found, &rows(&classify(&evaluation, &untrained)?));
    }
    let sections = page::sections(&evaluation, &outcomes, arguments.map)?;
    session.finish(protocol, Found { rows: found, sections, outcomes, summary: SUMMARY })
}
