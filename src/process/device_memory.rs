//! Peak memory of a device.

use candle_core::{Device, DeviceLocation};

use super::allocator::MEMORY;

/// Starts the peak of a device's memory anew.
pub fn reset_peak(device: &Device) {
    match device.location() {
        DeviceLocation::Cpu => MEMORY.reset_peak_usage(),
        #[cfg(feature = "cuda")]
        DeviceLocation::Cuda { gpu_id } => {
            // A driver that refuses does not give a peak either.
            let _ = super::cuda::reset_peak(gpu_id);
        }
        _ => {}
    }
}

/// Peak of a device's memory in bytes, if the device tells it; on the CPU, without the bytes that were in use `before`.
pub fn peak(device: &Device, before: usize) -> Option<u64> {
    match device.location() {
        DeviceLocation::Cpu => Some(MEMORY.peak_usage().saturating_sub(before) as u64),
        #[cfg(feature = "cuda")]
        DeviceLocation::Cuda { gpu_id } => super::cuda::peak_memory(gpu_id).ok().filter(|bytes| *bytes > 0),
        _ => None,
    }
}
