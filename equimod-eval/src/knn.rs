//! Nearest neighbours by cosine: the weighted vote (Wu et al., arXiv 1805.01978), and retrieval across two sets.

use rayon::prelude::*;

use crate::Result;
use crate::error::refuse;
use crate::features::{Features, Labelled};
use crate::metrics::rank;

/// Settings of the vote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnnConfig {
    /// Neighbours that vote.
    pub k: usize,
    /// T of the weight exp(similarity / T).
    pub temperature: f64,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self { k: 20, temperature: 0.07 }
    }
}

/// The vote on one query.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// Summed weights of each class.
    pub scores: Vec<f64>,
    /// Classes by falling score.
    pub ranked: Vec<u32>,
    /// Rows of the bank, nearest first.
    pub neighbours: Vec<usize>,
}

/// Queries that are compared with the bank together.
const BLOCK: usize = 256;

/// The vote of the `k` nearest rows of `bank` on each query.
pub fn vote(bank: &Labelled, queries: &Features, config: &KnnConfig) -> Result<Vec<Vote>> {
    if config.k == 0 || config.temperature.is_nan() || config.temperature <= 0.0 {
        return refuse(format!("k is {} and the temperature {}; both must be above 0", config.k, config.temperature));
    }
    let nearest = nearest(&bank.features, queries, config.k)?;
    let vote = |neighbours: Vec<(usize, f64)>| {
        let mut scores = vec![0.0; bank.classes];
        for &(row, similarity) in &neighbours {
            scores[bank.labels[row] as usize] += (similarity / config.temperature).exp();
        }
        Vote { ranked: rank(&scores), scores, neighbours: neighbours.into_iter().map(|n| n.0).collect() }
    };
    Ok(nearest.into_iter().map(vote).collect())
}

/// For each query the `k` nearest rows of `bank` and their cosines, nearest first.
pub fn nearest(bank: &Features, queries: &Features, k: usize) -> Result<Vec<Vec<(usize, f64)>>> {
    if bank.columns() != queries.columns() {
        return refuse(format!("queries have {} features, the bank {}", queries.columns(), bank.columns()));
    }
    let bank = bank.normalised().tensor()?.t()?.contiguous()?;
    let queries = queries.normalised().tensor()?;
    let mut found = Vec::with_capacity(queries.dim(0)?);
    for start in (0..queries.dim(0)?).step_by(BLOCK) {
        let length = BLOCK.min(queries.dim(0)? - start);
        let similarities = queries.narrow(0, start, length)?.matmul(&bank)?.to_vec2::<f64>()?;
        found.par_extend(similarities.into_par_iter().map(|row| highest(&row, k)));
    }
    Ok(found)
}

/// The `k` highest values with their places, highest first; of equal values the first.
fn highest(values: &[f64], k: usize) -> Vec<(usize, f64)> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let by_value = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]).then(a.cmp(b));
    let k = k.min(order.len());
    if k > 0 && k < order.len() {
        order.select_nth_unstable_by(k - 1, by_value);
        order.truncate(k);
    }
    order.sort_by(by_value);
    order.into_iter().map(|i| (i, values[i])).collect()
}
