//! Order of samples in epochs, batches and processes, as a pure function.

use std::ops::Range;

use rand::seq::SliceRandom;

use crate::random::order_rng;

/// Order of samples in every epoch, and each process's share of every global batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Seed of the order.
    pub seed: u64,
    /// Number of samples in the data set.
    pub samples: usize,
    /// Samples per global batch.
    pub batch: usize,
    /// Whether an epoch ends with a smaller batch of the remaining samples; otherwise they are dropped.
    pub keep_remainder: bool,
    /// Rank of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub ranks: usize,
    /// Number of samples within which the order is random; `None` for all. See [`order`](Self::order).
    pub window: Option<usize>,
}

/// Number of runs of neighboring samples in a window.
const RUNS: usize = 16;

impl Sampler {
    /// Sampler for one process that drops the remainder.
    pub fn new(seed: u64, samples: usize, batch: usize) -> Self {
        Self { seed, samples, batch, keep_remainder: false, rank: 0, ranks: 1, window: None }
    }

    /// Number of batches per epoch.
    pub fn batches(&self) -> usize {
        match (self.batch, self.keep_remainder) {
            (0, _) => 0,
            (batch, true) => self.samples.div_ceil(batch),
            (batch, false) => self.samples / batch,
        }
    }

    /// Order of the samples in an epoch: global batch k is its k-th run of `batch` samples.
    ///
    /// With a window, runs of neighboring samples (sixteen per window) are shuffled first, and then the samples within
    /// each window. A reader of slow storage therefore visits only a few places at a time.
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

    /// Range of this process's share of global batch `batch` in the order of an epoch. Processes have consecutive
    /// shares whose lengths differ by at most one.
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
    fn an_epoch_is_a_permutation_that_depends_only_on_seed_and_epoch() {
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
    fn a_window_keeps_reads_local_and_epochs_complete() {
        let sampler = Sampler { window: Some(64), ..Sampler::new(3, 1003, 10) };
        let order = sampler.order(0);
        assert_ne!(order, sampler.order(1));
        for window in order.chunks(64) {
            // Sixteen runs of four, except for the shorter run at the end of the data.
            let runs: std::collections::BTreeSet<usize> = window.iter().map(|sample| sample / 4).collect();
            assert!(runs.len() <= 17, "{}", runs.len());
        }
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1003).collect::<Vec<_>>());
    }

    #[test]
    fn processes_cover_every_sample_once_per_epoch() {
        for (samples, batch, ranks) in [(103, 10, 1), (103, 10, 3), (7, 20, 4), (64, 16, 4), (5, 2, 3)] {
            for keep_remainder in [false, true] {
                let of = |rank| Sampler { keep_remainder, rank, ranks, ..Sampler::new(1, samples, batch) };
                let order = of(0).order(0);
                let mut seen = Vec::new();
                for k in 0..of(0).batches() {
                    // Shares are consecutive: several processes together see the batches of one.
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
