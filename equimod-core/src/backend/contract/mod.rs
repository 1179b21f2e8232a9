//! Interface of backends: one trait for each kind of layer or computation, and the types that they share.
//!
//! [`ops`](crate::ops) checks the arguments: shapes fit, and the tensors of a call share device and element type.
//! Methods take detached tensors of any layout, and return new tensors unless they are documented to work in place.
//! Results are bitwise equal for any number of threads. Sums over many values are accumulated in a wider type.
//!
//! | trait | required | provided, for a backend to override |
//! | --- | --- | --- |
//! | [`ConvolutionOps`] | forward, gradients of input and weight | variants fused with batch norm, ReLU and addition |
//! | [`BatchNormOps`] | sums, apply, backward sums and backward; ReLU backward | in place; backward through a ReLU |
//! | [`PoolingOps`] | max-pool, forward and backward | global average pool, forward and backward |
//! | [`LossOps`] | cross-entropy of rows | |
//! | [`MatrixOps`], [`OptimizerOps`], [`ImageOps`] | | everything, composed of candle's operations |

mod batch_norm;
mod convolution;
mod gate;
mod images;
mod loss;
mod matrix;
mod optimizer;
mod pooling;
mod shapes;
mod views;

pub use batch_norm::{BatchNormOps, ChannelStatistics, RunningStatistics, ScaleShiftRelu};
pub use convolution::{Accumulate, ConvInput, ConvolutionOps};
pub use gate::{Gate, all_finite};
pub use images::{ImageOps, PixelShape};
pub use loss::{LossOps, Positives, RowTargets};
pub use matrix::MatrixOps;
pub use optimizer::{AdamWRule, LarsRule, MomentumRule, OptimizerOps, ParameterStep, StepRule};
pub use pooling::PoolingOps;
pub use shapes::{Conv2dGeometry, ConvAlgorithms, ConvShape, PoolShape};
pub use views::{PixelOperation, Resampling, ViewProgram, ViewPrograms};

/// Everything that layers, losses, optimizers and inputs need of a device and an element type.
pub trait Backend:
    ConvolutionOps + BatchNormOps + PoolingOps + MatrixOps + LossOps + OptimizerOps + ImageOps + Send + Sync
{
}

impl<B> Backend for B where
    B: ConvolutionOps + BatchNormOps + PoolingOps + MatrixOps + LossOps + OptimizerOps + ImageOps + Send + Sync
{
}
