//! Nearest neighbours across the two designs of the bundled pictures.

use equimod_data::Dataset;
use equimod_eval::metrics::bootstrap_mean;
use equimod_eval::recall::partner_hits;
use equimod_eval::{Features, ResultRow};

use super::Evaluation;

/// Ranks down to which a partner counts as found.
const RANKS: [usize; 2] = [1, 5];

/// A set of pictures in both designs.
pub struct Pairs {
    /// `flags`: all flags; `cross-design`: the test pictures.
    pub name: &'static str,
    /// The centred features of both designs, in the same order.
    designs: [Features; 2],
    about: String,
}

impl Pairs {
    /// For each pair of pictures, the share of its two directions in which the partner is among the `k` nearest of the other
    /// design. (The directions are not independent, so that pairs are what is resampled.)
    pub fn hits(&self, k: usize) -> anyhow::Result<Vec<f64>> {
        let [one, other] = &self.designs;
        let ways = [partner_hits(other, one, k)?, partner_hits(one, other, k)?];
        Ok(ways[0].iter().zip(&ways[1]).map(|(there, back)| (there + back) / 2.0).collect())
    }
}

impl Evaluation<'_> {
    /// The sets of pictures in two designs, where the source has such.
    pub fn pairs(&self) -> anyhow::Result<Vec<Pairs>> {
        let (Some(designs), Some(test), Some(features)) = (&self.splits.designs, &self.splits.test, &self.test) else {
            return Ok(Vec::new());
        };
        let flags = paired(&self.train, self.splits.train.as_ref(), Some(designs.one_shot))?;
        let flags = joined(flags, paired(features, test.as_ref(), Some(designs.one_shot))?)?;
        let sets = [
            ("flags", "all flags, most of which were trained on", flags),
            ("cross-design", "test pictures", paired(features, test.as_ref(), None)?),
        ];
        let centred = |(name, which, sets): (_, _, [Features; 2])| {
            let about = format!("{}, {which}", designs.about);
            Pairs { name, designs: sets.map(|set| set.centred()), about }
        };
        Ok(sets.into_iter().map(centred).collect())
    }

    /// Recall across the designs, over both directions.
    pub fn cross_design(&self) -> anyhow::Result<Vec<ResultRow>> {
        let mut rows = Vec::new();
        for pairs in self.pairs()? {
            let count = pairs.designs[0].rows();
            for k in RANKS {
                let row = ResultRow {
                    protocol: "retrieval".into(),
                    data: self.splits.name.clone(),
                    task: pairs.name.into(),
                    metric: format!("recall@{k}"),
                    chance: Some(k as f64 / count as f64),
                    detail: format!("{}, centred features, {count} pictures each", pairs.about),
                    ..Default::default()
                };
                rows.push(row.with(bootstrap_mean(&pairs.hits(k)?, self.settings.seed)));
            }
        }
        Ok(rows)
    }
}

/// The features of both designs in the same order; with `task`, of the pictures that belong to it.
fn paired(features: &Features, dataset: &dyn Dataset, task: Option<&str>) -> anyhow::Result<[Features; 2]> {
    let task = task.map(|task| dataset.task(task)).transpose()?;
    let half = dataset.len() / 2;
    let chosen: Vec<usize> = (0..half).filter(|&i| task.is_none_or(|task| dataset.label(task, i).is_some())).collect();
    let other: Vec<usize> = chosen.iter().map(|i| i + half).collect();
    Ok([features.select(&chosen), features.select(&other)])
}

fn joined(a: [Features; 2], b: [Features; 2]) -> anyhow::Result<[Features; 2]> {
    let [a0, a1] = a;
    let [b0, b1] = b;
    Ok([a0.joined(&b0)?, a1.joined(&b1)?])
}
