//! Tensor operations of layers and losses. Shapes are checked here; the [backend](crate::backend) for the device and
//! element type of the tensors computes the result.
//!
//! Arguments may have any memory layout. Results are new tensors unless a function overwrites an argument's memory. No
//! operation is tracked by candle's autograd, and results do not depend on the number of threads.

mod batch_norm;
mod convolution;
mod loss;
mod matmul;
mod optimizer;
mod pooling;

pub use batch_norm::{
    batch_norm_affine, batch_norm_apply, batch_norm_apply_in_place, batch_norm_backward, batch_norm_backward_in_place,
    batch_norm_backward_sums, batch_norm_coefficients, batch_norm_statistics, batch_norm_sums, relu_backward,
    scale_shift_relu,
};
pub use convolution::{
    conv2d, conv2d_backward_data, conv2d_backward_data_relu, conv2d_backward_weight, conv2d_with_sums, join_images,
    materialize, prepared_weight,
};
pub use loss::cross_entropy_rows;
pub use matmul::{matmul, matmul_nt, matmul_tn};
pub use optimizer::{move_all_towards, parameter_steps, scaled, squared_norm, squared_norms};
pub use pooling::{MaxPoolWinners, global_average_pool, global_average_pool_backward, max_pool2d, max_pool2d_backward};

pub use crate::backend::composed::one_hot;
pub use crate::backend::contract::{
    Accumulate, AdamWRule, ChannelStatistics, Conv2dGeometry, ConvAlgorithms, ConvInput, Gate, LarsRule, MomentumRule,
    ParameterStep, Positives, RowTargets, RunningStatistics, ScaleShiftRelu, StepRule, all_finite,
};
