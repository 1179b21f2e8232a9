//! f64 backend for the CPU, over planes (`[N, C, H, W]`). Its plain kernels verify the fast ones, and handle the cases
//! that those do not support.

mod batch_norm;
mod convolution;
mod kernels;
mod pooling;

pub use convolution::{conv2d, conv2d_backward_data, conv2d_backward_weight};

use crate::backend::contract::MatrixOps;
use crate::backend::cpu::CpuBackend;

/// Backend for f64 tensors on the CPU.
pub struct CpuPortable;

impl CpuBackend for CpuPortable {}

impl MatrixOps for CpuPortable {}
