//! Backends: who computes layers, losses and optimizer steps on which device and in which element type.
//!
//! - [`contract`]: the traits that a backend implements; [`of`] and [`on`] choose one
//! - [`cpu_fast`]: f32 on the CPU, channels-last; [`cpu_portable`]: f64 on the CPU, for proofs; [`composed`]: any other
//!   device, by candle's operations; [`cpu`]: code that both of the CPU's share
//! - `cuda`: f32 and bf16 on NVIDIA GPUs, with the feature `cuda`
//! - [`rounded`]: bf16, by f32 operations of one of them whose results are rounded
//!
//! Layers do not call backends but [`ops`](crate::ops), which checks shapes first. A new backend is a folder here and
//! an arm in [`on`].

pub mod composed;
pub mod contract;
pub mod cpu;
pub mod cpu_fast;
pub mod cpu_portable;
#[cfg(feature = "cuda")]
pub mod cuda;
mod layout;
pub mod rounded;
#[cfg(test)]
mod tests;

use candle_core::{DType, Device, Tensor};

use composed::Composed;
pub use contract::Backend;
use cpu_fast::CpuFast;
use cpu_portable::CpuPortable;
use rounded::Rounded;

/// The backend for tensors of an element type on a device.
pub fn on(device: &Device, dtype: DType) -> &'static dyn Backend {
    match (device, dtype) {
        (Device::Cpu, DType::F32) => &CpuFast,
        (Device::Cpu, DType::F64) => &CpuPortable,
        (Device::Cpu, DType::BF16) => &Rounded(CpuFast),
        #[cfg(feature = "cuda")]
        (Device::Cuda(_), DType::F32 | DType::BF16) => &cuda::Cuda,
        (_, DType::BF16) => &Rounded(Composed),
        _ => &Composed,
    }
}

/// The backend for a tensor.
pub fn of(tensor: &Tensor) -> &'static dyn Backend {
    on(tensor.device(), tensor.dtype())
}
