//! Nearest neighbours by cosine: the weighted vote (Wu et al., arXiv 1805.01978), and retrieval across two sets.

use pulp::Arch;
use rayon::prelude::*;

use crate::Result;
use crate::error::refuse;
use crate::features::{Features, Labelled};
use crate::matrix::{Matrix, dot_here, matmul};
use crate::metrics::rank;
use crate::predictions::Predictions;

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

impl KnnConfig {
    fn check(&self) -> Result<()> {
        if self.k == 0 || self.temperature.is_nan() || self.temperature <= 0.0 {
            return refuse(format!("k is {} and the temperature {}; both must be above 0", self.k, self.temperature));
        }
        Ok(())
    }
}

/// The vote on one query.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// Summed weights of each class.
    pub scores: Vec<f64>,
    /// Classes that got a vote, by falling score.
    pub ranked: Vec<u32>,
    /// Rows of the bank, nearest first.
    pub neighbours: Vec<usize>,
}

/// Queries that one task compares with a part of the bank.
const QUERIES: usize = 1024;

/// Rows of such a part.
const PART: usize = 25_600;

/// Rows of the bank at a time, so that the block of similarities stays in a core's cache.
const BANK: usize = 512;

/// The vote of the `k` nearest rows of `bank` on each query.
pub fn vote(bank: &Labelled, queries: &Features, config: &KnnConfig) -> Result<Vec<Vote>> {
    config.check()?;
    let nearest = nearest(&bank.features, queries, config.k)?;
    let vote = |neighbours: Vec<(usize, f64)>| {
        let scores = scores(bank, &neighbours, config.temperature);
        if scores.iter().any(|score| !score.is_finite()) {
            let temperature = config.temperature;
            return refuse(format!("exp(similarity / {temperature}) is too large a number; take a higher temperature"));
        }
        let neighbours: Vec<usize> = neighbours.into_iter().map(|n| n.0).collect();
        let voted = |class: &u32| neighbours.iter().any(|&row| bank.labels[row] == *class);
        Ok(Vote { ranked: rank(&scores).into_iter().filter(voted).collect(), scores, neighbours })
    };
    nearest.into_iter().map(vote).collect()
}

/// The same as probabilities: the votes of each class over all votes. A class without a vote is never predicted, whatever
/// its place among the classes.
///
/// Votes are summed as logarithms from each query's highest similarity, so that no temperature is too low.
pub fn predict(bank: &Labelled, queries: &Labelled, config: &KnnConfig) -> Result<Predictions> {
    config.check()?;
    if bank.classes != queries.classes {
        return refuse(format!("the bank has {} classes, the queries {}", bank.classes, queries.classes));
    }
    let votes = nearest(&bank.features, &queries.features, config.k)?;
    let votes = votes.iter().flat_map(|neighbours| log_scores(bank, neighbours, config.temperature)).collect();
    Predictions::from_log_scores(votes, queries.labels.clone(), queries.pictures.clone(), bank.classes)
}

/// `Σ exp(similarity / temperature)` of each class.
fn scores(bank: &Labelled, neighbours: &[(usize, f64)], temperature: f64) -> Vec<f64> {
    let mut scores = vec![0.0; bank.classes];
    for &(row, similarity) in neighbours {
        scores[bank.labels[row] as usize] += (similarity / temperature).exp();
    }
    scores
}

/// `ln Σ exp((similarity − highest similarity) / temperature)` of each class; −∞ of a class without a vote.
fn log_scores(bank: &Labelled, neighbours: &[(usize, f64)], temperature: f64) -> Vec<f64> {
    let highest = neighbours.first().map_or(0.0, |n| n.1);
    // The nearest neighbor of each class, and the sum of its votes in shares of that neighbor's.
    let mut votes: Vec<Option<(f64, f64)>> = vec![None; bank.classes];
    for &(row, similarity) in neighbours {
        let (nearest, sum) = votes[bank.labels[row] as usize].get_or_insert((similarity, 0.0));
        *sum += ((similarity - *nearest) / temperature).exp();
    }
    let log = |(nearest, sum): (f64, f64)| ((nearest - highest) / temperature).max(f64::MIN) + sum.ln();
    votes.into_iter().map(|vote| vote.map_or(f64::NEG_INFINITY, log)).collect()
}

/// For each query the `k` nearest rows of `bank` and their cosines, nearest first, of equal ones the lower row first.
///
/// Similarities of all rows are products in 32 bits; rows that these cannot tell from the `k` nearest are compared again in
/// 64, so the answer is that of 64 bits.
pub fn nearest(bank: &Features, queries: &Features, k: usize) -> Result<Vec<Vec<(usize, f64)>>> {
    if bank.columns() != queries.columns() {
        return refuse(format!("queries have {} features, the bank {}", queries.columns(), bank.columns()));
    }
    let (bank, queries, columns) = (bank.normalised(), queries.normalised(), bank.columns());
    let asked: Vec<&[f32]> = queries.values().chunks(QUERIES * columns).collect();
    let parts: Vec<&[f32]> = bank.values().chunks(PART * columns).collect();
    let pairs: Vec<(usize, usize)> =
        (0..asked.len()).flat_map(|block| (0..parts.len()).map(move |part| (block, part))).collect();
    let mut kept: Vec<Vec<Kept>> = pairs
        .into_par_iter()
        .map(|(block, part)| kept_of(asked[block], parts[part], part * PART, columns, k))
        .collect();
    let nearest = |(query, kept): (&[f32], Kept)| kept.exact(&bank, query, k);
    let blocks = asked.into_par_iter().zip(kept.par_chunks_mut(parts.len().max(1)));
    let of_block = |(queries, parts): (&[f32], &mut [Vec<Kept>])| -> Vec<Vec<(usize, f64)>> {
        let mut parts = parts.iter_mut().map(std::mem::take);
        let mut joined = parts.next().unwrap_or_default();
        parts.for_each(|part| joined.iter_mut().zip(part).for_each(|(all, more)| all.rows.extend(more.rows)));
        queries.chunks_exact(columns).zip(joined).map(nearest).collect()
    };
    Ok(blocks.flat_map_iter(of_block).collect())
}

/// What may be among the nearest to each of a block of queries in a part of the bank that begins with row `first`.
fn kept_of(queries: &[f32], part: &[f32], first: usize, columns: usize, k: usize) -> Vec<Kept> {
    let rows = queries.len() / columns;
    let mut kept: Vec<Kept> = (0..rows).map(|_| Kept::new(k.min(part.len() / columns), columns)).collect();
    let mut similarities = vec![0f32; rows * BANK];
    for (number, block) in part.chunks(BANK * columns).enumerate() {
        let width = block.len() / columns;
        let (left, right) = (Matrix::rows(queries, columns), Matrix::rows(block, columns).transposed());
        matmul((rows, columns, width), left, right, (&mut similarities, width), false);
        let rows = similarities.chunks_exact(width);
        let first = first + number * BANK;
        Arch::new().dispatch(|| kept.iter_mut().zip(rows).for_each(|(kept, row)| kept.offer(row, first)));
    }
    kept
}

/// Rows of the bank that may be among the nearest of one query.
struct Kept {
    count: usize,
    /// How far two products of unit rows may lie apart in 32 bits that are equal in truth: twice `columns·2⁻²⁴` each.
    margin: f32,
    /// What a row must reach.
    least: f32,
    /// The number of rows at which those below `least` go.
    limit: usize,
    rows: Vec<(f32, u32)>,
}

impl Kept {
    fn new(count: usize, columns: usize) -> Self {
        let margin = 4.0 * columns.max(8) as f32 * 2f32.powi(-24);
        Self { count, margin, least: f32::NEG_INFINITY, limit: 2 * count + 64, rows: Vec::new() }
    }

    /// Takes what may be among the nearest of a block of the bank that begins with row `first`.
    #[inline(always)]
    fn offer(&mut self, similarities: &[f32], first: usize) {
        for (group, values) in similarities.chunks(LANES).enumerate() {
            // One look at many: nearly all groups hold nothing.
            if !reach(values, self.least) {
                continue;
            }
            for (place, &value) in values.iter().enumerate().filter(|(_, v)| **v >= self.least) {
                self.rows.push((value, (first + group * LANES + place) as u32));
            }
            if self.rows.len() >= self.limit {
                self.prune();
            }
        }
    }

    /// Drops what lies more than the margin below the last of the nearest.
    fn prune(&mut self) {
        if self.count == 0 || self.rows.len() <= self.count {
            return;
        }
        let (_, last, _) = self.rows.select_nth_unstable_by(self.count - 1, |a, b| b.0.total_cmp(&a.0));
        self.least = last.0 - self.margin;
        let least = self.least;
        self.rows.retain(|row| row.0 >= least);
        self.limit = 2 * self.rows.len() + 64;
    }

    /// The `k` nearest by products in 64 bits.
    fn exact(mut self, bank: &Features, query: &[f32], k: usize) -> Vec<(usize, f64)> {
        self.count = k;
        self.prune();
        let again = |(_, row): (f32, u32)| (row as usize, dot_here(bank.row(row as usize), query));
        let mut found: Vec<(usize, f64)> = self.rows.into_iter().map(again).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(k);
        found
    }
}

/// Similarities that are looked at together.
const LANES: usize = 64;

/// Whether any value is at least `least`.
#[inline(always)]
fn reach(values: &[f32], least: f32) -> bool {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut most = [f32::NEG_INFINITY; 16];
    let groups = values.chunks_exact(most.len());
    let rest = groups.remainder().iter().fold(f32::NEG_INFINITY, |most, &value| larger(most, value));
    for group in groups {
        for (most, &value) in most.iter_mut().zip(group) {
            *most = larger(*most, value);
        }
    }
    most.into_iter().fold(rest, larger) >= least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rows: usize, columns: usize, seed: usize) -> Features {
        let value = |i: usize| (((i + seed) * 2_654_435_761) % 1009) as f32 / 1009.0 - 0.4;
        Features::new(rows, columns, (0..rows * columns).map(value).collect()).unwrap()
    }

    /// What takes every product in 64 bits and sorts them all.
    fn plainly(bank: &Features, query: &[f32], k: usize) -> Vec<usize> {
        let mut all: Vec<(usize, f64)> = (0..bank.rows()).map(|i| (i, dot_here(bank.row(i), query))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.into_iter().take(k).map(|n| n.0).collect()
    }

    #[test]
    fn the_nearest_are_those_of_64_bits_even_among_equal_rows() {
        let twice = noise(1500, 9, 1);
        let bank = twice.joined(&twice).unwrap();
        let queries = noise(300, 9, 77);
        for k in [0, 1, 7, 4000] {
            let found = nearest(&bank, &queries, k).unwrap();
            let (bank, queries) = (bank.normalised(), queries.normalised());
            for (i, neighbours) in found.iter().enumerate().step_by(37) {
                let rows: Vec<usize> = neighbours.iter().map(|n| n.0).collect();
                assert_eq!(rows, plainly(&bank, queries.row(i), k), "query {i}, k {k}");
            }
        }
    }

    #[test]
    fn a_low_temperature_is_refused_for_scores_and_not_for_probabilities() {
        let bank = Labelled::new(noise(40, 5, 1), (0..40).map(|i| i % 4).collect(), 4).unwrap();
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
    fn eight_classes() -> (Labelled, Labelled) {
        let bank = Labelled::new(noise(40, 5, 1), (0..40).map(|i| i % 8).collect(), 8).unwrap();
        (bank, Labelled::new(noise(60, 5, 500), (0..60).map(|i| i * 3 % 8).collect(), 8).unwrap())
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
        let voted = |(neighbours, label): (&Vec<(usize, f64)>, &u32)| {
            f64::from(u8::from(neighbours.iter().any(|n| bank.labels[n.0] == *label)))
        };
        let want: Vec<f64> = nearest.iter().zip(&queries.labels).map(voted).collect();
        // At the lowest of them, all votes but the nearest one's are 0 as probabilities.
        for temperature in [0.07, 1e-6, 1e-320] {
            let predictions = predict(&bank, &queries, &KnnConfig { k: 4, temperature }).unwrap();
            assert_eq!(predictions.hits(5), want, "T {temperature}");
        }
    }
}
