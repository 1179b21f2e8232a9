//! Operations that layers and losses call: shapes are checked here, and the [backend](crate::backend) of the tensors'
//! device and element type does the work.
//!
//! Any layout is taken, results are fresh unless a function says that it uses an argument's memory, no operation is
//! tracked by candle's differentiation, and results do not depend on the number of threads.

mod batch_norm;
mod convolution;
mod gate;
mod loss;
mod matmul;
mod optimizer;
mod pooling;

pub use batch_norm::{
    batch_norm_apply, batch_norm_apply_in_place, batch_norm_backward, batch_norm_backward_in_place,
    batch_norm_backward_sums, batch_norm_sums, relu_backward, scale_shift_relu,
};
pub use convolution::{
    conv2d, conv2d_backward_data, conv2d_backward_data_relu, conv2d_backward_weight, conv2d_with_sums, materialize,
};
pub use gate::{Gate, all_finite};
pub use loss::cross_entropy_rows;
pub use matmul::{matmul, matmul_nt, matmul_tn};
pub use optimizer::{adamw_step, lars_step, momentum_step, move_towards, squared_norm};
pub use pooling::{global_average_pool, global_average_pool_backward, max_pool2d, max_pool2d_backward};

pub use crate::backend::composed::one_hot;
pub use crate::backend::contract::{
    Accumulate, AdamWRule, Conv2dGeometry, ConvInput, LarsRule, MomentumRule, Positives, RowTargets, ScaleShiftRelu,
};
