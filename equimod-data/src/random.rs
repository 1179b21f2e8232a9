//! Counter-based randomness: the key of each draw is its purpose, independent of previous draws.

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random number generator of this crate.
pub type Rng = ChaCha8Rng;

/// Purposes of a generator, in the last part of its key, which keep equal numbers elsewhere in keys apart.
const ORDER: u64 = u64::MAX;
const STATISTICS: u64 = u64::MAX - 1;
const REPLACEMENT: u64 = u64::MAX - 2;
/// Offset of the view's number if a chunk of the batch shares its augmentation.
const SHARED: u64 = 1 << 32;

/// Generator of one view of a sample, with the key (seed, epoch, sample, view).
pub fn view_rng(seed: u64, epoch: u64, sample: u64, view: u64) -> Rng {
    keyed([seed, epoch, sample, view])
}

/// Generator of one view that a chunk of the global batch shares, with the key (seed, epoch, batch and chunk, view).
pub(crate) fn shared_rng(seed: u64, epoch: u64, batch: u64, chunk: u64, view: u64) -> Rng {
    keyed([seed, epoch, (batch << 32) | chunk, SHARED + view])
}

/// Generator of an epoch's order.
pub(crate) fn order_rng(seed: u64, epoch: u64) -> Rng {
    keyed([seed, epoch, 0, ORDER])
}

/// Generator that selects a replacement for an image that does not decode.
pub(crate) fn replacement_rng(seed: u64, epoch: u64, sample: u64) -> Rng {
    keyed([seed, epoch, sample, REPLACEMENT])
}

/// Generator for the statistics of a policy, the same in every run.
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

/// True with the given probability; never or always outside of [0, 1].
pub(crate) fn chance(probability: f64, rng: &mut Rng) -> bool {
    rng.random_bool(if probability > 0.0 { probability.min(1.0) } else { 0.0 })
}

/// Uniform in `[low, high]`, or `low` if the interval is empty.
pub(crate) fn uniform((low, high): (f64, f64), rng: &mut Rng) -> f64 {
    if low < high && (high - low).is_finite() { rng.random_range(low..=high) } else { low }
}
