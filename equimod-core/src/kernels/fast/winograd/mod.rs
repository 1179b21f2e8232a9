//! 3×3 convolution of stride 1 by Winograd's algorithm, F(4×4, 3×3): a quarter of the multiplications.
//!
//! Tiles of 4 × 4 outputs and the 6 × 6 inputs that they are made of are transformed, and what was a convolution is 36
//! products of matrices: tiles × channels times channels × channels. Blocks of tiles stay in the cache from the input to
//! the output. The weight gradient is F(3×3, 4×4) over the same tiles.

mod filters;
mod forward;
mod tiles;
mod transforms;
mod weight;

use pulp::Arch;

pub use tiles::Tiles;

use super::lanes::unwritten;
use crate::kernels::shapes::ConvShape;

/// Values of a transformed tile.
const POINTS: usize = transforms::SIDE * transforms::SIDE;
/// Values of a window.
const TAPS: usize = 9;
/// Tiles that a task transforms, and channels that are held together.
const TASK_TILES: usize = 16;
const CHANNELS: usize = 64;
/// Fewest channels on either side: below, the transforms cost more than the products save.
const LEAST_CHANNELS: usize = 8;

/// Whether a shape is convolved this way.
pub fn takes(s: &ConvShape) -> bool {
    let shape = s.kernel == (3, 3) && s.stride == 1 && s.groups == 1 && s.padding <= 2;
    let tiles = Tiles::new(s.batch, s.in_size, s.out_size, s.padding);
    // Tiles that stand out far over the edge do useless work: up to twice as much, it still pays.
    let pixels = s.out_size.0 * s.out_size.1;
    shape && s.in_channels.min(s.out_channels) >= LEAST_CHANNELS && 16 * tiles.per_picture() <= 2 * pixels
}

/// x `[N, H, W, C]`, w `[O, C, 3, 3]` → `[N, H', W', O]`, and its sums if they are wanted.
pub fn forward(arch: Arch, x: &[f32], w: &[f32], s: &ConvShape, sums: bool) -> (Vec<f32>, Option<Vec<f64>>) {
    let tiles = Tiles::new(s.batch, s.in_size, s.out_size, s.padding);
    let weights = filters::Weights { w, inputs: s.in_channels, outputs: s.out_channels, turned: false };
    let mut out = unwritten(s.batch * s.out_channels * s.out_size.0 * s.out_size.1);
    let partials = forward::convolve(arch, x, &weights, &tiles, &mut out, sums);
    (out, partials.map(|partials| partials.sum(s.out_channels)))
}

/// dy `[N, H', W', O]`, w → dx `[N, H, W, C]`: the same with channels exchanged and the window turned by half a circle.
pub fn backward_data(arch: Arch, dy: &[f32], w: &[f32], s: &ConvShape) -> Vec<f32> {
    let tiles = Tiles::new(s.batch, s.out_size, s.in_size, 2 - s.padding);
    let weights = filters::Weights { w, inputs: s.out_channels, outputs: s.in_channels, turned: true };
    let mut dx = unwritten(s.batch * s.in_channels * s.in_size.0 * s.in_size.1);
    forward::convolve(arch, dy, &weights, &tiles, &mut dx, false);
    dx
}

/// x `[N, H, W, C]`, dy `[N, H', W', O]` → dw `[O, C, 3, 3]`.
pub fn backward_weight(arch: Arch, x: &[f32], dy: &[f32], s: &ConvShape) -> Vec<f32> {
    let tiles = Tiles::new(s.batch, s.in_size, s.out_size, s.padding);
    weight::gradient(arch, x, dy, (s.in_channels, s.out_channels), &tiles)
}
