//! Nearest neighbors by cosine: weighted k-NN classification (Wu et al., arXiv 1805.01978), and exact search.

use pulp::Arch;
use rayon::prelude::*;

use crate::Result;
use crate::error::refuse;
use crate::features::{Features, Labeled};
use crate::matrix::{Matrix, dot_here, matmul};
use crate::metrics::rank;
use crate::predictions::Predictions;

/// Settings of weighted k-NN classification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnnConfig {
    /// Neighbors that vote. Default: 20.
    pub k: usize,
    /// Temperature T of the weight exp(similarity / T). Default: 0.07.
    pub temperature: f64,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self { k: 20, temperature: 0.07 }
    }
}

impl KnnConfig {
    fn check(&self) -> Result<()> {
        if self.k == 0 || self.temperature.is_nan() || self.temperature <= 0.0 {
            return refuse(format!("k is {} and the temperature {}; both must be above 0", self.k, self.temperature));
        }
        Ok(())
    }
}

/// The vote of the neighbors of one query.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// Sum of the weights of each class, `[classes]`.
    pub scores: Vec<f64>,
    /// Classes with a vote, in descending order of their score.
    pub ranked: Vec<u32>,
    /// Rows of the bank, nearest first.
    pub neighbors: Vec<usize>,
}

/// Queries that one task compares with a section of the bank.
const QUERIES: usize = 1024;

/// Rows of a section of the bank.
const SECTION: usize = 25_600;

/// Rows of the bank in a block, so that a block of similarities stays in a core's cache.
const BANK: usize = 512;

/// The vote of the `k` nearest rows of `bank` for each query.
///
/// # Errors
/// If the settings are invalid, the numbers of features differ, or a weight overflows.
pub fn vote(bank: &Labeled, queries: &Features, config: &KnnConfig) -> Result<Vec<Vote>> {
    config.check()?;
    let nearest = nearest(&bank.features, queries, config.k)?;
    let vote = |neighbors: Vec<(usize, f64)>| {
        let scores = scores(bank, &neighbors, config.temperature);
        if scores.iter().any(|score| !score.is_finite()) {
            let temperature = config.temperature;
            return refuse(format!("exp(similarity / {temperature}) overflows; use a higher temperature"));
        }
        let neighbors: Vec<usize> = neighbors.into_iter().map(|n| n.0).collect();
        let voted = |class: &u32| neighbors.iter().any(|&row| bank.labels[row] == *class);
        Ok(Vote { ranked: rank(&scores).into_iter().filter(voted).collect(), scores, neighbors })
    };
    nearest.into_iter().map(vote).collect()
}

/// The votes of each class as a share of all votes. A class without a vote is never predicted.
///
/// Votes are summed as logarithms relative to each query's highest similarity, so that no temperature is too low.
///
/// # Errors
/// If the settings are invalid, or the numbers of features or classes differ.
pub fn predict(bank: &Labeled, queries: &Labeled, config: &KnnConfig) -> Result<Predictions> {
    config.check()?;
    if bank.classes != queries.classes {
        return refuse(format!("the bank has {} classes, the queries have {}", bank.classes, queries.classes));
    }
    let votes = nearest(&bank.features, &queries.features, config.k)?;
    let votes = votes.iter().flat_map(|neighbors| log_scores(bank, neighbors, config.temperature)).collect();
    Predictions::from_log_scores(votes, queries.labels.clone(), queries.indices.clone(), bank.classes)
}

/// `Σ exp(similarity / temperature)` of each class.
fn scores(bank: &Labeled, neighbors: &[(usize, f64)], temperature: f64) -> Vec<f64> {
    let mut scores = vec![0.0; bank.classes];
    for &(row, similarity) in neighbors {
        scores[bank.labels[row] as usize] += (similarity / temperature).exp();
    }
    scores
}

/// `ln Σ exp((similarity − highest similarity) / temperature)` of each class; −∞ for a class without a vote.
fn log_scores(bank: &Labeled, neighbors: &[(usize, f64)], temperature: f64) -> Vec<f64> {
    let highest = neighbors.first().map_or(0.0, |n| n.1);
    // The nearest neighbor of each class, and the sum of the votes relative to that neighbor's vote.
    let mut votes: Vec<Option<(f64, f64)>> = vec![None; bank.classes];
    for &(row, similarity) in neighbors {
        let (nearest, sum) = votes[bank.labels[row] as usize].get_or_insert((similarity, 0.0));
        *sum += ((similarity - *nearest) / temperature).exp();
    }
    let log = |(nearest, sum): (f64, f64)| ((nearest - highest) / temperature).max(f64::MIN) + sum.ln();
    votes.into_iter().map(|vote| vote.map_or(f64::NEG_INFINITY, log)).collect()
}

/// The `k` nearest rows of `bank` `[rows, features]` to each query `[queries, features]`, with their cosines, nearest
/// first; of equal cosines the lower row first.
///
/// Similarities of all rows are f32 products. Rows that these cannot separate from the `k` nearest are compared again
/// in f64, so that the result is that of f64.
///
/// # Errors
/// If the numbers of features differ.
pub fn nearest(bank: &Features, queries: &Features, k: usize) -> Result<Vec<Vec<(usize, f64)>>> {
    if bank.columns() != queries.columns() {
        return refuse(format!("queries have {} features, the bank has {}", queries.columns(), bank.columns()));
    }
    let (bank, queries, columns) = (bank.normalized(), queries.normalized(), bank.columns());
    let query_blocks: Vec<&[f32]> = queries.values().chunks(QUERIES * columns).collect();
    let sections: Vec<&[f32]> = bank.values().chunks(SECTION * columns).collect();
    let pairs: Vec<(usize, usize)> =
        (0..query_blocks.len()).flat_map(|block| (0..sections.len()).map(move |section| (block, section))).collect();
    let mut candidates: Vec<Vec<Candidates>> = pairs
        .into_par_iter()
        .map(|(block, section)| find_candidates(query_blocks[block], sections[section], section * SECTION, columns, k))
        .collect();
    let nearest = |(query, candidates): (&[f32], Candidates)| candidates.exact(&bank, query, k);
    let blocks = query_blocks.into_par_iter().zip(candidates.par_chunks_mut(sections.len().max(1)));
    let of_block = |(queries, sections): (&[f32], &mut [Vec<Candidates>])| -> Vec<Vec<(usize, f64)>> {
        let mut sections = sections.iter_mut().map(std::mem::take);
        let mut all = sections.next().unwrap_or_default();
        sections.for_each(|more| all.iter_mut().zip(more).for_each(|(all, more)| all.rows.extend(more.rows)));
        queries.chunks_exact(columns).zip(all).map(nearest).collect()
    };
    Ok(blocks.flat_map_iter(of_block).collect())
}

/// Candidates for the nearest rows of each of a block of queries, in a section of the bank that begins with row
/// `first`.
fn find_candidates(queries: &[f32], section: &[f32], first: usize, columns: usize, k: usize) -> Vec<Candidates> {
    let rows = queries.len() / columns;
    let count = k.min(section.len() / columns);
    let mut candidates: Vec<Candidates> = (0..rows).map(|_| Candidates::new(count, columns)).collect();
    let mut similarities = vec![0f32; rows * BANK];
    for (number, block) in section.chunks(BANK * columns).enumerate() {
        let width = block.len() / columns;
        let (left, right) = (Matrix::rows(queries, columns), Matrix::rows(block, columns).transposed());
        matmul((rows, columns, width), left, right, (&mut similarities, width), false);
        let rows = similarities.chunks_exact(width);
        let first = first + number * BANK;
        Arch::new().dispatch(|| candidates.iter_mut().zip(rows).for_each(|(one, row)| one.offer(row, first)));
    }
    candidates
}

/// Rows of the bank that may be among the nearest of one query.
struct Candidates {
    count: usize,
    /// Largest difference in f32 of two equal products of unit rows: twice `columns·2⁻²⁴` for each.
    margin: f32,
    /// Similarity below which a row is not among the nearest.
    threshold: f32,
    /// Number of rows at which those below the threshold are dropped.
    limit: usize,
    rows: Vec<(f32, u32)>,
}

impl Candidates {
    fn new(count: usize, columns: usize) -> Self {
        let margin = 4.0 * columns.max(8) as f32 * 2f32.powi(-24);
        Self { count, margin, threshold: f32::NEG_INFINITY, limit: 2 * count + 64, rows: Vec::new() }
    }

    /// Adds the candidates of a block of the bank that begins with row `first`.
    #[inline(always)]
    fn offer(&mut self, similarities: &[f32], first: usize) {
        for (group, values) in similarities.chunks(LANES).enumerate() {
            // Nearly all groups hold no candidate.
            if !any_reaches(values, self.threshold) {
                continue;
            }
            for (index, &value) in values.iter().enumerate().filter(|(_, v)| **v >= self.threshold) {
                self.rows.push((value, (first + group * LANES + index) as u32));
            }
            if self.rows.len() >= self.limit {
                self.prune();
            }
        }
    }

    /// Drops rows that lie more than the margin below the last of the nearest.
    fn prune(&mut self) {
        if self.count == 0 || self.rows.len() <= self.count {
            return;
        }
        let (_, last, _) = self.rows.select_nth_unstable_by(self.count - 1, |a, b| b.0.total_cmp(&a.0));
        let threshold = last.0 - self.margin;
        self.threshold = threshold;
        self.rows.retain(|row| row.0 >= threshold);
        self.limit = 2 * self.rows.len() + 64;
    }

    /// The `k` nearest rows by f64 products.
    fn exact(mut self, bank: &Features, query: &[f32], k: usize) -> Vec<(usize, f64)> {
        self.count = k;
        self.prune();
        let exact = |(_, row): (f32, u32)| (row as usize, dot_here(bank.row(row as usize), query));
        let mut nearest: Vec<(usize, f64)> = self.rows.into_iter().map(exact).collect();
        nearest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        nearest.truncate(k);
        nearest
    }
}

/// Similarities that are compared with the threshold together.
const LANES: usize = 64;

/// Whether any value is at least `threshold`.
#[inline(always)]
fn any_reaches(values: &[f32], threshold: f32) -> bool {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut most = [f32::NEG_INFINITY; 16];
    let groups = values.chunks_exact(most.len());
    let rest = groups.remainder().iter().fold(f32::NEG_INFINITY, |most, &value| larger(most, value));
    for group in groups {
        for (most, &value) in most.iter_mut().zip(group) {
            *most = larger(*most, value);
        }
    }
    most.into_iter().fold(rest, larger) >= threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rows: usize, columns: usize, seed: usize) -> Features {
        let value = |i: usize| (((i + seed) * 2_654_435_761) % 1009) as f32 / 1009.0 - 0.4;
        Features::new(rows, columns, (0..rows * columns).map(value).collect()).unwrap()
    }

    /// The rows by f64 products, all sorted.
    fn brute_force(bank: &Features, query: &[f32], k: usize) -> Vec<usize> {
        let mut all: Vec<(usize, f64)> = (0..bank.rows()).map(|i| (i, dot_here(bank.row(i), query))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.into_iter().take(k).map(|n| n.0).collect()
    }

    #[test]
    fn the_nearest_are_those_of_f64_even_among_equal_rows() {
        let twice = noise(1500, 9, 1);
        let bank = twice.concat(&twice).unwrap();
        let queries = noise(300, 9, 77);
        for k in [0, 1, 7, 4000] {
            let found = nearest(&bank, &queries, k).unwrap();
            let (bank, queries) = (bank.normalized(), queries.normalized());
            for (i, neighbors) in found.iter().enumerate().step_by(37) {
                let rows: Vec<usize> = neighbors.iter().map(|n| n.0).collect();
                assert_eq!(rows, brute_force(&bank, queries.row(i), k), "query {i}, k {k}");
            }
        }
    }

    #[test]
    fn a_low_temperature_is_refused_for_scores_and_not_for_probabilities() {
        let bank = Labeled::new(noise(40, 5, 1), (0..40).map(|i| i % 4).collect(), 4).unwrap();
        let config = KnnConfig { k: 5, temperature: 1e-4 };
        assert!(vote(&bank, &bank.features, &config).unwrap_err().to_string().contains("temperature"));
        let predictions = predict(&bank, &bank, &config).unwrap();
        assert!(predictions.row(3).iter().all(|p| p.is_finite()));
        let config = KnnConfig::default();
        let votes = vote(&bank, &bank.features, &config).unwrap();
        let predictions = predict(&bank, &bank, &config).unwrap();
        for (row, vote) in votes.iter().enumerate() {
            assert_eq!(predictions.first()[row], vote.ranked[0]);
            let sum: f64 = vote.scores.iter().sum();
            let same = |(p, score): (&f64, &f64)| (p - score / sum).abs() < 1e-12;
            assert!(predictions.row(row).iter().zip(&vote.scores).all(same), "row {row}");
        }
    }
    /// A bank of 40 rows in 8 classes, and 60 queries.
    fn eight_classes() -> (Labeled, Labeled) {
        let bank = Labeled::new(noise(40, 5, 1), (0..40).map(|i| i % 8).collect(), 8).unwrap();
        (bank, Labeled::new(noise(60, 5, 500), (0..60).map(|i| i * 3 % 8).collect(), 8).unwrap())
    }

    #[test]
    fn with_one_neighbor_top_5_is_top_1() {
        let (bank, queries) = eight_classes();
        let config = KnnConfig { k: 1, ..Default::default() };
        let predictions = predict(&bank, &queries, &config).unwrap();
        assert_eq!(predictions.hits(5), predictions.hits(1));
        let wrong = predictions.hits(1).iter().filter(|hit| **hit == 0.0).count();
        assert!(wrong > 30, "{wrong}");
        assert!(vote(&bank, &queries.features, &config).unwrap().iter().all(|vote| vote.ranked.len() == 1));
    }

    #[test]
    fn a_class_is_in_the_top_5_only_with_a_vote_at_any_temperature() {
        let (bank, queries) = eight_classes();
        let nearest = nearest(&bank.features, &queries.features, 4).unwrap();
        let voted = |(neighbors, label): (&Vec<(usize, f64)>, &u32)| {
            f64::from(u8::from(neighbors.iter().any(|n| bank.labels[n.0] == *label)))
        };
        let want: Vec<f64> = nearest.iter().zip(&queries.labels).map(voted).collect();
        // At the lowest of them, all votes but the nearest one's are 0 as probabilities.
        for temperature in [0.07, 1e-6, 1e-320] {
            let predictions = predict(&bank, &queries, &KnnConfig { k: 4, temperature }).unwrap();
            assert_eq!(predictions.hits(5), want, "T {temperature}");
        }
    }
}
