//! Convolutions that cuDNN fuses with the batch norm and ReLU around them, in bf16.
//!
//! cuDNN compiles a kernel for each shape when it is first used. Shapes that it does not take are computed by separate
//! kernels. So are gradients of weights, whose activated inputs cuDNN 9 takes in f16 only.

use candle_core::cuda_backend::cudarc::cudnn::{
    result::{CudnnError, CudnnResult},
    sys,
};
use candle_core::{DType, Error, Result, Tensor};

use super::super::Plans;
use super::graph::{ALIGNMENT, Graph, Node, Plan, Target, Window};
use super::{Engine, room, with_engine};
use crate::backend::contract::{Accumulate, ConvShape, ScaleShiftRelu};
use crate::backend::cuda::memory::{address, coefficients, device_of, rows, uninitialized};

/// Operations that are fused with a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `relu(x·scale + shift)?`, convolution, sums of the output and of its squares.
    Forward {
        /// Whether the input is activated.
        activated: bool,
    },
    /// Gradient of the input, and the backward pass of the ReLU before it.
    Backward(Accumulate<()>),
}

/// A fused convolution, and its tensors in memory in the order in which [`run`] takes their addresses.
pub struct Fused {
    plan: Plan,
    tensors: Vec<Node>,
}

const BF16: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16;
const F32: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;

fn dims(dims: [usize; 4]) -> [i64; 4] {
    dims.map(|dim| dim as i64)
}

/// The graph of a pattern, and its tensors in memory: x, scale?, shift?, w, y, sum, squares.
fn forward(s: &ConvShape, activated: bool) -> CudnnResult<(Graph, Vec<Node>)> {
    let mut graph = Graph::default();
    let (of_input, of_output) = ([1, s.in_channels as i64, 1, 1], [1, s.out_channels as i64, 1, 1]);
    let x = graph.tensor(dims(s.in_dims()), BF16)?;
    let mut tensors = vec![x];
    let mut input = x;
    if activated {
        let (scale, shift) = (graph.tensor(of_input, F32)?, graph.tensor(of_input, F32)?);
        tensors.extend([scale, shift]);
        let scaled = graph.between(dims(s.in_dims()), F32)?;
        let shifted = graph.between(dims(s.in_dims()), F32)?;
        input = graph.between(dims(s.in_dims()), BF16)?;
        graph.multiply(x, scale, scaled)?;
        graph.add_to(scaled, shift, shifted)?;
        graph.relu(shifted, input)?;
    }
    let (w, y) = (graph.tensor(dims(s.weight_dims()), BF16)?, graph.tensor(dims(s.out_dims()), BF16)?);
    let (sum, squares) = (graph.tensor(of_output, F32)?, graph.tensor(of_output, F32)?);
    graph.convolve(window(s), input, w, y)?;
    graph.sums(y, sum, squares)?;
    tensors.extend([w, y, sum, squares]);
    Ok((graph, tensors))
}

/// The graph of a pattern, and its tensors in memory: dy, w, the ReLU's output, the other gradient?, dx.
fn backward(s: &ConvShape, order: Accumulate<()>) -> CudnnResult<(Graph, Vec<Node>)> {
    let mut graph = Graph::default();
    let of_input = dims(s.in_dims());
    let (dy, w) = (graph.tensor(dims(s.out_dims()), BF16)?, graph.tensor(dims(s.weight_dims()), BF16)?);
    let relu = graph.tensor(of_input, BF16)?;
    let of_convolution = graph.between(of_input, F32)?;
    graph.convolve_backward(window(s), of_convolution, w, dy)?;
    let dx = graph.tensor(of_input, BF16)?;
    let mut tensors = vec![dy, w, relu];
    match order {
        Accumulate::Overwrite => graph.relu_backward(of_convolution, relu, dx)?,
        Accumulate::AddThenMask(()) => {
            let (other, sum) = (graph.tensor(of_input, BF16)?, graph.between(of_input, F32)?);
            tensors.push(other);
            graph.add_to(of_convolution, other, sum)?;
            graph.relu_backward(sum, relu, dx)?;
        }
        Accumulate::MaskThenAdd(()) => {
            let (other, masked) = (graph.tensor(of_input, BF16)?, graph.between(of_input, F32)?);
            tensors.push(other);
            graph.relu_backward(of_convolution, relu, masked)?;
            graph.add_to(masked, other, dx)?;
        }
    }
    tensors.push(dx);
    Ok((graph, tensors))
}

fn window(s: &ConvShape) -> Window {
    Window { stride: s.stride as i64, padding: s.padding as i64 }
}

impl Fused {
    /// The pattern with the shape as one plan, if cuDNN has one. Any refusal counts as none.
    pub fn of(pattern: Pattern, s: &ConvShape, target: &Target) -> Option<Self> {
        let planned = || {
            let (graph, tensors) = match pattern {
                Pattern::Forward { activated } => forward(s, activated)?,
                Pattern::Backward(order) => backward(s, order)?,
            };
            Ok(graph.plan(target)?.map(|plan| Self { plan, tensors }))
        };
        planned().unwrap_or_else(|error: CudnnError| {
            tracing::debug!("cuDNN does not fuse {pattern:?} of {s:?}: {error}");
            None
        })
    }
}

/// Whether cuDNN computes a pattern of the shape of `like` in one.
fn is_fused(pattern: Pattern, s: &ConvShape, like: &Tensor, plans: Plans) -> Result<bool> {
    // The graphs describe no groups.
    if !s.algorithms.fused || like.dtype() != DType::BF16 || s.groups != 1 {
        return Ok(false);
    }
    with_engine(device_of(like)?, |Engine { handle, fused, .. }| {
        if plans == Plans::New && !fused.contains_key(&(pattern, *s)) {
            fused.insert((pattern, *s), Fused::of(pattern, s, &Target::Handle(handle.0)));
        }
        Ok(matches!(fused.get(&(pattern, *s)), Some(Some(_))))
    })
}

/// Runs a pattern on tensors in its order; `false` if their memory is not aligned as the plan expects.
fn run(pattern: Pattern, s: &ConvShape, like: &Tensor, addresses: &[u64]) -> Result<bool> {
    if !addresses.iter().all(|address| address.is_multiple_of(ALIGNMENT)) {
        return Ok(false);
    }
    with_engine(device_of(like)?, |Engine { handle, fused, workspace, .. }| {
        let Some(Some(Fused { plan, tensors })) = fused.get(&(pattern, *s)) else { return Ok(false) };
        let room = room(workspace, plan.workspace.max(1), like)?;
        let tensors: Vec<(Node, u64)> = tensors.iter().copied().zip(addresses.iter().copied()).collect();
        // SAFETY: The callers hold tensors of the shape's sizes with these addresses, and the room is large enough.
        unsafe { plan.run(handle.0, &tensors, room) }?;
        Ok(true)
    })
}

/// Output `[N, H', W', O]` and its sums `[2, O]` in f64 from xs `[N, H, W, C]`, its activation, and a weight
/// `[O, kh·kw, C]`; `None` where it is not fused.
///
/// # Errors
///
/// If there is not enough memory, or cuDNN fails.
pub fn forward_with_sums(
    xs: &Tensor,
    activation: Option<&ScaleShiftRelu>,
    weight: &Tensor,
    s: &ConvShape,
    plans: Plans,
) -> Result<Option<(Tensor, Tensor)>> {
    let pattern = Pattern::Forward { activated: activation.is_some() };
    if !is_fused(pattern, s, xs, plans)? {
        return Ok(None);
    }
    let ys = uninitialized(&[s.batch, s.out_size.0, s.out_size.1, s.out_channels], xs.dtype(), xs.device())?;
    let sums = uninitialized(&[2, s.out_channels], DType::F32, xs.device())?;
    let of = |a: &ScaleShiftRelu| Ok::<_, Error>([coefficients(&a.scale)?, coefficients(&a.shift)?]);
    let activation = activation.map(of).transpose()?;
    let mut addresses = vec![address(xs)?];
    for coefficients in activation.iter().flatten() {
        addresses.push(address(coefficients)?);
    }
    addresses.extend([address(weight)?, address(&ys)?, address(&sums.get(0)?)?, address(&sums.get(1)?)?]);
    match run(pattern, s, xs, &addresses)? {
        true => Ok(Some((ys, sums.to_dtype(DType::F64)?))),
        false => Ok(None),
    }
}

/// Gradient of a ReLU's input, `[N, H, W, C]`, from dys `[N, H', W', O]`, a weight `[O, kh·kw, C]`, the ReLU's output
/// and the gradient of another path, `[N, H, W, C]` both; `None` where it is not fused.
///
/// # Errors
///
/// If there is not enough memory, or cuDNN fails.
pub fn backward_data_relu(
    dys: &Tensor,
    weight: &Tensor,
    relu_output: &Tensor,
    accumulate: &Accumulate,
    s: &ConvShape,
) -> Result<Option<Tensor>> {
    let pattern = Pattern::Backward(accumulate.order());
    if !is_fused(pattern, s, dys, Plans::New)? {
        return Ok(None);
    }
    let dxs = uninitialized(&[s.batch, s.in_size.0, s.in_size.1, s.in_channels], dys.dtype(), dys.device())?;
    let other = accumulate.existing().map(rows).transpose()?;
    let mut addresses = vec![address(dys)?, address(weight)?, address(relu_output)?];
    addresses.extend(other.as_ref().map(address).transpose()?);
    addresses.push(address(&dxs)?);
    Ok(run(pattern, s, dys, &addresses)?.then_some(dxs))
}

/// Numbers of patterns with shapes of this thread's device that are fused, and that are not.
///
/// # Errors
///
/// If cuDNN does not start.
#[cfg(test)]
pub fn planned(like: &Tensor) -> Result<(usize, usize)> {
    with_engine(device_of(like)?, |Engine { fused, .. }| {
        let taken = fused.values().flatten().count();
        Ok((taken, fused.len() - taken))
    })
}
