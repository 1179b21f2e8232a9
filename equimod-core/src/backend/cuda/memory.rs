//! Tensors as rows of channels, their addresses, and new tensors.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use candle_core::cuda_backend::{CudaDevice, CudaStorageSlice};
use candle_core::{DType, Device, Result, Storage, Tensor, bail};

use crate::backend::layout::channels_last;
pub use crate::backend::layout::channels_second;

/// The CUDA device of a tensor.
///
/// # Errors
///
/// If it is on another device.
pub fn device_of(tensor: &Tensor) -> Result<&CudaDevice> {
    tensor.device().as_cuda_device()
}

/// Address of a contiguous tensor's first value. It is valid while the tensor is alive, and for work on the device's
/// stream that has been launched until then.
///
/// # Errors
///
/// If the tensor is not contiguous, not on a CUDA device, or of an element type without kernels.
pub fn address(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { bail!("a CUDA kernel got a tensor on {:?}", tensor.device()) };
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("a CUDA kernel got a tensor that is not contiguous, of shape {:?}", layout.dims())
    };
    let stream = storage.device().cuda_stream();
    match &storage.slice {
        CudaStorageSlice::F32(values) => Ok(pointer(values, &stream, start)),
        CudaStorageSlice::BF16(values) => Ok(pointer(values, &stream, start)),
        CudaStorageSlice::F64(values) => Ok(pointer(values, &stream, start)),
        CudaStorageSlice::U32(values) => Ok(pointer(values, &stream, start)),
        CudaStorageSlice::I64(values) => Ok(pointer(values, &stream, start)),
        CudaStorageSlice::U8(values) => Ok(pointer(values, &stream, start)),
        _ => bail!("there are no CUDA kernels for {:?}", storage.dtype()),
    }
}

fn pointer<T>(values: &CudaSlice<T>, stream: &CudaStream, start: usize) -> u64 {
    let (address, _) = values.device_ptr(stream);
    address + (start * size_of::<T>()) as u64
}

/// Address of an optional tensor, 0 for none.
///
/// # Errors
///
/// Those of [`address`].
pub fn address_or_null(tensor: Option<&Tensor>) -> Result<u64> {
    tensor.map_or(Ok(0), address)
}

/// A new tensor without defined values.
///
/// # Errors
///
/// If there is not enough memory.
pub fn uninitialized(dims: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
    // SAFETY: Every caller launches a kernel that writes all values.
    unsafe { Tensor::empty(dims, dtype, device) }
}

/// A tensor `[N, C, …]` as contiguous rows of channels, `[N, …, C]`. It is a view if its memory already has that layout
/// (as results of these kernels, or `[N, C]`), else a copy.
///
/// # Errors
///
/// If it has fewer than two dimensions, or there is not enough memory.
pub fn rows(tensor: &Tensor) -> Result<Tensor> {
    channels_last(&tensor.detach())?.contiguous()
}

/// Number of rows and channels of a tensor in rows of channels, as the kernels count them.
///
/// # Errors
///
/// If there are 2³² rows or more.
pub fn sizes(rows: &Tensor) -> Result<(u32, u32)> {
    let channels = rows.dims().last().copied().unwrap_or(1);
    Ok((count(rows.elem_count() / channels.max(1))?, count(channels)?))
}

/// A number as the kernels count.
///
/// # Errors
///
/// If it is 2³² or more.
pub fn count(number: usize) -> Result<u32> {
    u32::try_from(number)
        .map_err(|_| candle_core::Error::msg(format!("{number} values are too many for a CUDA kernel")))
}

/// A contiguous tensor of per-channel values in f32.
///
/// # Errors
///
/// If a tensor operation fails.
pub fn coefficients(tensor: &Tensor) -> Result<Tensor> {
    tensor.detach().to_dtype(DType::F32)?.contiguous()
}
