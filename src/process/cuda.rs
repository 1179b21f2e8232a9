//! Facts about NVIDIA GPUs and their libraries, from CUDA itself.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::{cublas, driver};
use driver::result::DriverError;
use driver::{CudaContext, sys};

/// A GPU.
pub struct Card {
    /// Name of the product.
    pub name: String,
    /// Compute capability, e.g. (9, 0).
    pub capability: (i32, i32),
    /// Memory in bytes.
    pub memory: u64,
    /// Memory that no process uses, in bytes.
    pub free_memory: u64,
}

/// Number of GPUs that CUDA sees.
///
/// # Errors
///
/// If CUDA does not start.
pub fn count() -> Result<usize, DriverError> {
    Ok(CudaContext::device_count()?.try_into().unwrap_or(0))
}

/// The GPU with this number.
///
/// # Errors
///
/// If CUDA cannot use it.
pub fn card(number: usize) -> Result<Card, DriverError> {
    let context: Arc<CudaContext> = CudaContext::new(number)?;
    let (free, total) = context.mem_get_info()?;
    let (name, capability) = (context.name()?, context.compute_capability()?);
    Ok(Card { name, capability, memory: total as u64, free_memory: free as u64 })
}

/// Newest version of CUDA that the driver supports.
///
/// # Errors
///
/// If the driver does not tell.
pub fn supported_by_driver() -> Result<String, DriverError> {
    let mut version = 0;
    // SAFETY: the function writes one number to a valid place, and may be called before CUDA is initialized.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(format!("{}.{}", version / 1000, version % 1000 / 10))
}

/// Version of cuBLAS.
///
/// # Errors
///
/// If the library does not tell.
pub fn cublas() -> Result<String, cublas::result::CublasError> {
    use cublas::sys::libraryPropertyType_t::{MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL};
    let mut parts = [0; 3];
    for (part, property) in parts.iter_mut().zip([MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL]) {
        // SAFETY: the function writes one number to a valid place, and needs no handle.
        unsafe { cublas::sys::cublasGetProperty(property, part) }.result()?;
    }
    Ok(parts.map(|part| part.to_string()).join("."))
}

/// Version of cuDNN, from the number in which it joins the parts: 9 21 00 since version 9, before it 8 9 05.
#[cfg(feature = "cudnn")]
pub fn cudnn() -> String {
    let version = candle_core::cuda_backend::cudarc::cudnn::result::get_version();
    let major = if version >= 90_000 { 10_000 } else { 1000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}

/// Version of NCCL, from the number in which it joins the parts: 2 27 03.
///
/// # Errors
///
/// If the library does not tell.
#[cfg(feature = "nccl")]
pub fn nccl() -> Result<String, String> {
    let version = candle_core::cuda_backend::cudarc::nccl::result::get_nccl_version();
    let version = version.map_err(|error| format!("{:?}", error.0))?;
    Ok(format!("{}.{}.{}", version / 10_000, version % 10_000 / 100, version % 100))
}

/// Memory that this process has taken from a GPU's pool and not given back, in bytes.
///
/// # Errors
///
/// If the driver does not tell.
pub fn used_memory(number: usize) -> Result<u64, DriverError> {
    of_pool(number, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
}

/// Peak of [`used_memory`] since the last call of [`reset_peak`], in bytes.
///
/// # Errors
///
/// If the driver does not tell.
pub fn peak_memory(number: usize) -> Result<u64, DriverError> {
    of_pool(number, sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)
}

/// An attribute of a GPU's pool that is a number of bytes.
fn of_pool(number: usize, attribute: sys::CUmemPool_attribute) -> Result<u64, DriverError> {
    let (pool, mut bytes) = (pool(number)?, 0u64);
    // SAFETY: the pool is the device's own, and the attributes above are numbers of 64 bits.
    unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut bytes).cast()) }.result()?;
    Ok(bytes)
}

/// Starts [`peak_memory`] anew.
///
/// # Errors
///
/// If the driver refuses.
pub fn reset_peak(number: usize) -> Result<(), DriverError> {
    let (pool, mut bytes) = (pool(number)?, 0u64);
    let high = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    // SAFETY: as in `of_pool`; the peak may only be set to 0.
    unsafe { sys::cuMemPoolSetAttribute(pool, high, (&raw mut bytes).cast()) }.result()
}

/// The pool from which allocations on a GPU are taken.
fn pool(number: usize) -> Result<sys::CUmemoryPool, DriverError> {
    let device = driver::result::device::get(number.try_into().unwrap_or(i32::MAX))?;
    // SAFETY: the device exists, or the line above has failed.
    unsafe { driver::result::device::get_mem_pool(device) }
}
