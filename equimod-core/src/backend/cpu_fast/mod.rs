//! f32 on the CPU, over rows of channels: tensors `[N, C, H, W]` whose memory is `[N, H, W, C]` (PyTorch's
//! channels-last).
//!
//! Results stay in that layout from layer to layer. Fused forms are kernels of their own, and what may work in place
//! does. Convolutions with groups go to the [portable](super::cpu_portable) kernels.

mod batch_norm;
mod convolution;
pub(super) mod kernels;
pub(super) mod layout;
mod matrix;
mod pooling;

use crate::backend::cpu::CpuBackend;

/// The backend of f32 tensors on the CPU.
pub struct CpuFast;

impl CpuBackend for CpuFast {}
