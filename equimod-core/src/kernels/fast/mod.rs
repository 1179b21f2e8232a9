//! The kernels of the CPU in f32, over rows of channels (`[N, H, W, C]`, PyTorch's channels-last): every vector holds
//! neighbouring channels, for any instruction set that `pulp` finds at run time.
//!
//! Work is cut by shape, never by the number of threads, and partial sums are added in the order of the tasks.
#![allow(
    clippy::needless_range_loop,
    reason = "loops of constant length over arrays keep tiles in registers; iterators do not"
)]

mod direct;
mod joined;
mod lanes;
pub mod layout;
pub mod matrix;
pub mod norm;
pub mod pool;
mod product;
mod sums;
mod tasks;
mod winograd;

use std::borrow::Cow;

use joined::Target;
pub use joined::There;
use lanes::{Shared, unwritten};
pub use norm::Rectifier;
use pulp::Arch;

use super::shapes::ConvShape;

/// Which algorithm convolves a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Products over windows where they lie.
    Direct,
    /// Winograd's: F(4×4, 3×3) at stride 1, F(4, 2) at stride 2.
    Winograd,
}

impl Algorithm {
    /// The faster one of those that may be used.
    pub fn of(s: &ConvShape) -> Self {
        if s.winograd && winograd::takes(s) { Self::Winograd } else { Self::Direct }
    }
}

/// What a convolution reads, `[N, H, W, C]`: values, or what a rectifier makes of them.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The values.
    pub values: &'a [f32],
    /// What they go through first.
    pub rectifier: Option<Rectifier<'a>>,
}

impl<'a> Input<'a> {
    /// What is read, made beforehand.
    fn made(self, arch: Arch) -> Cow<'a, [f32]> {
        match self.rectifier {
            Some(Rectifier { scale, shift }) => norm::apply(arch, self.values, scale, shift, None, true).into(),
            None => self.values.into(),
        }
    }
}

/// x, w `[O, C, kh, kw]` → `[N, H', W', O]` and, if wanted, Σ and Σ² per channel, `[2, O]`.
pub fn conv2d(
    arch: Arch,
    algorithm: Algorithm,
    x: Input,
    w: &[f32],
    s: &ConvShape,
    sums: bool,
) -> (Vec<f32>, Option<Vec<f64>>) {
    match algorithm {
        Algorithm::Direct => direct::forward(arch, &x.made(arch), w, s, sums),
        Algorithm::Winograd => winograd::forward(arch, x, w, s, sums),
    }
}

/// dy `[N, H', W', O]`, w → dx `[N, H, W, C]`, and on through the ReLU that gave the input `relu`, if one did.
pub fn conv2d_backward_data(
    arch: Arch,
    algorithm: Algorithm,
    [dy, w]: [&[f32]; 2],
    s: &ConvShape,
    relu: Option<&[f32]>,
) -> Vec<f32> {
    let mut dx = unwritten(s.inputs());
    conv2d_backward_data_beside(arch, algorithm, [dy, w], s, relu, (There::Nothing, &mut dx));
    dx
}

/// [`conv2d_backward_data`], beside what is `there` in `dx`.
pub fn conv2d_backward_data_beside(
    arch: Arch,
    algorithm: Algorithm,
    [dy, w]: [&[f32]; 2],
    s: &ConvShape,
    relu: Option<&[f32]>,
    (there, dx): (There, &mut [f32]),
) {
    let target = Target { out: Shared::new(dx), there, relu };
    match algorithm {
        Algorithm::Direct => direct::backward_data(arch, dy, w, s, target),
        Algorithm::Winograd => winograd::backward_data(arch, dy, w, s, target),
    }
}

/// x, dy `[N, H', W', O]` → dw `[O, C, kh, kw]`.
pub fn conv2d_backward_weight(arch: Arch, algorithm: Algorithm, x: Input, dy: &[f32], s: &ConvShape) -> Vec<f32> {
    match algorithm {
        Algorithm::Direct => direct::backward_weight(arch, &x.made(arch), dy, s),
        Algorithm::Winograd => winograd::backward_weight(arch, x, dy, s),
    }
}
