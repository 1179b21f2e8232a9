//! Few-shot episodes on test pictures.

use equimod_eval::ResultRow;
use equimod_eval::few_shot::{Classifier, FewShotConfig, episodes, evaluate};

use super::Evaluation;
use crate::output;

/// The classifiers of an episode, as they are called in results.
const CLASSIFIERS: [(&str, Classifier); 3] = [
    ("logistic", Classifier::Logistic),
    ("one versus rest", Classifier::OneVersusRest),
    ("prototype", Classifier::Prototype),
];

impl Evaluation<'_> {
    /// The accuracy of episodes drawn from the test pictures of each task. A task with too few classes is left out and named,
    /// unless it is the only one.
    pub fn few_shot(&self, config: &FewShotConfig) -> anyhow::Result<Vec<ResultRow>> {
        let mut rows = Vec::new();
        let mut failed = None;
        for task in self.tasks()? {
            let drawn = match episodes(&task.test.labels, config, self.settings.seed) {
                Ok(drawn) => drawn,
                Err(error) => {
                    output::note(&format!("{} is left out: {error}", task.name));
                    failed = Some(error);
                    continue;
                }
            };
            let names: Vec<&str> = drawn.left_out.iter().map(|&c| task.classes[c as usize].as_str()).collect();
            if !names.is_empty() {
                output::note(&format!("{}: classes with too few pictures: {}", task.name, names.join(", ")));
            }
            for (name, classifier) in CLASSIFIERS {
                let found = evaluate(&task.test, &drawn, classifier)?;
                rows.push(ResultRow {
                    protocol: format!("few-shot, {name}"),
                    data: self.splits.name.clone(),
                    task: task.name.clone(),
                    metric: format!("{}-way {}-shot accuracy", config.ways, config.shots),
                    value: found.mean,
                    interval: Some((found.mean - found.half_width, found.mean + found.half_width)),
                    chance: Some(1.0 / config.ways as f64),
                    detail: format!(
                        "{} episodes of {} queries a class; {}; left out: {}",
                        config.episodes,
                        config.queries,
                        task.tested_on(),
                        if names.is_empty() { "no class".into() } else { names.join(", ") }
                    ),
                    ..Default::default()
                });
            }
        }
        match failed {
            Some(error) if rows.is_empty() => Err(error.into()),
            _ => Ok(rows),
        }
    }
}
