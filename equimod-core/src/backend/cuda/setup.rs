//! Devices with a stream and a memory pool for training.

use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{Device, Error, Result};

/// Opens a device with a stream of its own and a memory pool that keeps freed memory.
///
/// candle's default stream differs from thread to thread, so that a tensor of one thread could be read by another
/// before it is computed. With a single stream for all work, events that order accesses are not needed.
///
/// # Errors
///
/// If there is no such device, or the driver fails.
pub fn open(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: All kernels and copies of this device go to its one stream, in program order; uploads on another stream
    // are ordered by events of their own.
    unsafe { cuda.disable_event_tracking() };
    keep_freed_memory(ordinal)?;
    Ok(device)
}

/// Keeps freed memory in the device's pool, so that the allocations of every step after the first take no memory from
/// the system.
fn keep_freed_memory(ordinal: usize) -> Result<()> {
    let ordinal = i32::try_from(ordinal).map_err(Error::wrap)?;
    let device = result::device::get(ordinal).map_err(Error::wrap)?;
    let mut limit = u64::MAX;
    // SAFETY: The device exists, and the attribute is a 64-bit number.
    unsafe {
        let pool = result::device::get_default_mem_pool(device).map_err(Error::wrap)?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, std::ptr::from_mut(&mut limit).cast()).map_err(Error::wrap)
    }
}
