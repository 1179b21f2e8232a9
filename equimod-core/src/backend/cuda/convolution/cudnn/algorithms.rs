//! Choice of a convolution's algorithm.

use std::ffi::{c_int, c_void};

use candle_core::cuda_backend::cudarc::cudnn::{result, sys};
use candle_core::{Error, Result, bail};

use super::Addresses;
use super::descriptors::{Descriptors, Handle};
use crate::backend::contract::ConvShape;

/// Memory that an algorithm may use, in bytes.
const WORKSPACE: usize = 1 << 30;

/// Algorithms of a direction, at most.
const COUNT: usize = 8;

/// One of a convolution's three computations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The output.
    Forward,
    /// Gradient of the input.
    Data,
    /// Gradient of the weight.
    Weight,
}

/// An algorithm of one direction.
#[derive(Clone, Copy, Debug)]
pub enum Algorithm {
    /// Computes the output.
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    /// Computes the gradient of the input.
    Data(sys::cudnnConvolutionBwdDataAlgo_t),
    /// Computes the gradient of the weight.
    Weight(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// The algorithm of a convolution, the workspace that it needs, and its arithmetic.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Algorithm.
    pub algorithm: Algorithm,
    /// Bytes of workspace.
    pub workspace: usize,
    /// Arithmetic.
    pub math: sys::cudnnMathType_t,
}

/// cuDNN's record of an algorithm.
trait Record: Copy {
    /// The plan, if the algorithm runs, is deterministic and fits the workspace.
    fn plan(&self) -> Option<Plan>;
}

macro_rules! record {
    ($record:ty, $direction:ident) => {
        impl Record for $record {
            fn plan(&self) -> Option<Plan> {
                let usable = self.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                    && self.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                    && self.memory <= WORKSPACE;
                let algorithm = Algorithm::$direction(self.algo);
                usable.then_some(Plan { algorithm, workspace: self.memory, math: self.mathType })
            }
        }
    };
}
record!(sys::cudnnConvolutionFwdAlgoPerfStruct, Forward);
record!(sys::cudnnConvolutionBwdDataAlgoPerfStruct, Data);
record!(sys::cudnnConvolutionBwdFilterAlgoPerfStruct, Weight);

/// The first usable plan of the records that `list` fills, in the order of preference. Its arguments are the capacity,
/// the number of records and the records.
fn first<R: Record>(list: impl FnOnce(c_int, *mut c_int, *mut R) -> sys::cudnnStatus_t) -> Result<Option<Plan>> {
    // SAFETY: Records are plain data.
    let mut records: [R; COUNT] = unsafe { std::mem::zeroed() };
    let mut count: c_int = 0;
    list(COUNT as c_int, &mut count, records.as_mut_ptr()).result().map_err(Error::wrap)?;
    Ok(records.iter().take(usize::try_from(count).unwrap_or(0)).find_map(Record::plan))
}

/// The best plan by cuDNN's heuristics.
fn by_heuristics(direction: Direction, handle: &Handle, d: &Descriptors) -> Result<Option<Plan>> {
    // SAFETY: Handle and descriptors are alive, and the records have the capacity that is passed.
    unsafe {
        match direction {
            Direction::Forward => first(|n, count, records| {
                sys::cudnnGetConvolutionForwardAlgorithm_v7(handle.0, d.x, d.w, d.conv, d.y, n, count, records)
            }),
            Direction::Data => first(|n, count, records| {
                sys::cudnnGetConvolutionBackwardDataAlgorithm_v7(handle.0, d.w, d.y, d.conv, d.x, n, count, records)
            }),
            Direction::Weight => first(|n, count, records| {
                sys::cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle.0, d.x, d.y, d.conv, d.w, n, count, records)
            }),
        }
    }
}

/// The fastest plan by measurement on the tensors at hand, of which the result is overwritten.
fn by_time(
    direction: Direction,
    handle: &Handle,
    d: &Descriptors,
    at: Addresses,
    room: *mut c_void,
) -> Result<Option<Plan>> {
    let (h, size) = (handle.0, WORKSPACE);
    let (x, w, y) = (at.x as *mut c_void, at.w as *mut c_void, at.y as *mut c_void);
    // SAFETY: Handle and descriptors are alive, the addresses are of contiguous tensors of the described sizes, the
    // room has the size that is passed, and the records have the capacity that is passed.
    unsafe {
        match direction {
            Direction::Forward => first(|n, count, r| {
                sys::cudnnFindConvolutionForwardAlgorithmEx(h, d.x, x, d.w, w, d.conv, d.y, y, n, count, r, room, size)
            }),
            Direction::Data => first(|n, count, r| {
                sys::cudnnFindConvolutionBackwardDataAlgorithmEx(
                    h, d.w, w, d.y, y, d.conv, d.x, x, n, count, r, room, size,
                )
            }),
            Direction::Weight => first(|n, count, r| {
                sys::cudnnFindConvolutionBackwardFilterAlgorithmEx(
                    h, d.x, x, d.y, y, d.conv, d.w, w, n, count, r, room, size,
                )
            }),
        }
    }
}

/// Workspace of a plan for the descriptors as they are set.
fn workspace(algorithm: Algorithm, handle: &Handle, d: &Descriptors) -> Result<usize> {
    // SAFETY: Handle and descriptors are alive.
    let bytes = unsafe {
        match algorithm {
            Algorithm::Forward(a) => result::get_convolution_forward_workspace_size(handle.0, d.x, d.w, d.conv, d.y, a),
            Algorithm::Data(a) => {
                result::get_convolution_backward_data_workspace_size(handle.0, d.w, d.y, d.conv, d.x, a)
            }
            Algorithm::Weight(a) => {
                result::get_convolution_backward_filter_workspace_size(handle.0, d.x, d.y, d.conv, d.w, a)
            }
        }
    };
    bytes.map_err(Error::wrap)
}

/// Chooses the plan of a convolution. `room` makes room for a workspace of some bytes.
///
/// # Errors
///
/// If cuDNN has no deterministic algorithm for the shape.
pub fn choose(
    direction: Direction,
    handle: &Handle,
    descriptors: &mut Descriptors,
    s: &ConvShape,
    at: Addresses,
    is_f32: bool,
    room: impl FnOnce(usize) -> Result<u64>,
) -> Result<Plan> {
    let exact = is_f32 && !s.algorithms.tf32;
    descriptors.set_math(match exact {
        true => sys::cudnnMathType_t::CUDNN_FMA_MATH,
        false => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    })?;
    let plan = match s.algorithms.autotune {
        true => by_time(direction, handle, descriptors, at, room(WORKSPACE)? as *mut c_void)?,
        false => by_heuristics(direction, handle, descriptors)?,
    };
    let Some(mut plan) = plan else {
        bail!("cuDNN has no deterministic algorithm for a convolution ({direction:?}) of the shape {s:?}")
    };
    if exact {
        plan.math = sys::cudnnMathType_t::CUDNN_FMA_MATH;
    }
    descriptors.set_math(plan.math)?;
    plan.workspace = workspace(plan.algorithm, handle, descriptors)?;
    Ok(plan)
}
