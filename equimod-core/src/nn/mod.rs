//! Layers. Those of the backbone have a `forward` that returns what to remember and a `backward` that consumes it;
//! those of the heads ([`Linear`], [`BatchNorm1d`]) live in candle's automatic differentiation.

mod activation;
mod batch_norm;
mod collector;
mod conv2d;
mod hand_written;
mod linear;

pub use activation::relu;
pub use batch_norm::{Arriving, BatchNorm, BatchNorm1d, BatchNormMemory, Statistics};
pub use collector::collecting;
pub use conv2d::{Conv2d, Conv2dConfig};
pub use hand_written::{hand_written, hand_written_pair};
pub use linear::Linear;

/// Whether batch norm uses the statistics of the batch (and moves its running ones) or the running ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics; running statistics are updated.
    Train,
    /// Running statistics, nothing is updated.
    Eval,
}
