//! f32 backend for the CPU, over rows of channels: tensors `[N, C, H, W]` whose memory layout is `[N, H, W, C]`
//! (PyTorch's channels-last).
//!
//! Results keep that layout from layer to layer. Fused operations have separate kernels, and work in place if they may.
//! Convolutions with groups use the [portable](super::cpu_portable) kernels.

mod batch_norm;
mod convolution;
pub(super) mod kernels;
pub(super) mod layout;
mod matrix;
mod pooling;

use crate::backend::cpu::CpuBackend;

/// Backend for f32 tensors on the CPU.
pub struct CpuFast;

impl CpuBackend for CpuFast {}
