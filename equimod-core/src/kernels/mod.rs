//! What the layers call: forward and backward of convolution, batch norm and pooling, and products of
//! matrices.
//!
//! Three forms do the same. `fast`, in f32 on the CPU, works on rows of channels (channels-last): its results are
//! tensors `[N, C, H, W]` whose memory is `[N, H, W, C]`, and so stay from layer to layer. `portable`, in f64 on the CPU,
//! works on planes; it proves the others. On other devices [`composed`] does it with candle's operations. Any layout
//! is taken, results are fresh unless a function says that it uses an argument's memory, no operation is tracked by
//! candle's differentiation, and results do not depend on the number of threads.

pub mod composed;
mod convolution;
mod element;
mod fast;
mod matmul;
mod matrix;
mod norm;
mod pooling;
mod portable;
mod shapes;
#[cfg(test)]
mod tests;
mod values;
mod vectorise;

pub use convolution::{
    Beside, Input, conv2d, conv2d_backward_data, conv2d_backward_data_before_relu, conv2d_backward_weight,
    conv2d_with_sums,
};
pub use element::Element;
pub use matmul::{Matrix, matmul};
pub use matrix::{times, times_transposed, transposed_times};
pub use norm::{
    Rectifier, batch_norm_apply, batch_norm_apply_in_place, batch_norm_backward, batch_norm_backward_in_place,
    batch_norm_backward_sums, batch_norm_sums, relu_backward,
};
pub use pooling::{global_average_pool, global_average_pool_backward, max_pool2d, max_pool2d_backward};
pub use shapes::Conv2dGeometry;
pub(crate) use values::Values;
pub(crate) use vectorise::vectorised;
