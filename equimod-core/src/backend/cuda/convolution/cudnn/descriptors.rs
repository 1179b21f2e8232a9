//! cuDNN's handle and descriptors, which are destroyed with their owners.

use std::ffi::c_int;

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::{DType, Error, Result};

use super::data_type;
use crate::backend::contract::ConvShape;

/// cuDNN's context on a device and its stream.
pub struct Handle(pub sys::cudnnHandle_t);

impl Handle {
    /// Opens cuDNN on the device's stream.
    ///
    /// # Errors
    ///
    /// If cuDNN cannot be initialized.
    pub fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().map_err(Error::wrap)?;
        let handle = Self(result::create_handle().map_err(|e| Error::msg(format!("cuDNN does not start: {e}")))?);
        // SAFETY: The handle is new; the stream lives as long as the device, whose tensors the handle is used with.
        unsafe { result::set_stream(handle.0, stream.cu_stream().cast()) }.map_err(Error::wrap)?;
        Ok(handle)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: The handle is destroyed once. At the end of a process, an error is of no consequence.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// Descriptors of a convolution's tensors, channels-last.
pub struct Descriptors {
    /// Input, or its gradient.
    pub x: sys::cudnnTensorDescriptor_t,
    /// Weight, or its gradient.
    pub w: sys::cudnnFilterDescriptor_t,
    /// Output, or its gradient.
    pub y: sys::cudnnTensorDescriptor_t,
    /// Stride, padding, groups and arithmetic.
    pub conv: sys::cudnnConvolutionDescriptor_t,
}

impl Descriptors {
    /// Describes a convolution of tensors of type `dtype`.
    ///
    /// # Errors
    ///
    /// If a size exceeds 2³¹, or cuDNN refuses it.
    pub fn new(s: &ConvShape, dtype: DType) -> Result<Self> {
        use std::ptr::null_mut;
        let mut new = Self { x: null_mut(), w: null_mut(), y: null_mut(), conv: null_mut() };
        new.x = result::create_tensor_descriptor().map_err(Error::wrap)?;
        new.y = result::create_tensor_descriptor().map_err(Error::wrap)?;
        new.w = result::create_filter_descriptor().map_err(Error::wrap)?;
        new.conv = result::create_convolution_descriptor().map_err(Error::wrap)?;
        new.describe(s, dtype)?;
        Ok(new)
    }

    fn describe(&self, s: &ConvShape, dtype: DType) -> Result<()> {
        let (dtype, layout) = (data_type(dtype)?, sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC);
        let group = s.in_channels / s.groups;
        let (x, y) = (sizes(s.in_dims())?, sizes(s.out_dims())?);
        let w = sizes([s.out_channels, group, s.kernel.0, s.kernel.1])?;
        let [stride, padding, groups, _] = sizes([s.stride, s.padding, s.groups, 0])?;
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let compute = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        // SAFETY: All descriptors are alive.
        unsafe {
            result::set_tensor4d_descriptor(self.x, layout, dtype, x).map_err(Error::wrap)?;
            result::set_tensor4d_descriptor(self.y, layout, dtype, y).map_err(Error::wrap)?;
            result::set_filter4d_descriptor(self.w, dtype, layout, w).map_err(Error::wrap)?;
            result::set_convolution2d_descriptor(self.conv, padding, padding, stride, stride, 1, 1, mode, compute)
                .map_err(Error::wrap)?;
            result::set_convolution_group_count(self.conv, groups).map_err(Error::wrap)
        }
    }

    /// Sets the arithmetic: plain f32, TF32, or tensor cores.
    ///
    /// # Errors
    ///
    /// If cuDNN refuses it.
    pub fn set_math(&mut self, math: sys::cudnnMathType_t) -> Result<()> {
        // SAFETY: The descriptor is alive.
        unsafe { result::set_convolution_math_type(self.conv, math) }.map_err(Error::wrap)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: Each descriptor that was created is destroyed once.
        unsafe {
            if !self.x.is_null() {
                let _ = result::destroy_tensor_descriptor(self.x);
            }
            if !self.y.is_null() {
                let _ = result::destroy_tensor_descriptor(self.y);
            }
            if !self.w.is_null() {
                let _ = result::destroy_filter_descriptor(self.w);
            }
            if !self.conv.is_null() {
                let _ = result::destroy_convolution_descriptor(self.conv);
            }
        }
    }
}

fn sizes(dims: [usize; 4]) -> Result<[c_int; 4]> {
    let mut sizes = [0; 4];
    for (size, dim) in sizes.iter_mut().zip(dims) {
        *size = c_int::try_from(dim).map_err(Error::wrap)?;
    }
    Ok(sizes)
}
