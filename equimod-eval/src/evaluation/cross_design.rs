//! Nearest neighbors across two designs of the same things.

use equimod_data::{Dataset, Designs};

use super::Evaluation;
use crate::recall::partner_hits;
use crate::{Features, Result, ResultRow};

/// Ranks k of recall@k.
const RANKS: [usize; 2] = [1, 5];

/// A set of images in two designs.
pub struct DesignPairs {
    /// Name in results: `<one-shot label>s`, e.g. `flags`, for all images of the one-shot labels; `cross-design` for
    /// the test images.
    pub name: String,
    /// The centered features of both designs, in the same order.
    designs: [Features; 2],
    about: String,
}

/// Name in results of the pairs of test images.
pub const TEST_PAIRS: &str = "cross-design";

/// The names of the sets of pairs of a data set in two designs.
pub fn pair_names(designs: &Designs) -> [String; 2] {
    [format!("{}s", designs.one_shot), TEST_PAIRS.to_owned()]
}

impl DesignPairs {
    /// For each pair, the share of its two directions in which the partner is among the `k` nearest images of the other
    /// design. The directions are not independent, so that pairs are the unit of resampling.
    ///
    /// # Errors
    /// If both designs do not have the same number of images.
    pub fn hits(&self, k: usize) -> Result<Vec<f64>> {
        let [one, other] = &self.designs;
        let (forward, back) = (partner_hits(other, one, k)?, partner_hits(one, other, k)?);
        Ok(forward.iter().zip(&back).map(|(forward, back)| (forward + back) / 2.0).collect())
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.designs[0].rows()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Evaluation<'_> {
    /// The sets of images in two designs; none where the data set has no such images.
    ///
    /// # Errors
    /// If features cannot be computed or the data set lacks the one-shot labels.
    pub fn design_pairs(&self) -> Result<Vec<DesignPairs>> {
        let (Some(designs), Some(test)) = (&self.splits.designs, &self.splits.test) else { return Ok(Vec::new()) };
        let features = self.features()?;
        let Some(test_features) = &features.test else { return Ok(Vec::new()) };
        let one_shot = Some(designs.one_shot.as_str());
        let train = paired(&features.train, self.splits.train.as_ref(), one_shot)?;
        let all = concat(train, paired(test_features, test.as_ref(), one_shot)?)?;
        let tested = paired(test_features, test.as_ref(), None)?;
        let [all_name, test_name] = pair_names(designs);
        let all_about = format!("all {all_name}, most of which were trained on");
        let pairs = |name: String, about: &str, halves: [Features; 2]| DesignPairs {
            name,
            designs: halves.map(|half| half.centered()),
            about: format!("{}, {about}", designs.about),
        };
        Ok(vec![pairs(all_name, &all_about, all), pairs(test_name, "test images", tested)])
    }

    /// Recall across the designs, over both directions.
    ///
    /// # Errors
    /// As [`design_pairs`](Self::design_pairs).
    pub fn cross_design(&self) -> Result<Vec<ResultRow>> {
        let mut rows = Vec::new();
        for pairs in self.design_pairs()? {
            let count = pairs.len();
            for k in RANKS {
                let row = ResultRow {
                    protocol: "retrieval".into(),
                    data: self.splits.name.clone(),
                    task: pairs.name.clone(),
                    metric: format!("recall@{k}"),
                    chance: Some(k as f64 / count as f64),
                    detail: format!("{}, centered features, {count} images each", pairs.about),
                    ..Default::default()
                };
                rows.push(row.of_images(pairs.hits(k)?, self.seed));
            }
        }
        Ok(rows)
    }
}

/// The features of both designs in the same order; with `task`, only of images with a label of it.
fn paired(features: &Features, dataset: &dyn Dataset, task: Option<&str>) -> Result<[Features; 2]> {
    let task = task.map(|task| dataset.task(task)).transpose()?;
    let half = dataset.len() / 2;
    let chosen: Vec<usize> = (0..half).filter(|&i| task.is_none_or(|task| dataset.label(task, i).is_some())).collect();
    let other: Vec<usize> = chosen.iter().map(|i| i + half).collect();
    Ok([features.select(&chosen), features.select(&other)])
}

fn concat([a0, a1]: [Features; 2], [b0, b1]: [Features; 2]) -> Result<[Features; 2]> {
    Ok([a0.concat(&b0)?, a1.concat(&b1)?])
}
