//! Retrieval by features among test pictures.

use equimod_eval::ResultRow;
use equimod_eval::metrics::bootstrap_mean;
use equimod_eval::recall::{same_class, same_class_chance};

use super::Evaluation;

/// Ranks down to which a picture of the same class counts as found.
const RANKS: [usize; 3] = [1, 5, 10];

impl Evaluation<'_> {
    /// Recall of a picture of the same class among the other test pictures, for each task.
    pub fn recall(&self) -> anyhow::Result<Vec<ResultRow>> {
        let mut rows = Vec::new();
        for task in self.tasks()? {
            let (asked, hits) = same_class(&task.test, &RANKS)?;
            for (k, hits) in RANKS.into_iter().zip(hits) {
                let row = ResultRow {
                    protocol: "retrieval by features".into(),
                    data: self.splits.name.clone(),
                    task: task.name.clone(),
                    metric: format!("recall@{k}"),
                    chance: Some(same_class_chance(&task.test.labels, task.classes.len(), k)),
                    detail: format!("same class, cosine, {} queries; {}", asked.len(), task.tested_on()),
                    ..Default::default()
                };
                rows.push(row.with(bootstrap_mean(&hits, self.settings.seed)));
            }
        }
        Ok(rows)
    }
}
