//! Memory of a device that this process uses, and its peak.

use candle_core::{Device, DeviceLocation};

use super::allocator::MEMORY;

/// Bytes of a device's memory that this process uses now; 0 if the device does not tell.
pub fn in_use(device: &Device) -> u64 {
    match device.location() {
        DeviceLocation::Cpu => MEMORY.current_usage() as u64,
        #[cfg(feature = "cuda")]
        DeviceLocation::Cuda { gpu_id } => super::cuda::used_memory(gpu_id).unwrap_or(0),
        _ => 0,
    }
}

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

/// Peak of a device's memory in bytes without those that were in use `before`, if the device tells it.
pub fn peak(device: &Device, before: u64) -> Option<u64> {
    let peak = match device.location() {
        DeviceLocation::Cpu => Some(MEMORY.peak_usage() as u64),
        #[cfg(feature = "cuda")]
        DeviceLocation::Cuda { gpu_id } => super::cuda::peak_memory(gpu_id).ok().filter(|bytes| *bytes > 0),
        _ => None,
    };
    peak.map(|bytes| bytes.saturating_sub(before))
}
