//! Counter-based randomness: every draw is keyed by what it is for, not by what was drawn before.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator of this crate.
pub type Rng = ChaCha8Rng;

/// What a generator is for, so that equal numbers elsewhere in the key do not meet.
const ORDER: u64 = u64::MAX;
const STATISTICS: u64 = u64::MAX - 1;

/// The generator of one view: its key is (seed, epoch, sample, view).
pub fn view_rng(seed: u64, epoch: u64, sample: u64, view: u64) -> Rng {
    keyed([seed, epoch, sample, view])
}

/// The generator of an epoch's order.
pub(crate) fn order_rng(seed: u64, epoch: u64) -> Rng {
    keyed([seed, epoch, 0, ORDER])
}

/// The generator with which the statistics of a policy are sampled: the same for every run.
pub(crate) fn statistics_rng() -> Rng {
    keyed([0, 0, 0, STATISTICS])
}

fn keyed(key: [u64; 4]) -> Rng {
    let mut seed = [0; 32];
    for (bytes, number) in seed.chunks_exact_mut(8).zip(key) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(seed)
}
