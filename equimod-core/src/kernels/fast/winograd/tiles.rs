//! Where tiles are, and into and out of their transformed form.

use std::ops::Range;

use pulp::Simd;

use super::super::lanes::{Shared, load, load_some, prefetch, spread, store, store_some};
use super::super::sums::flush;
use super::POINTS;
use super::transforms::{SIDE, both_sides, data, four_outputs, four_taps};

/// Outputs along a side of a tile, and inputs.
const OUT: usize = 4;
const IN: usize = SIDE;

/// The tiles of all pictures, line by line.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    pictures: usize,
    in_size: (usize, usize),
    out_size: (usize, usize),
    padding: usize,
    grid: (usize, usize),
}

/// A transformed matrix of tiles: value ξ of channel c of the k-th tile is at `ξ·step + k·width + c`.
#[derive(Clone, Copy)]
pub struct Transformed {
    /// The first value.
    values: *mut f32,
    /// Tiles.
    pub tiles: usize,
    /// Values of a tile's row.
    pub width: usize,
    /// Values from one point to the next, [`spread`].
    step: usize,
}

impl Transformed {
    /// A matrix of `tiles` tiles at `values`, where [`size`](Self::size) values are.
    pub fn new(values: *mut f32, tiles: usize, width: usize) -> Self {
        Self { values, tiles, width, step: spread(tiles * width) }
    }

    /// Values of such a matrix.
    pub const fn size(tiles: usize, width: usize) -> usize {
        POINTS * spread(tiles * width)
    }

    /// Channels `channels` of `tiles` tiles that are held in groups of `each` channels, one group after the other.
    ///
    /// # Safety
    /// So much is held.
    pub unsafe fn group(held: Shared, tiles: usize, channels: Range<usize>, each: usize) -> Self {
        // SAFETY: the caller's promise.
        let values = unsafe { held.at(channels.start / each * Self::size(tiles, each)) };
        Self::new(values, tiles, channels.len())
    }

    /// Values that so many channels take in such groups.
    pub fn size_of_groups(tiles: usize, channels: usize, each: usize) -> usize {
        channels.div_ceil(each) * Self::size(tiles, each)
    }

    /// The row of point `xi` of tile `tile`.
    ///
    /// # Safety
    /// It lies in the matrix.
    #[inline(always)]
    pub unsafe fn row(&self, xi: usize, tile: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.values.add(xi * self.step + tile * self.width) }
    }

    /// The same matrix, its tiles counted from `tile` on.
    ///
    /// # Safety
    /// The tile lies in the matrix.
    pub unsafe fn starting_at(self, tile: usize) -> Self {
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
        let (height, width) = self.in_size;
        for (k, tile) in range.enumerate() {
            let (picture, y, x_) = self.place(tile);
            // The first pixel may lie outside; the pointer is only followed inside.
            let (top, left) = (y as isize - self.padding as isize, x_ as isize - self.padding as isize);
            let first = ((picture * height) as isize + top) * width as isize + left;
            let first = x.as_ptr().wrapping_offset(first * all as isize + channels.start as isize);
            let inside = |start: isize, size: usize| {
                (-start).max(0) as usize..(size as isize - start).clamp(0, IN as isize) as usize
            };
            let pixels =
                Pixels { first, steps: (width * all, all), lines: inside(top, height), line: inside(left, width) };
            for c in (0..channels.len()).step_by(S::F32_LANES) {
                // The tile to the right shares two columns with this one.
                let next = first.wrapping_add(OUT * all + c);
                for i in 0..IN {
                    for j in IN - OUT..IN {
                        prefetch(next.wrapping_add((i * width + j) * all));
                    }
                }
                let count = (channels.len() - c).min(S::F32_LANES);
                // SAFETY: pixels inside have all channels.
                unsafe {
                    match (count == S::F32_LANES, pixels.whole()) {
                        (true, true) => pixels.transform::<S, true, true>(simd, (k, c, count), out),
                        (true, false) => pixels.transform::<S, true, false>(simd, (k, c, count), out),
                        (false, _) => pixels.transform::<S, false, false>(simd, (k, c, count), out),
                    }
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
            let first = ((picture * height + y) * width + x) * all + channels.start;
            let first = dy.as_ptr().wrapping_add(first);
            let (lines, line) = (0..OUT.min(height - y), 0..OUT.min(width - x));
            let pixels = Pixels { first, steps: (width * all, all), lines, line };
            for c in (0..out.width).step_by(S::F32_LANES) {
                let count = channels.len().saturating_sub(c).min(S::F32_LANES);
                // SAFETY: pixels inside have all channels; the row is as wide as `out`, which is filled in whole vectors or
                // to its end.
                unsafe {
                    match (count == S::F32_LANES, out.width - c) {
                        (true, _) => pixels.transform_gradient::<S, true>(simd, (k, c, count), count, out),
                        (false, left) => pixels.transform_gradient::<S, false>(simd, (k, c, count), left, out),
                    }
                }
            }
        }
    }

    /// Makes the outputs of the tiles `range` of their products: Aᵀ·m·A, into channels `channels` of `out`
    /// `[N, H', W', all]`; adds their Σ and Σ² to `sums`, `[2, all]`, if there are any.
    ///
    /// # Safety
    /// `products` has a tile for each of `range`, in whole vectors; `channels` are in `out`.
    #[inline(always)]
    pub unsafe fn outputs_of<S: Simd>(
        &self,
        simd: S,
        products: Transformed,
        range: Range<usize>,
        (channels, all): (Range<usize>, usize),
        out: *mut f32,
        sums: &mut [f64],
    ) {
        let (first, columns) = (channels.start, channels.len());
        let (sum, square) = sums.split_at_mut(sums.len() / 2);
        for (k, tile) in range.enumerate() {
            let (picture, y, x) = self.place(tile);
            let (lines, line) = (OUT.min(self.out_size.0 - y), OUT.min(self.out_size.1 - x));
            let pixel = (picture * self.out_size.0 + y) * self.out_size.1 + x;
            for c in (0..columns).step_by(S::F32_LANES) {
                let count = (columns - c).min(S::F32_LANES);
                // SAFETY: the caller's promise.
                let found = unsafe {
                    let outputs = Outputs {
                        first: out.add(pixel * all + first + c),
                        steps: (self.out_size.1 * all, all),
                        size: (lines, line),
                        count,
                    };
                    let values = get(simd, products, k, c);
                    match (count == S::F32_LANES, lines == OUT && line == OUT) {
                        (true, true) => outputs.put::<S, true, true>(simd, values),
                        (true, false) => outputs.put::<S, true, false>(simd, values),
                        (false, _) => outputs.put::<S, false, false>(simd, values),
                    }
                };
                if !sum.is_empty() {
                    flush(simd, found[0], &mut sum[first + c..][..count]);
                    flush(simd, found[1], &mut square[first + c..][..count]);
                }
            }
        }
    }
}

/// Where a vector of a tile's outputs goes.
struct Outputs {
    first: *mut f32,
    /// From one line, and from one pixel, to the next.
    steps: (usize, usize),
    /// Lines, and pixels of a line, that there are.
    size: (usize, usize),
    /// Channels.
    count: usize,
}

impl Outputs {
    /// Puts Aᵀ·m·A there; gives its Σ and Σ² over the pixels.
    ///
    /// # Safety
    /// The pixels have so many channels; `WHOLE` vectors and tiles that lie `INSIDE` are so.
    #[inline(always)]
    unsafe fn put<S: Simd, const WHOLE: bool, const INSIDE: bool>(
        &self,
        simd: S,
        products: [[S::f32s; IN]; IN],
    ) -> [S::f32s; 2] {
        let values = both_sides(
            simd,
            products,
            #[inline(always)]
            |simd, m| four_outputs(simd, m),
        );
        let mut sums = [simd.splat_f32s(0.0); 2];
        for i in 0..OUT {
            for j in 0..OUT {
                if INSIDE || (i < self.size.0 && j < self.size.1) {
                    let value = values[i][j];
                    // SAFETY: the caller's promise.
                    unsafe {
                        let to = self.first.add(i * self.steps.0 + j * self.steps.1);
                        if WHOLE { store::<S>(to, value) } else { store_some(simd, to, value, self.count) }
                    }
                    sums[0] = simd.add_f32s(sums[0], value);
                    sums[1] = simd.mul_add_e_f32s(value, value, sums[1]);
                }
            }
        }
        sums
    }
}

/// A tile's pixels in a picture: those at `lines` and `line` lie inside.
struct Pixels {
    first: *const f32,
    /// From one line, and from one pixel, to the next.
    steps: (usize, usize),
    lines: Range<usize>,
    line: Range<usize>,
}

impl Pixels {
    fn whole(&self) -> bool {
        self.lines == (0..IN) && self.line == (0..IN)
    }

    /// `count` channels from `c` on, zeros outside. Loops of constant length keep the tile in registers.
    ///
    /// # Safety
    /// Pixels inside have so many channels; `WHOLE` vectors and tiles that lie `INSIDE` are so.
    #[inline(always)]
    unsafe fn load<S: Simd, const SIDE: usize, const WHOLE: bool, const INSIDE: bool>(
        &self,
        simd: S,
        c: usize,
        count: usize,
    ) -> [[S::f32s; SIDE]; SIDE] {
        let mut tile = [[simd.splat_f32s(0.0); SIDE]; SIDE];
        for i in 0..SIDE {
            for j in 0..SIDE {
                let inside = i >= self.lines.start && i < self.lines.end && j >= self.line.start && j < self.line.end;
                if INSIDE || inside {
                    let from = self.first.wrapping_add(i * self.steps.0 + j * self.steps.1 + c);
                    // SAFETY: the caller's promise.
                    tile[i][j] = unsafe { if WHOLE { load::<S>(from) } else { load_some(simd, from, count) } };
                }
            }
        }
        tile
    }

    /// Bᵀ·d·B of channels `c` and on, to tile `k`.
    ///
    /// # Safety
    /// As for `load`, and `out` has the tile and the channels.
    #[inline(always)]
    unsafe fn transform<S: Simd, const WHOLE: bool, const INSIDE: bool>(
        &self,
        simd: S,
        (k, c, count): (usize, usize, usize),
        out: Transformed,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let values = both_sides(
                simd,
                self.load::<S, IN, WHOLE, INSIDE>(simd, c, count),
                #[inline(always)]
                |simd, d| data(simd, d),
            );
            put::<S, WHOLE>(simd, values, (k, c, count), out);
        }
    }

    /// G·g·Gᵀ of `count` channels from `c` on, to tile `k`, `wide` values of it.
    ///
    /// # Safety
    /// As for `transform`.
    #[inline(always)]
    unsafe fn transform_gradient<S: Simd, const WHOLE: bool>(
        &self,
        simd: S,
        (k, c, count): (usize, usize, usize),
        wide: usize,
        out: Transformed,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let values = both_sides(
                simd,
                self.load::<S, OUT, WHOLE, false>(simd, c, count),
                #[inline(always)]
                |simd, g| four_taps(simd, g),
            );
            put::<S, WHOLE>(simd, values, (k, c, wide), out);
        }
    }
}

/// Writes one vector of every point.
///
/// # Safety
/// `out` has `count` values from `c` on in tile `k`; `WHOLE` vectors are so.
#[inline(always)]
unsafe fn put<S: Simd, const WHOLE: bool>(
    simd: S,
    values: [[S::f32s; IN]; IN],
    (k, c, count): (usize, usize, usize),
    out: Transformed,
) {
    for i in 0..IN {
        for j in 0..IN {
            // SAFETY: the caller's promise.
            unsafe {
                let to = out.row(i * IN + j, k).add(c);
                if WHOLE { store::<S>(to, values[i][j]) } else { store_some(simd, to, values[i][j], count) }
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
            values[i][j] = unsafe { load::<S>(from.row(i * IN + j, tile).add(c)) };
        }
    }
    values
}
