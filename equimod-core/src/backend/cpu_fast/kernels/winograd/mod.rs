//! 3×3 convolution by Winograd's algorithm: of stride 1 by F(4×4, 3×3), a quarter of the MACs; of stride 2 by
//! F(4, 2) where two taps meet inputs of one parity, nine sixteenths.
//!
//! Tiles of outputs and the inputs that they are made of are transformed, and what was a convolution is one product of
//! matrices for each value of a transformed tile: tiles × channels times channels × channels. Blocks of tiles stay in
//! the cache from the input to the output. The weight gradient goes over the same tiles.

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

/// Values along a side of a transformed window, and how many that is in all.
const SIDE: usize = 6;
const MATRICES: usize = SIDE * SIDE;
/// Values of a window.
const TAPS: usize = 9;
/// Tiles that a task transforms, and channels that are held together.
const TASK_TILES: usize = 16;
const CHANNELS: usize = 64;
/// Fewest channels on either side: below, the transforms cost more than the products save.
const LEAST_CHANNELS: usize = 8;
/// Outputs along a side of a tile.
const OUTPUTS: usize = 4;

/// A family of transforms: outputs = Outputs(Weights(w) · Inputs(x)), value by value of a transformed tile.
pub trait Family: Copy + Send + Sync {
    /// Of what is read.
    type Inputs: Transform;
    /// Of the windows, [`SIDE`] values along a side.
    type Weights: Transform;
    /// Of the products.
    type Outputs: Transform;
    /// Values of a transformed tile.
    const POINTS: usize = Self::Inputs::TO * Self::Inputs::TO;

    /// The matrix of weights that a value is multiplied with: behind the first of them, all share the last.
    #[inline(always)]
    fn matrix(point: usize) -> usize {
        let (i, j) = (point / Self::Inputs::TO, point % Self::Inputs::TO);
        i.min(SIDE - 1) * SIDE + j.min(SIDE - 1)
    }
}

/// A family that gives the gradient of the weights: Taps of the sums of Inputs(x) · Gradients(dy).
pub trait WeightFamily: Family {
    /// Of the outputs' gradients.
    type Gradients: Transform;
    /// Of the sums.
    type Taps: Transform;
}

/// Stride 1, forward and backward.
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

/// Stride 2.
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

/// The backward pass of stride 2.
#[derive(Clone, Copy)]
struct StridedBack;

impl Family for StridedBack {
    type Inputs = strided::BackInputs;
    type Weights = strided::Weights;
    type Outputs = strided::BackOutputs;
}

/// The tiles of a convolution.
fn tiles(s: &ConvShape) -> Tiles {
    Tiles::new(s.batch, Plane { size: s.in_size, padding: s.padding }, s.out_size, OUTPUTS)
}

/// Whether the algorithm takes a shape.
pub fn takes(s: &ConvShape) -> bool {
    let shape = s.kernel == (3, 3) && s.groups == 1;
    let stride = (s.stride == 1 && s.padding <= 2) || (s.stride == 2 && s.padding == 1);
    // Tiles that stand out far over the edge do useless work: up to twice as much, it still pays.
    let (outputs, pixels) = (OUTPUTS * OUTPUTS * tiles(s).per_image(), s.out_size.0 * s.out_size.1);
    shape && stride && s.in_channels.min(s.out_channels) >= LEAST_CHANNELS && outputs <= 2 * pixels
}

/// x `[N, H, W, C]`, w `[O, C, 3, 3]` → `[N, H', W', O]`, and its sums if they are wanted.
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

/// dy `[N, H', W', O]`, w → dx `[N, H, W, C]`: the same with channels exchanged and the window rotated by 180 degrees.
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

/// x `[N, H, W, C]`, dy `[N, H', W', O]` → dw `[O, C, 3, 3]`.
pub fn backward_weight(arch: Arch, x: ConvInputRows, dy: &[f32], s: &ConvShape) -> Vec<f32> {
    let (x, dy) = (&Source::of(arch, x), &Source::plain(dy));
    let channels = (s.in_channels, s.out_channels);
    match s.stride {
        1 => weight::gradient::<Unit>(arch, x, dy, channels, &tiles(s)),
        _ => weight::gradient::<Strided>(arch, x, dy, channels, &tiles(s)),
    }
}
