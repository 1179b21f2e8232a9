//! Which sample is where in which batch: a pure function.

use rand::seq::SliceRandom;

use crate::random::order_rng;

/// The order of samples in every epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Decides the order.
    pub seed: u64,
    /// Samples of the data set.
    pub samples: usize,
    /// Samples in a global batch.
    pub batch: usize,
}

impl Sampler {
    /// Whole batches in an epoch; what is left over is dropped.
    pub fn batches(&self) -> usize {
        self.samples.checked_div(self.batch).unwrap_or(0)
    }

    /// The order of epoch `epoch`: batch k is its k-th run of `batch` samples.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        order.shuffle(&mut order_rng(self.seed, epoch));
        order
    }

    /// The samples of batch `batch` of epoch `epoch`.
    pub fn samples_of(&self, epoch: u64, batch: usize) -> Vec<usize> {
        self.order(epoch).into_iter().skip(batch * self.batch).take(self.batch).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_permutation_and_depends_on_seed_and_epoch_alone() {
        let sampler = Sampler { seed: 3, samples: 103, batch: 10 };
        let order = sampler.order(5);
        assert_eq!(order, sampler.order(5));
        assert_ne!(order, sampler.order(6));
        assert_ne!(order, Sampler { seed: 4, ..sampler }.order(5));
        assert_eq!(sampler.batches(), 10);
        let batches: Vec<usize> = (0..10).flat_map(|k| sampler.samples_of(5, k)).collect();
        assert_eq!(batches, order[..100]);
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..103).collect::<Vec<_>>());
    }
}
