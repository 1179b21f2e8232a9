//! Devices for training.

use candle_core::Device;

use crate::Result;

/// Opens a CUDA device with a stream of its own, which every thread's work on the device goes to, and a memory pool
/// that keeps freed memory.
///
/// candle's own [`Device::new_cuda`] uses a stream for each thread, so that tensors may not move between threads.
///
/// # Errors
///
/// If the build lacks CUDA, there is no such device, or the driver fails.
pub fn cuda(ordinal: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    return Ok(crate::backend::cuda::open(ordinal)?);
    #[cfg(not(feature = "cuda"))]
    return Ok(Device::new_cuda(ordinal)?);
}

/// Whether the device has arithmetic units for bf16: NVIDIA GPUs with compute capability 8.0 (Ampere) or later.
pub fn has_bf16_units(device: &Device) -> bool {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => cuda.cuda_stream().context().compute_capability().is_ok_and(|(major, _)| major >= 8),
        _ => false,
    }
}
