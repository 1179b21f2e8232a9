//! f64 on the CPU, over planes (`[N, C, H, W]`): plain kernels that prove the fast ones, and take what those do not.

mod batch_norm;
mod convolution;
mod kernels;
mod pooling;

pub use convolution::{conv2d, conv2d_backward_data, conv2d_backward_weight};

use crate::backend::contract::MatrixOps;
use crate::backend::cpu::CpuBackend;

/// The backend of f64 tensors on the CPU.
pub struct CpuPortable;

impl CpuBackend for CpuPortable {}

impl MatrixOps for CpuPortable {}
