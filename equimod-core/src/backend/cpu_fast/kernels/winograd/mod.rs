//! 3×3 convolution with Winograd's algorithm. Stride 1 uses F(4×4, 3×3), with a quarter of the MACs. Stride 2 uses F(4,
//! 2) for the two taps on inputs of the same parity, with nine sixteenths of the MACs.
//!
//! Input tiles and weights are transformed, and the convolution becomes one matrix product for each value of a
//! transformed tile: `[tiles, channels]` times `[channels, channels]`. Blocks of tiles stay in the cache from input to
//! output. The weight gradient uses the same tiles.

mod filters;
mod forward;
mod source;
mod tiles;
mod transforms;
mod weight;

use pulp::Arch;
use transforms::{Transform, strided, unit};

use self::source::Source;
use self::tiles::{Plane, Tiles};
use super::ConvInputRows;
use super::target::Target;
use super::vectors::{Shared, unwritten};
use crate::backend::contract::ConvShape;

/// Number of values along a side of a transformed window, and in total.
const SIDE: usize = 6;
const MATRICES: usize = SIDE * SIDE;
/// Number of values of a window.
const TAPS: usize = 9;
/// Number of tiles that a task transforms, and of channels that are stored together.
const TASK_TILES: usize = 16;
const CHANNELS: usize = 64;
/// Smallest number of input or output channels; below it, the transforms cost more than the products save.
const LEAST_CHANNELS: usize = 8;
/// Number of outputs along a side of a tile.
const OUTPUTS: usize = 4;

/// A family of transforms: outputs = Outputs(Weights(w) · Inputs(x)), value by value of a transformed tile.
pub trait Family: Copy + Send + Sync {
    /// Transform of the inputs.
    type Inputs: Transform;
    /// Transform of the weights, with [`SIDE`] values along a side.
    type Weights: Transform;
    /// Transform of the products.
    type Outputs: Transform;
    /// Number of values of a transformed tile.
    const POINTS: usize = Self::Inputs::TO * Self::Inputs::TO;

    /// Index of the weight matrix by which the value `point` is multiplied. Along each side, all values from index
    /// `SIDE − 1` on share one weight.
    #[inline(always)]
    fn matrix(point: usize) -> usize {
        let (i, j) = (point / Self::Inputs::TO, point % Self::Inputs::TO);
        i.min(SIDE - 1) * SIDE + j.min(SIDE - 1)
    }
}

/// A family for the gradient of the weights: Taps(Σ Inputs(x) · Gradients(dy)).
pub trait WeightFamily: Family {
    /// Transform of the outputs' gradients.
    type Gradients: Transform;
    /// Transform of the sums.
    type Taps: Transform;
}

/// Forward and backward pass of stride 1.
#[derive(Clone, Copy)]
struct Unit;

impl Family for Unit {
    type Inputs = unit::Inputs;
    type Weights = unit::Weights;
    type Outputs = unit::Outputs;
}

impl WeightFamily for Unit {
    type Gradients = unit::Gradients;
    type Taps = unit::Taps;
}

/// Forward pass of stride 2.
#[derive(Clone, Copy)]
struct Strided;

impl Family for Strided {
    type Inputs = strided::Inputs;
    type Weights = strided::Weights;
    type Outputs = strided::Outputs;
}

impl WeightFamily for Strided {
    type Gradients = strided::Gradients;
    type Taps = strided::Taps;
}

/// Backward pass of stride 2.
#[derive(Clone, Copy)]
struct StridedBack;

impl Family for StridedBack {
    type Inputs = strided::BackInputs;
    type Weights = strided::Weights;
    type Outputs = strided::BackOutputs;
}

/// Tiles of a convolution.
fn tiles(s: &ConvShape) -> Tiles {
    Tiles::new(s.batch, Plane { size: s.in_size, padding: s.padding }, s.out_size, OUTPUTS)
}

/// Whether the algorithm supports a shape and is worth its transforms.
pub fn takes(s: &ConvShape) -> bool {
    let shape = s.kernel == (3, 3) && s.groups == 1;
    let stride = (s.stride == 1 && s.padding <= 2) || (s.stride == 2 && s.padding == 1);
    // Tiles that extend far over the edge do useless work; up to twice the work, the algorithm is still faster.
    let (outputs, pixels) = (OUTPUTS * OUTPUTS * tiles(s).per_image(), s.out_size.0 * s.out_size.1);
    shape && stride && s.in_channels.min(s.out_channels) >= LEAST_CHANNELS && outputs <= 2 * pixels
}

/// Convolution: x `[N, H, W, C]`, w `[O, C, 3, 3]` → `[N, H', W', O]`, and its sums if requested.
pub fn forward(arch: Arch, x: ConvInputRows, w: &[f32], s: &ConvShape, sums: bool) -> (Vec<f32>, Option<Vec<f64>>) {
    let tiles = tiles(s);
    let weights = filters::Weights { w, inputs: s.in_channels, outputs: s.out_channels, rotated: false };
    let mut out = unwritten(s.batch * s.out_channels * s.out_size.0 * s.out_size.1);
    let x = &Source::of(arch, x);
    let target = Target::new(Shared::new(&mut out));
    let partials = match s.stride {
        1 => forward::convolve::<Unit>(arch, x, &weights, &tiles, target, sums),
        _ => forward::convolve::<Strided>(arch, x, &weights, &tiles, target, sums),
    };
    (out, partials.map(|partials| partials.sum(s.out_channels)))
}

/// Gradient of the input: dy `[N, H', W', O]`, w → dx `[N, H, W, C]`, a convolution with exchanged channels and the
/// window rotated by 180 degrees.
pub fn backward_data(arch: Arch, dy: &[f32], w: &[f32], s: &ConvShape, dx: Target) {
    let weights = filters::Weights { w, inputs: s.out_channels, outputs: s.in_channels, rotated: true };
    let dy = &Source::plain(dy);
    let padding = if s.stride == 1 { 2 - s.padding } else { 0 };
    let tiles = Tiles::new(s.batch, Plane { size: s.out_size, padding }, s.in_size, OUTPUTS * s.stride);
    match s.stride {
        1 => forward::convolve::<Unit>(arch, dy, &weights, &tiles, dx, false),
        _ => forward::convolve::<StridedBack>(arch, dy, &weights, &tiles, dx, false),
    };
}

/// Gradient of the weight: x `[N, H, W, C]`, dy `[N, H', W', O]` → dw `[O, C, 3, 3]`.
pub fn backward_weight(arch: Arch, x: ConvInputRows, dy: &[f32], s: &ConvShape) -> Vec<f32> {
    let (x, dy) = (&Source::of(arch, x), &Source::plain(dy));
    let channels = (s.in_channels, s.out_channels);
    match s.stride {
        1 => weight::gradient::<Unit>(arch, x, dy, channels, &tiles(s)),
        _ => weight::gradient::<Strided>(arch, x, dy, channels, &tiles(s)),
    }
}
