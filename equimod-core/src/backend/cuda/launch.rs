//! Entry points of the kernels, and launches on a device's stream.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::driver::{CudaFunction, result};
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{DType, Error, Result};

mod ptx {
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

/// A file of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Module {
    /// Batch norm and ReLU.
    BatchNorm,
    /// Layouts of weights and windows.
    Convolution,
    /// Pixels.
    Images,
    /// Cross-entropy.
    Loss,
    /// Norms, optimizers, moving averages.
    Optimizer,
    /// Pools.
    Pooling,
    /// Views from original images.
    Views,
}

impl Module {
    /// Name, and the code that the driver compiles for the device.
    fn code(self) -> (&'static str, &'static str) {
        match self {
            Self::BatchNorm => ("equimod_batch_norm", ptx::BATCH_NORM),
            Self::Convolution => ("equimod_convolution", ptx::CONVOLUTION),
            Self::Images => ("equimod_images", ptx::IMAGES),
            Self::Loss => ("equimod_loss", ptx::LOSS),
            Self::Optimizer => ("equimod_optimizer", ptx::OPTIMIZER),
            Self::Pooling => ("equimod_pooling", ptx::POOLING),
            Self::Views => ("equimod_views", ptx::VIEWS),
        }
    }
}

/// An entry point: a kernel's name and the suffix of one of its variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// File of the kernel.
    pub module: Module,
    /// Name without suffix.
    pub name: &'static str,
    /// Suffix, possibly empty.
    pub suffix: &'static str,
}

/// Numbers of blocks and of threads of a block, along x and y.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Blocks.
    pub blocks: (u32, u32),
    /// Threads of a block.
    pub threads: (u32, u32),
}

impl Grid {
    /// Blocks of 256 threads in one dimension, at most `limit`, for kernels that stride over `items`.
    pub fn strided(items: usize, limit: u32) -> Self {
        let blocks = items.div_ceil(256).clamp(1, limit as usize) as u32;
        Self { blocks: (blocks, 1), threads: (256, 1) }
    }
}

/// Values per thread of a kernel with variants by element type and width, and the variant's suffix.
///
/// The wide variant handles 16 bytes at once; all of `addresses` and `channels` have to be multiples of that.
///
/// # Errors
///
/// If there is no variant for `dtype`.
pub fn variant(dtype: DType, channels: usize, addresses: &[u64]) -> Result<(&'static str, usize)> {
    let (plain, wide, pack) = match dtype {
        DType::F32 => ("_f32", "_f32_wide", 4),
        DType::BF16 => ("_bf16", "_bf16_wide", 8),
        other => candle_core::bail!("the CUDA kernels take f32 or bf16, not {other:?}"),
    };
    let aligned = addresses.iter().all(|address| address.is_multiple_of(16));
    Ok(if aligned && channels.is_multiple_of(pack) { (wide, pack) } else { (plain, 1) })
}

thread_local! {
    static FUNCTIONS: RefCell<HashMap<(DeviceId, Kernel), CudaFunction>> = RefCell::default();
}

fn function(device: &CudaDevice, kernel: Kernel) -> Result<CudaFunction> {
    let key = (device.id(), kernel);
    if let Some(function) = FUNCTIONS.with_borrow(|functions| functions.get(&key).cloned()) {
        return Ok(function);
    }
    let (module, code) = kernel.module.code();
    let name = format!("{}{}", kernel.name, kernel.suffix);
    let function = device.get_or_load_custom_func(&name, module, code)?.into_cuda_function();
    FUNCTIONS.with_borrow_mut(|functions| functions.insert(key, function.clone()));
    Ok(function)
}

/// Address of a kernel's argument, which is copied at the launch.
pub fn argument<T: Copy>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}

/// Launches a kernel on the device's stream.
///
/// # Safety
///
/// `arguments` have to be valid addresses of values with the types of the kernel's parameters. Addresses of device
/// memory among the values have to be valid for the accesses of the kernel; memory freed later on the same stream is.
///
/// # Errors
///
/// If the kernel cannot be loaded or launched.
pub unsafe fn launch_raw(device: &CudaDevice, kernel: Kernel, grid: Grid, arguments: &mut [*mut c_void]) -> Result<()> {
    let function = function(device, kernel)?;
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().map_err(Error::wrap)?;
    let (blocks, threads) = ((grid.blocks.0, grid.blocks.1, 1), (grid.threads.0, grid.threads.1, 1));
    // SAFETY: The function and the stream are alive; the caller vouches for the arguments.
    let launched =
        unsafe { result::launch_kernel(function.cu_function(), blocks, threads, 0, stream.cu_stream(), arguments) };
    launched.map_err(|error| Error::msg(format!("cannot launch the kernel {}{}: {error}", kernel.name, kernel.suffix)))
}

/// Launches a kernel with the given arguments, each a variable of the type of the kernel's parameter.
macro_rules! launch {
    ($device:expr, $kernel:expr, $grid:expr, $($argument:expr),+ $(,)?) => {
        // SAFETY: Arguments have the types of the kernel's parameters, and addresses belong to tensors that the caller
        // holds, of the sizes that the kernel is told.
        unsafe {
            $crate::backend::cuda::launch::launch_raw(
                $device, $kernel, $grid, &mut [$($crate::backend::cuda::launch::argument(&$argument)),+],
            )
        }
    };
}
pub(super) use launch;
