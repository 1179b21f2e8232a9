//! Few-shot episodes on test images.

use super::{Evaluation, LabeledTask, Measurement, Protocol, page};
use crate::few_shot::{EpisodeClassifier, EpisodeConfig, Episodes, episodes, evaluate, usable_classes};
use crate::report::Section;
use crate::results::FEW_SHOT;
use crate::{Error, Result, ResultRow};

/// Few-shot classification of episodes drawn from the test images of each task.
///
/// Episodes have fewer classes where fewer have enough images. A task with fewer than two is skipped with a warning,
/// unless it is the only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FewShotProtocol {
    /// Classes of an episode. Default: 5.
    pub ways: usize,
    /// Support images of each class; one set of episodes for each number. Default: 1 and 5.
    pub shots: Vec<usize>,
    /// Query images of each class. Default: 16.
    pub queries: usize,
    /// Episodes of each set. Default: 2000.
    pub episodes: usize,
}

impl Default for FewShotProtocol {
    fn default() -> Self {
        let EpisodeConfig { ways, queries, episodes, .. } = EpisodeConfig::default();
        Self { ways, shots: vec![1, 5], queries, episodes }
    }
}

/// The classifiers of an episode, and their names in results.
const CLASSIFIERS: [(&str, EpisodeClassifier); 3] = [
    ("logistic", EpisodeClassifier::Logistic),
    ("one versus rest", EpisodeClassifier::OneVersusRest),
    ("prototype", EpisodeClassifier::Prototype),
];

impl Protocol for FewShotProtocol {
    fn name(&self) -> &'static str {
        "few-shot"
    }

    fn summary(&self) -> &'static str {
        "Intervals are 95 % intervals of the mean over episodes, which share images."
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn measure(&self, evaluation: &Evaluation) -> Result<Measurement> {
        let tasks = evaluation.labeled_tasks()?;
        let (mut rows, mut failed) = (Vec::new(), None);
        for &shots in &self.shots {
            let Self { ways, queries, episodes, .. } = *self;
            match of_shots(evaluation, &tasks, &EpisodeConfig { ways, shots, queries, episodes }) {
                Ok(more) => rows.extend(more),
                Err(error @ Error::Protocol(_)) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(error) if rows.is_empty() => Err(error),
            _ => Ok(rows.into()),
        }
    }

    fn sections(
        &self,
        evaluation: &Evaluation,
        _measurement: &Measurement,
        _untrained: Option<&Measurement>,
    ) -> Result<Vec<Section>> {
        page::neighbor_sections(evaluation, &evaluation.labeled_tasks()?.iter().collect::<Vec<_>>())
    }
}

/// The rows of all tasks for one number of shots.
fn of_shots(evaluation: &Evaluation, tasks: &[LabeledTask], config: &EpisodeConfig) -> Result<Vec<ResultRow>> {
    let mut rows = Vec::new();
    let mut failed = None;
    for task in tasks {
        let config = with_available_classes(evaluation, task, config);
        match episodes(&task.test.labels, &config, evaluation.seed) {
            Ok(drawn) => rows.extend(of_task(evaluation, task, &config, &drawn)?),
            Err(error) => {
                evaluation.observer.log(&format!("{}, {}-shot, is left out: {error}", task.name, config.shots));
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if rows.is_empty() => Err(error),
        _ => Ok(rows),
    }
}

/// The settings with as many queries as two classes have images for, and no more classes than have enough images; a
/// reduction is logged.
fn with_available_classes(evaluation: &Evaluation, task: &LabeledTask, config: &EpisodeConfig) -> EpisodeConfig {
    let (name, labels, shots) = (&task.name, &task.test.labels, config.shots);
    let enough = |queries: &usize| usable_classes(labels, shots + queries) >= 2;
    let Some(queries) = (1..=config.queries).rev().find(enough) else { return *config };
    if queries < config.queries {
        evaluation.observer.log(&format!(
            "{name}, {shots}-shot: fewer than two classes have at least {} test images; episodes have {queries} {} a \
             class instead of {}",
            shots + config.queries,
            if queries == 1 { "query" } else { "queries" },
            config.queries
        ));
    }
    let images = shots + queries;
    let ways = config.ways.min(usable_classes(labels, images));
    if ways < config.ways {
        evaluation.observer.log(&format!(
            "{name}, {shots}-shot: only {ways} classes have at least {images} test images; episodes have {ways} classes instead of {}",
            config.ways
        ));
    }
    EpisodeConfig { ways, queries, ..*config }
}

fn of_task(
    evaluation: &Evaluation,
    task: &LabeledTask,
    config: &EpisodeConfig,
    drawn: &Episodes,
) -> Result<Vec<ResultRow>> {
    let small: Vec<&str> = drawn.left_out.iter().map(|&class| task.classes[class as usize].as_str()).collect();
    if !small.is_empty() {
        evaluation.observer.log(&format!("{}: classes with too few images: {}", task.name, small.join(", ")));
    }
    let left_out = if small.is_empty() { String::new() } else { format!("; left out: {}", small.join(", ")) };
    let row = |(name, classifier): (&str, EpisodeClassifier)| {
        let scores = evaluate(&task.test, drawn, classifier)?;
        Ok(ResultRow {
            protocol: format!("{FEW_SHOT}{name}"),
            data: evaluation.splits.name.clone(),
            task: task.name.clone(),
            metric: format!("{}-way {}-shot accuracy", config.ways, config.shots),
            value: scores.mean,
            interval: Some((scores.mean - scores.half_width, scores.mean + scores.half_width)),
            chance: Some(1.0 / config.ways as f64),
            detail: format!(
                "{} episodes of {} {} a class; {}{left_out}",
                config.episodes,
                config.queries,
                if config.queries == 1 { "query" } else { "queries" },
                task.test_description(),
            ),
            ..Default::default()
        })
    };
    CLASSIFIERS.into_iter().map(row).collect()
}
