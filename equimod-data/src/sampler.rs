//! Which sample is where in which batch: a pure function.

use std::ops::Range;

use rand::seq::SliceRandom;

use crate::random::order_rng;

/// The order of samples in every epoch, and the share of every process in every global batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Decides the order.
    pub seed: u64,
    /// Samples of the data set.
    pub samples: usize,
    /// Samples in a global batch.
    pub batch: usize,
    /// Whether an epoch ends with a smaller batch of what is left over; else that is dropped.
    pub keep_remainder: bool,
    /// Which process this is, from 0.
    pub rank: usize,
    /// Processes.
    pub ranks: usize,
    /// Samples within which the order is random, if not all: see [`order`](Self::order).
    pub window: Option<usize>,
}

/// Runs of neighbouring samples that a window is made of.
const RUNS: usize = 16;

impl Sampler {
    /// For one process, the remainder dropped.
    pub fn new(seed: u64, samples: usize, batch: usize) -> Self {
        Self { seed, samples, batch, keep_remainder: false, rank: 0, ranks: 1, window: None }
    }

    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        match (self.batch, self.keep_remainder) {
            (0, _) => 0,
            (batch, true) => self.samples.div_ceil(batch),
            (batch, false) => self.samples / batch,
        }
    }

    /// The order of epoch `epoch`: global batch k is its k-th run of `batch` samples.
    ///
    /// With a window, runs of neighbours (sixteen to a window) are put in random order first and then samples within
    /// each window: a reader of slow storage goes through few places at a time.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut rng = order_rng(self.seed, epoch);
        let Some(window) = self.window.filter(|window| (1..self.samples).contains(window)) else {
            let mut order: Vec<usize> = (0..self.samples).collect();
            order.shuffle(&mut rng);
            return order;
        };
        let run = window.div_ceil(RUNS);
        let mut starts: Vec<usize> = (0..self.samples).step_by(run).collect();
        starts.shuffle(&mut rng);
        let mut order: Vec<usize> =
            starts.into_iter().flat_map(|start| start..(start + run).min(self.samples)).collect();
        order.chunks_mut(window).for_each(|window| window.shuffle(&mut rng));
        order
    }

    /// Where in an epoch's order this process's share of global batch `batch` lies: processes take consecutive shares
    /// that differ by at most one sample.
    pub fn share(&self, batch: usize) -> Range<usize> {
        let start = (batch * self.batch).min(self.samples);
        let length = self.batch.min(self.samples - start);
        let at = |rank: usize| start + length * rank / self.ranks.max(1);
        at(self.rank)..at(self.rank + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_permutation_and_depends_on_seed_and_epoch_alone() {
        let sampler = Sampler::new(3, 103, 10);
        let order = sampler.order(5);
        assert_eq!(order, sampler.order(5));
        assert_ne!(order, sampler.order(6));
        assert_ne!(order, Sampler { seed: 4, ..sampler }.order(5));
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..103).collect::<Vec<_>>());
    }

    #[test]
    fn a_window_keeps_reading_local_and_the_epoch_whole() {
        let sampler = Sampler { window: Some(64), ..Sampler::new(3, 1003, 10) };
        let order = sampler.order(0);
        assert_ne!(order, sampler.order(1));
        for window in order.chunks(64) {
            // Sixteen runs of four, apart from the shorter one at the end of the data.
            let runs: std::collections::BTreeSet<usize> = window.iter().map(|sample| sample / 4).collect();
            assert!(runs.len() <= 17, "{}", runs.len());
        }
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1003).collect::<Vec<_>>());
    }

    #[test]
    fn processes_cover_every_sample_once_an_epoch() {
        for (samples, batch, ranks) in [(103, 10, 1), (103, 10, 3), (7, 20, 4), (64, 16, 4), (5, 2, 3)] {
            for keep_remainder in [false, true] {
                let of = |rank| Sampler { keep_remainder, rank, ranks, ..Sampler::new(1, samples, batch) };
                let order = of(0).order(0);
                let mut seen = Vec::new();
                for k in 0..of(0).batches() {
                    // Shares lie one after the other: several processes see what one would.
                    let shares: Vec<_> = (0..ranks).flat_map(|rank| order[of(rank).share(k)].to_vec()).collect();
                    assert_eq!(shares, order[Sampler { ranks: 1, ..of(0) }.share(k)]);
                    let lengths: Vec<usize> = (0..ranks).map(|rank| of(rank).share(k).len()).collect();
                    assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1);
                    seen.extend(shares);
                }
                let expected = if keep_remainder { samples } else { samples / batch * batch };
                assert_eq!(seen, order[..expected]);
            }
        }
    }
}
