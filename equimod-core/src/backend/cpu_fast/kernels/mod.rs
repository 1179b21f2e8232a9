//! Kernels on slices, over rows of channels (`[N, H, W, C]`, PyTorch's channels-last): every vector holds neighboring
//! channels, for any instruction set that `pulp` finds at run time.
//!
//! Work is split by shape, never by the number of threads, and partial sums are added in the order of the tasks.
#![allow(
    clippy::needless_range_loop,
    reason = "loops of constant length over arrays keep tiles in registers; iterators do not"
)]

pub mod batch_norm;
mod channel_sums;
mod direct;
mod matmul;
mod microkernel;
pub mod pooling;
mod target;
mod tasks;
mod transpose;
mod vectors;
mod winograd;

use std::borrow::Cow;

pub use batch_norm::ScaleShiftReluRows;
pub use matmul::matmul;
use pulp::Arch;
use target::Target;
pub use transpose::transposed;
use vectors::{Shared, unwritten};

use crate::backend::contract::{Accumulate, ConvShape};

/// Algorithm of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Direct convolution: products over windows in place, without unfolding.
    Direct,
    /// Winograd's algorithm: F(4×4, 3×3) at stride 1, F(4, 2) at stride 2.
    Winograd,
}

impl Algorithm {
    /// The fastest algorithm that may be used.
    pub fn of(s: &ConvShape) -> Self {
        if s.algorithms.winograd && winograd::takes(s) { Self::Winograd } else { Self::Direct }
    }
}

/// Input of a convolution, `[N, H, W, C]`: values, or a batch norm and ReLU of them.
#[derive(Clone, Copy)]
pub struct ConvInputRows<'a> {
    /// Values before the activation.
    pub values: &'a [f32],
    /// Batch norm and ReLU that are applied to the values as the convolution reads them.
    pub activation: Option<ScaleShiftReluRows<'a>>,
}

impl<'a> ConvInputRows<'a> {
    /// The values that the convolution reads, materialized.
    fn materialized(self, arch: Arch) -> Cow<'a, [f32]> {
        match self.activation {
            Some(ScaleShiftReluRows { scale, shift }) => {
                batch_norm::apply(arch, self.values, scale, shift, None, true).into()
            }
            None => self.values.into(),
        }
    }
}

/// Convolution: x, w `[O, C, kh, kw]` → `[N, H', W', O]` and, with `sums`, Σ and Σ² of each channel, `[2, O]`.
pub fn conv2d(
    arch: Arch,
    algorithm: Algorithm,
    x: ConvInputRows,
    w: &[f32],
    s: &ConvShape,
    sums: bool,
) -> (Vec<f32>, Option<Vec<f64>>) {
    match algorithm {
        Algorithm::Direct => direct::forward(arch, &x.materialized(arch), w, s, sums),
        Algorithm::Winograd => winograd::forward(arch, x, w, s, sums),
    }
}

/// Gradient of the input: dy `[N, H', W', O]`, w → dx `[N, H, W, C]`, masked by the ReLU whose output `relu` was the
/// input, if there is one.
pub fn conv2d_backward_data(
    arch: Arch,
    algorithm: Algorithm,
    [dy, w]: [&[f32]; 2],
    s: &ConvShape,
    relu: Option<&[f32]>,
) -> Vec<f32> {
    let mut dx = unwritten(s.inputs());
    conv2d_backward_data_onto(arch, algorithm, [dy, w], s, relu, (Accumulate::Overwrite, &mut dx));
    dx
}

/// [`conv2d_backward_data`] into `dx`, combined with the gradient that it holds.
pub fn conv2d_backward_data_onto(
    arch: Arch,
    algorithm: Algorithm,
    [dy, w]: [&[f32]; 2],
    s: &ConvShape,
    relu: Option<&[f32]>,
    (accumulate, dx): (Accumulate<()>, &mut [f32]),
) {
    let target = Target { out: Shared::new(dx), accumulate, relu };
    match algorithm {
        Algorithm::Direct => direct::backward_data(arch, dy, w, s, target),
        Algorithm::Winograd => winograd::backward_data(arch, dy, w, s, target),
    }
}

/// Gradient of the weight: x, dy `[N, H', W', O]` → dw `[O, C, kh, kw]`.
pub fn conv2d_backward_weight(
    arch: Arch,
    algorithm: Algorithm,
    x: ConvInputRows,
    dy: &[f32],
    s: &ConvShape,
) -> Vec<f32> {
    match algorithm {
        Algorithm::Direct => direct::backward_weight(arch, &x.materialized(arch), dy, s),
        Algorithm::Winograd => winograd::backward_weight(arch, x, dy, s),
    }
}
