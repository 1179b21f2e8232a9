//! f32 and bf16 on NVIDIA GPUs: convolutions by cuDNN or as matrix products, everything else by kernels of this crate.
//!
//! - `kernels/*.cu`: the kernels, which the build script compiles to PTX
//! - [`launch`]: their entry points, and launches on a device's stream
//! - [`memory`]: tensors as rows of channels (channels-last), and addresses
//! - [`convolution`], [`batch_norm`], [`pooling`], [`loss`], [`optimizer`], [`images`] ([`views`]): the
//!   backend's methods
//! - [`setup`]: streams and memory pools; [`upload`]: transfers beside computation
//!
//! All computation of a device goes to one stream in program order. Nothing here waits for it, but an upload for one
//! eight uploads earlier. No result depends on the order in which blocks or threads run.

mod batch_norm;
mod convolution;
mod images;
mod launch;
mod loss;
mod matrix;
mod memory;
mod optimizer;
mod pooling;
mod setup;
mod upload;
mod views;

#[cfg(test)]
pub use convolution::WITHOUT_CUDNN;
#[cfg(feature = "nccl")]
pub use memory::{address, uninitialized};
pub use setup::open;

/// Backend for f32 and bf16 on CUDA devices.
pub struct Cuda;
