//! Neural network layers. Layers of the backbone have a `forward` that returns saved activations and a `backward` that
//! consumes them. Layers of heads ([`Linear`], [`BatchNorm1d`], [`LayerNorm`]) use candle's autograd.

mod activation;
mod batch_norm;
mod collector;
mod conv2d;
mod hand_written;
mod layer_norm;
mod linear;

pub use activation::relu;
pub use batch_norm::{BatchNorm, BatchNorm1d, Epilogue, SavedBatchNorm, Statistics};
pub use collector::collecting;
pub use conv2d::{Conv2d, Conv2dConfig};
pub use hand_written::{hand_written, hand_written_of_three, hand_written_pair};
pub use layer_norm::LayerNorm;
pub use linear::Linear;

/// Statistics with which batch norm normalizes, and whether its running statistics are updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics; running statistics are updated. PyTorch's `train()`.
    Train,
    /// Batch statistics; running statistics are not updated. PyTorch's `train()` with a momentum of 0.
    TrainFrozenStats,
    /// Running statistics, which are not updated. PyTorch's `eval()`.
    Eval,
}
