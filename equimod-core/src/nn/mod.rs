//! Layers. Those of the backbone have a `forward` that returns what to remember and a `backward` that consumes it;
//! those of the heads ([`Linear`], [`BatchNorm1d`], [`LayerNorm`]) live in candle's automatic differentiation.

mod activation;
mod batch_norm;
mod collector;
mod conv2d;
mod hand_written;
mod layer_norm;
mod linear;

pub use activation::relu;
pub use batch_norm::{BatchNorm, BatchNorm1d, BatchNormMemory, Statistics, Then};
pub use collector::collecting;
pub use conv2d::{Conv2d, Conv2dConfig};
pub use hand_written::{hand_written, hand_written_of_three, hand_written_pair};
pub use layer_norm::LayerNorm;
pub use linear::Linear;

/// Which statistics batch norm uses, and whether its running ones move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics; running statistics are updated.
    Train,
    /// Batch statistics, nothing is updated.
    Still,
    /// Running statistics, nothing is updated.
    Eval,
}
