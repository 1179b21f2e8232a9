//! Convolutions by cuDNN, with an algorithm and a workspace size for each shape.
//!
//! Only deterministic algorithms are used, so that runs can be repeated bit for bit. They are chosen by cuDNN's
//! heuristics, or by their time in a search on the first use of a shape, which may choose differently in another run.

mod algorithms;
mod descriptors;
mod fused;
mod graph;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{DType, Error, Result, Tensor};

use algorithms::{Algorithm, Direction, Plan};
use descriptors::{Descriptors, Handle};
use fused::{Fused, Pattern};

pub use fused::{backward_data_relu, forward_with_sums};

use crate::backend::contract::ConvShape;
use crate::backend::cuda::memory::{address, device_of, uninitialized};

/// Addresses of the tensors of a convolution: input, weight and output, or their gradients.
#[derive(Clone, Copy)]
struct Addresses {
    x: u64,
    w: u64,
    y: u64,
}

/// A convolution of one shape in one direction, ready to run.
struct Prepared {
    descriptors: Descriptors,
    plan: Plan,
}

/// cuDNN on one device, as used by one thread.
struct Engine {
    handle: Handle,
    prepared: HashMap<(Direction, DType, ConvShape), Prepared>,
    /// Shapes that cuDNN does not fuse have no plan.
    fused: HashMap<(Pattern, ConvShape), Option<Fused>>,
    workspace: Option<Tensor>,
}

thread_local! {
    static ENGINES: RefCell<HashMap<DeviceId, Engine>> = RefCell::default();
}

fn with_engine<T>(device: &CudaDevice, f: impl FnOnce(&mut Engine) -> Result<T>) -> Result<T> {
    ENGINES.with_borrow_mut(|engines| {
        let engine = match engines.entry(device.id()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let handle = Handle::new(device)?;
                entry.insert(Engine { handle, prepared: HashMap::new(), fused: HashMap::new(), workspace: None })
            }
        };
        f(engine)
    })
}

/// Room for a workspace of `bytes`; one room serves all convolutions of a device, which run one after the other.
fn room(workspace: &mut Option<Tensor>, bytes: usize, like: &Tensor) -> Result<u64> {
    if workspace.as_ref().is_none_or(|room| room.elem_count() < bytes) {
        // The old room is freed before the new one is allocated.
        *workspace = None;
        *workspace = Some(uninitialized(&[bytes], DType::U8, like.device())?);
    }
    workspace.as_ref().map_or(Ok(0), address)
}

/// Runs a convolution in one direction on tensors of the given addresses.
fn run(direction: Direction, s: &ConvShape, tensors: Addresses, like: &Tensor) -> Result<()> {
    with_engine(device_of(like)?, |engine| {
        let Engine { handle, prepared, workspace, .. } = engine;
        let prepared = match prepared.entry((direction, like.dtype(), *s)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut descriptors = Descriptors::new(s, like.dtype())?;
                let room = |bytes: usize| room(workspace, bytes, like);
                let is_f32 = like.dtype() == DType::F32;
                let plan = algorithms::choose(direction, handle, &mut descriptors, s, tensors, is_f32, room)?;
                entry.insert(Prepared { descriptors, plan })
            }
        };
        let room = room(workspace, prepared.plan.workspace.max(1), like)?;
        launch(handle, prepared, tensors, room)
    })
}

fn launch(handle: &Handle, Prepared { descriptors: d, plan }: &Prepared, at: Addresses, room: u64) -> Result<()> {
    let (one, zero) = (1f32, 0f32);
    let (alpha, beta) = (std::ptr::from_ref(&one).cast(), std::ptr::from_ref(&zero).cast());
    let (x, w, y, room, bytes) = (at.x as *mut _, at.w as *mut _, at.y as *mut _, room as *mut _, plan.workspace);
    // SAFETY: Descriptors and handle are alive, the addresses are of contiguous tensors of the described sizes, and the
    // workspace is at least as large as the plan says.
    let done = unsafe {
        match plan.algorithm {
            Algorithm::Forward(a) => {
                result::convolution_forward(handle.0, alpha, d.x, x, d.w, w, d.conv, a, room, bytes, beta, d.y, y)
            }
            Algorithm::Data(a) => {
                result::convolution_backward_data(handle.0, alpha, d.w, w, d.y, y, d.conv, a, room, bytes, beta, d.x, x)
            }
            Algorithm::Weight(a) => result::convolution_backward_filter(
                handle.0, alpha, d.x, x, d.y, y, d.conv, a, room, bytes, beta, d.w, w,
            ),
        }
    };
    done.map_err(|error| Error::msg(format!("cuDNN cannot compute a convolution: {error}")))
}

/// Output `[N, H', W', O]` from xs `[N, H, W, C]` and a weight `[O, kh·kw, C/groups]`.
///
/// # Errors
///
/// If cuDNN has no algorithm for the shape, or there is not enough memory.
pub fn forward(xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let ys = uninitialized(&[s.batch, s.out_size.0, s.out_size.1, s.out_channels], xs.dtype(), xs.device())?;
    let tensors = Addresses { x: address(xs)?, w: address(weight)?, y: address(&ys)? };
    run(Direction::Forward, s, tensors, xs)?;
    Ok(ys)
}

/// Gradient of the input, `[N, H, W, C]`, from dys `[N, H', W', O]` and a weight `[O, kh·kw, C/groups]`.
///
/// # Errors
///
/// If cuDNN has no algorithm for the shape, or there is not enough memory.
pub fn backward_data(dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let dxs = uninitialized(&[s.batch, s.in_size.0, s.in_size.1, s.in_channels], dys.dtype(), dys.device())?;
    let tensors = Addresses { x: address(&dxs)?, w: address(weight)?, y: address(dys)? };
    run(Direction::Data, s, tensors, dys)?;
    Ok(dxs)
}

/// Gradient of the weight, `[O, kh·kw, C/groups]`, from xs `[N, H, W, C]` and dys `[N, H', W', O]`, of the type of xs.
///
/// # Errors
///
/// If cuDNN has no algorithm for the shape, or there is not enough memory.
pub fn backward_weight(xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let dims = [s.out_channels, s.kernel.0 * s.kernel.1, s.in_channels / s.groups];
    let dws = uninitialized(&dims, xs.dtype(), xs.device())?;
    let tensors = Addresses { x: address(xs)?, w: address(&dws)?, y: address(dys)? };
    run(Direction::Weight, s, tensors, xs)?;
    Ok(dws)
}

/// cuDNN's data type of an element type.
fn data_type(dtype: DType) -> Result<sys::cudnnDataType_t> {
    match dtype {
        DType::F32 => Ok(sys::cudnnDataType_t::CUDNN_DATA_FLOAT),
        DType::BF16 => Ok(sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16),
        other => candle_core::bail!("convolutions on a CUDA device take f32 or bf16, not {other:?}"),
    }
}
