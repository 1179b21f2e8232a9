//! Where tiles are, and into and out of their transformed form.

use std::ops::Range;

use pulp::Simd;

use super::super::lanes::{load_some, store, store_some};
use super::transforms::{both_sides, data, four_outputs, four_taps};

/// Outputs along a side of a tile, and inputs.
const OUT: usize = 4;
const IN: usize = 6;

/// The tiles of all pictures, line by line.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    pictures: usize,
    in_size: (usize, usize),
    out_size: (usize, usize),
    padding: usize,
    grid: (usize, usize),
}

/// A transformed matrix of tiles: value ξ of channel c of the k-th tile is at `(ξ·tiles + k)·width + c`.
#[derive(Clone, Copy)]
pub struct Transformed {
    /// The first value.
    pub values: *mut f32,
    /// Tiles.
    pub tiles: usize,
    /// Values of a tile's row.
    pub width: usize,
}

impl Transformed {
    /// The row of point `xi` of tile `tile`.
    ///
    /// # Safety
    /// It lies in the matrix.
    #[inline(always)]
    pub unsafe fn row(&self, xi: usize, tile: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.values.add((xi * self.tiles + tile) * self.width) }
    }

    /// The same matrix, its tiles counted from `tile` on.
    ///
    /// # Safety
    /// The tile lies in the matrix.
    pub unsafe fn from_tile(self, tile: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { values: self.values.add(tile * self.width), ..self } }
    }
}

impl Tiles {
    /// Those of a 3×3 convolution with these sizes.
    pub fn new(pictures: usize, in_size: (usize, usize), out_size: (usize, usize), padding: usize) -> Self {
        let grid = (out_size.0.div_ceil(OUT), out_size.1.div_ceil(OUT));
        Self { pictures, in_size, out_size, padding, grid }
    }

    /// Tiles of a picture.
    pub fn per_picture(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// All tiles.
    pub fn count(&self) -> usize {
        self.pictures * self.per_picture()
    }

    /// Picture, and line and column of the first output.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (picture, within) = (tile / self.per_picture(), tile % self.per_picture());
        (picture, within / self.grid.1 * OUT, within % self.grid.1 * OUT)
    }

    /// The first pixel of each line of a tile's outputs, counted over all pictures, and the lines' length.
    pub fn outputs(&self, tile: usize) -> (impl Iterator<Item = usize> + use<>, usize) {
        let (picture, y, x) = self.place(tile);
        let (height, width) = self.out_size;
        let first = (picture * height + y) * width + x;
        ((0..OUT.min(height - y)).map(move |line| first + line * width), OUT.min(width - x))
    }

    /// Transforms the inputs of the tiles `range`, their channels `channels` of `x` `[N, H, W, all]`: Bᵀ·d·B.
    ///
    /// # Safety
    /// `out` has a tile for each of `range` and is as wide as `channels`; `x` is as large as this says.
    #[inline(always)]
    pub unsafe fn transform_inputs<S: Simd>(
        &self,
        simd: S,
        x: &[f32],
        all: usize,
        channels: Range<usize>,
        range: Range<usize>,
        out: Transformed,
    ) {
        let zeros = [0f32; 64];
        let (height, width) = self.in_size;
        for (k, tile) in range.enumerate() {
            let (picture, y, x_) = self.place(tile);
            // One pointer and one step a pixel; beyond the edge they stay at zeros.
            let mut pixels = [[(zeros.as_ptr(), 0usize); IN]; IN];
            for (i, line) in pixels.iter_mut().enumerate() {
                for (j, pixel) in line.iter_mut().enumerate() {
                    let (y, x_) = ((y + i).wrapping_sub(self.padding), (x_ + j).wrapping_sub(self.padding));
                    if y < height && x_ < width {
                        *pixel = (x[((picture * height + y) * width + x_) * all + channels.start..].as_ptr(), 1);
                    }
                }
            }
            for c in (0..channels.len()).step_by(S::F32_LANES) {
                let count = (channels.len() - c).min(S::F32_LANES);
                let mut tile = [[simd.splat_f32s(0.0); IN]; IN];
                // SAFETY: pixels inside have all channels; zeros are as many as a vector has, and never left.
                unsafe {
                    for (line, pixels) in tile.iter_mut().zip(&pixels) {
                        for (value, &(pixel, step)) in line.iter_mut().zip(pixels) {
                            *value = load_some(simd, pixel.add(c * step), count);
                        }
                    }
                    put(
                        simd,
                        both_sides(
                            simd,
                            tile,
                            #[inline(always)]
                            |simd, d| data(simd, d),
                        ),
                        k,
                        c,
                        count,
                        out,
                    );
                }
            }
        }
    }

    /// Transforms the gradients of the outputs of the tiles `range`, their channels `channels` of `dy`
    /// `[N, H', W', all]`, zeros beyond the edge: G·g·Gᵀ; columns of `out` beyond them become 0.
    ///
    /// # Safety
    /// As [`transform_inputs`](Self::transform_inputs), but `out` may be wider, up to whole vectors.
    #[inline(always)]
    pub unsafe fn transform_gradients<S: Simd>(
        &self,
        simd: S,
        dy: &[f32],
        all: usize,
        channels: Range<usize>,
        range: Range<usize>,
        out: Transformed,
    ) {
        let (height, width) = self.out_size;
        for (k, tile) in range.enumerate() {
            let (picture, y, x) = self.place(tile);
            for c in (0..out.width).step_by(S::F32_LANES) {
                let count = channels.len().saturating_sub(c).min(S::F32_LANES);
                let mut tile = [[simd.splat_f32s(0.0); OUT]; OUT];
                // Loops of constant length, so that the tile stays in registers.
                for i in 0..OUT {
                    for j in 0..OUT {
                        if count > 0 && i < height - y && j < width - x {
                            let at = ((picture * height + y + i) * width + x + j) * all + channels.start + c;
                            // SAFETY: the pixel lies inside and has all channels.
                            tile[i][j] = unsafe { load_some(simd, dy.as_ptr().add(at), count) };
                        }
                    }
                }
                // SAFETY: the row is as wide as `out`, which is filled in whole vectors or to its end.
                unsafe {
                    put(
                        simd,
                        both_sides(
                            simd,
                            tile,
                            #[inline(always)]
                            |simd, g| four_taps(simd, g),
                        ),
                        k,
                        c,
                        out.width - c,
                        out,
                    )
                };
            }
        }
    }

    /// Makes the outputs of the tiles `range` of their products: Aᵀ·m·A, into channels from `first` on of `out`
    /// `[N, H', W', all]`.
    ///
    /// # Safety
    /// `products` has a tile for each of `range`, in whole vectors; `columns` channels from `first` on are in `out`.
    #[inline(always)]
    pub unsafe fn outputs_of<S: Simd>(
        &self,
        simd: S,
        products: Transformed,
        range: Range<usize>,
        (first, columns, all): (usize, usize, usize),
        out: *mut f32,
    ) {
        for (k, tile) in range.enumerate() {
            let (picture, y, x) = self.place(tile);
            let (lines, line) = (OUT.min(self.out_size.0 - y), OUT.min(self.out_size.1 - x));
            let pixel = (picture * self.out_size.0 + y) * self.out_size.1 + x;
            for c in (0..columns).step_by(S::F32_LANES) {
                let count = (columns - c).min(S::F32_LANES);
                // SAFETY: the caller's promise.
                unsafe {
                    let values = both_sides(
                        simd,
                        get(simd, products, k, c),
                        #[inline(always)]
                        |simd, m| four_outputs(simd, m),
                    );
                    for i in 0..OUT {
                        for j in 0..OUT {
                            if i < lines && j < line {
                                let at = (pixel + i * self.out_size.1 + j) * all + first + c;
                                store_some(simd, out.add(at), values[i][j], count);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Writes one vector of every point.
#[inline(always)]
unsafe fn put<S: Simd>(simd: S, values: [[S::f32s; IN]; IN], tile: usize, c: usize, count: usize, out: Transformed) {
    for i in 0..IN {
        for j in 0..IN {
            // SAFETY: the caller's promise.
            unsafe {
                let to = out.row(i * IN + j, tile).add(c);
                match count >= S::F32_LANES {
                    true => store::<S>(to, values[i][j]),
                    false => store_some(simd, to, values[i][j], count),
                }
            }
        }
    }
}

/// Reads one vector of every point.
#[inline(always)]
pub unsafe fn get<S: Simd>(simd: S, from: Transformed, tile: usize, c: usize) -> [[S::f32s; IN]; IN] {
    let mut values = [[simd.splat_f32s(0.0); IN]; IN];
    for i in 0..IN {
        for j in 0..IN {
            // SAFETY: the caller's promise.
            values[i][j] = unsafe { super::super::lanes::load::<S>(from.row(i * IN + j, tile).add(c)) };
        }
    }
    values
}
