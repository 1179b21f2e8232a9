//! Counter-based randomness: every draw is keyed by what it is for, not by what was drawn before.

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator of this crate.
pub type Rng = ChaCha8Rng;

/// What a generator is for, so that equal numbers elsewhere in the key do not meet.
const ORDER: u64 = u64::MAX;
const STATISTICS: u64 = u64::MAX - 1;
const REPLACEMENT: u64 = u64::MAX - 2;
/// Added to the number of a view whose augmentation a chunk of the batch shares.
const SHARED: u64 = 1 << 32;

/// The generator of one view: its key is (seed, epoch, sample, view).
pub fn view_rng(seed: u64, epoch: u64, sample: u64, view: u64) -> Rng {
    keyed([seed, epoch, sample, view])
}

/// The generator of one view that a chunk of the global batch shares: its key is (seed, epoch, batch and chunk, view).
pub(crate) fn shared_rng(seed: u64, epoch: u64, batch: u64, chunk: u64, view: u64) -> Rng {
    keyed([seed, epoch, (batch << 32) | chunk, SHARED + view])
}

/// The generator of an epoch's order.
pub(crate) fn order_rng(seed: u64, epoch: u64) -> Rng {
    keyed([seed, epoch, 0, ORDER])
}

/// The generator that chooses what takes the place of a picture that does not decode.
pub(crate) fn replacement_rng(seed: u64, epoch: u64, sample: u64) -> Rng {
    keyed([seed, epoch, sample, REPLACEMENT])
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

/// True with this probability; beyond [0, 1] never or always.
pub(crate) fn chance(probability: f64, rng: &mut Rng) -> bool {
    rng.random_bool(if probability > 0.0 { probability.min(1.0) } else { 0.0 })
}

/// Uniform in `[low, high]`; `low` where that is empty.
pub(crate) fn uniform((low, high): (f64, f64), rng: &mut Rng) -> f64 {
    if low < high && (high - low).is_finite() { rng.random_range(low..=high) } else { low }
}
