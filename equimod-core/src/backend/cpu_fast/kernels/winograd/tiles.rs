//! Tiles of images and their transforms.

use std::hint::select_unpredictable;
use std::ops::Range;

use pulp::Simd;

use super::super::batch_norm::ScaleShiftReluRows;
use super::super::channel_sums::{SHORT, Sums};
use super::super::target::Target;
use super::super::vectors::{Shared, Writer, load, load_some, prefetch, spread, store, store_some};
use super::source::Source;
use super::{CHANNELS, Transform};

/// Size and padding of the images from which tiles are taken.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    /// Number of lines and columns.
    pub size: (usize, usize),
    /// Number of pixels before the edge that belong to the first tile.
    pub padding: usize,
}

/// Tiles of all images, line by line.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    images: usize,
    inputs: Plane,
    outputs: Plane,
    grid: (usize, usize),
}

/// Images whose tiles are transformed, `[N, H, W, all]`.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    source: &'a Source<'a>,
    all: usize,
    plane: Plane,
}

/// A transformed matrix of tiles: value `point` of channel c of the k-th tile is at `point·step + k·width + c`.
#[derive(Clone, Copy)]
pub struct Transformed {
    /// First value.
    values: *mut f32,
    /// Number of tiles.
    pub tiles: usize,
    /// Number of values of a tile's row.
    pub width: usize,
    /// Stride between points, [`spread`].
    step: usize,
}

impl Transformed {
    /// A matrix of `tiles` tiles at `values`, which has room for [`size`](Self::size) values.
    pub fn new(values: *mut f32, tiles: usize, width: usize) -> Self {
        Self { values, tiles, width, step: spread(tiles * width) }
    }

    /// Number of values of `points` such matrices.
    pub const fn size(points: usize, tiles: usize, width: usize) -> usize {
        points * spread(tiles * width)
    }

    /// Channels `channels` of transformed tiles, which are stored in consecutive groups of `each` channels.
    ///
    /// # Safety
    /// The memory has room for that many values.
    pub unsafe fn group(held: Shared, (points, tiles): (usize, usize), channels: Range<usize>, each: usize) -> Self {
        // SAFETY: the caller's promise.
        let values = unsafe { held.at(channels.start / each * Self::size(points, tiles, each)) };
        Self::new(values, tiles, channels.len())
    }

    /// Number of values of all channels in such groups.
    pub fn size_of_groups((points, tiles): (usize, usize), channels: usize, each: usize) -> usize {
        channels.div_ceil(each) * Self::size(points, tiles, each)
    }

    /// Row of a point of a tile.
    ///
    /// # Safety
    /// It is within the matrix.
    #[inline(always)]
    pub unsafe fn row(&self, point: usize, tile: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.values.add(point * self.step + tile * self.width) }
    }

    /// Address of channel `c` of a tile.
    ///
    /// # Safety
    /// It is within the matrix.
    #[inline(always)]
    unsafe fn place(&self, tile: usize, c: usize) -> Place {
        // SAFETY: the caller's promise.
        Place { first: unsafe { self.row(0, tile).add(c) }, step: self.step }
    }

    /// The same matrix, starting at `tile`.
    ///
    /// # Safety
    /// The tile is within the matrix.
    pub unsafe fn starting_at(self, tile: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { values: self.values.add(tile * self.width), ..self } }
    }
}

impl Tiles {
    /// Tiles that cover outputs of the given size, with `side` outputs along a tile's side.
    pub fn new(images: usize, inputs: Plane, outputs: (usize, usize), side: usize) -> Self {
        let grid = (outputs.0.div_ceil(side), outputs.1.div_ceil(side));
        Self { images, inputs, outputs: Plane { size: outputs, padding: 0 }, grid }
    }

    /// Number of tiles of an image.
    pub fn per_image(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Number of all tiles.
    pub fn count(&self) -> usize {
        self.images * self.per_image()
    }

    /// Input images `x` `[N, H, W, all]`.
    pub fn inputs<'a>(&self, x: &'a Source, all: usize) -> Images<'a> {
        Images { source: x, all, plane: self.inputs }
    }

    /// Output images `dy` `[N, H', W', all]`.
    pub fn gradients<'a>(&self, dy: &'a Source, all: usize) -> Images<'a> {
        Images { source: dy, all, plane: self.outputs }
    }

    /// Image, line and column, in units of tiles, of the tiles `range`.
    fn places(&self, range: Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> {
        let (lines, line) = self.grid;
        let (mut image, within) = (range.start / self.per_image(), range.start % self.per_image());
        let (mut y, mut x) = (within / line, within % line);
        range.map(move |_| {
            let place = (image, y, x);
            x += 1;
            if x == line {
                (x, y) = (0, y + 1);
            }
            if y == lines {
                (y, image) = (0, image + 1);
            }
            place
        })
    }

    /// Transforms the channels `channels` of the tiles `range` of a source, with zeros outside of the images. Further
    /// columns of `out` become 0.
    ///
    /// # Safety
    /// `out` has a tile for each of `range`, as wide as `channels` or rounded up to whole vectors; images have the
    /// declared size.
    #[inline(always)]
    pub unsafe fn transform<S: Simd, T: Transform>(
        &self,
        simd: S,
        Images { source: Source { values, activated }, all, plane: Plane { size, padding } }: Images,
        channels: Range<usize>,
        range: Range<usize>,
        out: Transformed,
    ) {
        let ((height, width), steps) = (size, (size.1 * all, all));
        let start = |place: usize| (place * T::STEP) as isize - padding as isize;
        // The first pixel may be outside of the image; the pointer is dereferenced only inside.
        let first = |(image, y, x): (usize, usize, usize)| {
            let pixel = ((image * height) as isize + start(y)) * width as isize + start(x);
            values.as_ptr().wrapping_offset(pixel * all as isize + channels.start as isize)
        };
        let mut places = self.places(range).enumerate().peekable();
        while let Some((k, place)) = places.next() {
            let next = places.peek().map(|&(_, next)| Next::new::<T>(first(next), next.2 == 0));
            let (first, inside) = (first(place), (inside(start(place.1), height), inside(start(place.2), width)));
            for group in (0..out.width).step_by(CHANNELS) {
                let first = first.wrapping_add(group);
                let outside = activated.as_ref().map_or(ZEROS.as_ptr(), |r| r.outside(channels.start + group));
                let pixels = Pixels::new::<T>(first, outside, steps, &inside);
                for c in (group..out.width.min(group + CHANNELS)).step_by(S::F32_LANES) {
                    if let Some(next) = &next {
                        next.prefetch(c, steps);
                    }
                    let count = channels.len().saturating_sub(c).min(S::F32_LANES);
                    // SAFETY: pixels inside have all channels, those outside a group of them; the row is as wide as
                    // `out`, which is filled in whole vectors or to its end.
                    unsafe {
                        let to = (out.place(k, c), out.width - c);
                        let scale_shift = activated.as_ref().map(|r| r.vectors(simd, channels.start + c, count));
                        match (count == S::F32_LANES, scale_shift) {
                            (true, None) => {
                                pixels.transform::<S, T, true, false>(simd, (c - group, count), scale_shift, to)
                            }
                            (true, _) => {
                                pixels.transform::<S, T, true, true>(simd, (c - group, count), scale_shift, to)
                            }
                            (false, _) => {
                                pixels.transform::<S, T, false, true>(simd, (c - group, count), scale_shift, to)
                            }
                        }
                    }
                }
            }
        }
    }

    /// Computes the outputs of the tiles `range` from their products, for channels `channels` of `target`
    /// `[N, H', W', all]`, and adds their Σ and Σ² to `sums` if requested.
    ///
    /// # Safety
    /// `products` has a tile for each of `range`, in whole vectors; `channels` are in `target`, whose places for these
    /// tiles no other task accesses at the same time.
    #[inline(always)]
    pub unsafe fn outputs<S: Simd, T: Transform>(
        &self,
        simd: S,
        products: Transformed,
        range: Range<usize>,
        (channels, all): (Range<usize>, usize),
        target: Target,
        mut sums: Option<&mut Sums>,
    ) {
        let ((height, width), columns) = (self.outputs.size, channels.len());
        let writer = target.writer(self.images * height * width * all);
        let pixel = |(image, y, x): (usize, usize, usize)| (image * height + y * T::TO) * width + x * T::TO;
        let mut places = self.places(range).enumerate().peekable();
        while let Some((k, place)) = places.next() {
            let size = (T::TO.min(height - place.1 * T::TO), T::TO.min(width - place.2 * T::TO));
            let next = places.peek().map(|&(_, next)| pixel(next) * all + channels.start);
            let pixel = pixel(place);
            for c in (0..columns).step_by(S::F32_LANES) {
                let (to, count) = (channels.start + c, (columns - c).min(S::F32_LANES));
                if let Some(next) = next {
                    for (i, j) in (0..T::TO).flat_map(|i| (0..T::TO).map(move |j| (i, j))) {
                        target.prefetch(next + c + (i * width + j) * all);
                    }
                }
                // SAFETY: the caller's promise.
                let found = unsafe {
                    let (first, steps) = (pixel * all + to, (width * all, all));
                    let outputs = Outputs { target, first, steps, size, count, writer };
                    match (count == S::F32_LANES, size == (T::TO, T::TO)) {
                        (true, true) => outputs.make::<S, T, true, true>(simd, products.place(k, c)),
                        (true, false) => outputs.make::<S, T, true, false>(simd, products.place(k, c)),
                        (false, _) => outputs.make::<S, T, false, false>(simd, products.place(k, c)),
                    }
                };
                if let Some(sums) = &mut sums {
                    sums.add(simd, (to, count), found);
                }
            }
            // Each tile is one run.
            if let Some(sums) = &mut sums
                && k % SHORT == SHORT - 1
            {
                sums.carry(channels.clone());
            }
        }
        if let Some(sums) = sums {
            sums.carry(channels);
        }
        writer.finish();
    }
}

/// Lines of a tile, or pixels of a line, that are inside an image of `size` if the first is at `start`.
fn inside(start: isize, size: usize) -> Range<usize> {
    (-start).max(0) as usize..(size as isize - start).max(0) as usize
}

/// The next tile.
struct Next {
    first: *const f32,
    lines: usize,
    /// Columns that this tile does not share with the previous one.
    columns: Range<usize>,
}

impl Next {
    /// The tile at `first`, on the same line of tiles or at the start of another line.
    #[inline(always)]
    fn new<T: Transform>(first: *const f32, other_line: bool) -> Self {
        let shared = if other_line { 0 } else { T::FROM - T::STEP };
        Self { first, lines: T::FROM, columns: shared..T::FROM }
    }

    /// Prefetches a vector from channel `c` on of its pixels.
    #[inline(always)]
    fn prefetch(&self, c: usize, steps: (usize, usize)) {
        for i in 0..self.lines {
            for j in self.columns.clone() {
                prefetch(self.first.wrapping_add(i * steps.0 + j * steps.1 + c));
            }
        }
    }
}

/// Memory to which a vector of a tile's outputs is written.
struct Outputs<'a> {
    target: Target<'a>,
    /// Address of the first output.
    first: usize,
    /// Strides between lines and between pixels.
    steps: (usize, usize),
    /// Number of lines, and of pixels of a line, inside the image.
    size: (usize, usize),
    /// Number of channels.
    count: usize,
    writer: Writer,
}

impl Outputs<'_> {
    /// Writes the transformed products and returns their Σ and Σ² over the pixels.
    ///
    /// # Safety
    /// The pixels have that many channels; with `WHOLE`, vectors are whole, and with `INSIDE`, tiles are inside of the
    /// image; whole vectors of products are readable.
    #[inline(always)]
    unsafe fn make<S: Simd, T: Transform, const WHOLE: bool, const INSIDE: bool>(
        &self,
        simd: S,
        products: Place,
    ) -> [S::f32s; 2] {
        let mut sums = [simd.splat_f32s(0.0); 2];
        T::both_sides(
            simd,
            #[inline(always)]
            // SAFETY: the caller's promise.
            |i, j| unsafe { load::<S>(products.at(i * T::FROM + j)) },
            #[inline(always)]
            |i, j, value| {
                if INSIDE || (i < self.size.0 && j < self.size.1) {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let place = self.first + i * self.steps.0 + j * self.steps.1;
                        let count = if WHOLE { S::F32_LANES } else { self.count };
                        let (to, value) =
                            (self.target.out.at(place), self.target.accumulated(simd, place, count, value));
                        if WHOLE { self.writer.store::<S>(to, value) } else { store_some(simd, to, value, count) }
                    }
                    sums = [simd.add_f32s(sums[0], value), simd.mul_add_e_f32s(value, value, sums[1])];
                }
            },
        );
        sums
    }
}

/// Zeros for pixels outside of an image without an activation, for a group of channels.
static ZEROS: [f32; CHANNELS] = [0.0; CHANNELS];

/// Largest number of pixels along a side of a tile.
const MOST: usize = 9;

/// Addresses of the pixels of a tile.
struct Pixels([[*const f32; MOST]; MOST]);

impl Pixels {
    /// Addresses from `first` on, with strides `steps` between lines and pixels; `outside` for pixels that are not
    /// `inside`.
    #[inline(always)]
    fn new<T: Transform>(
        first: *const f32,
        outside: *const f32,
        steps: (usize, usize),
        inside: &(Range<usize>, Range<usize>),
    ) -> Self {
        let mut places = [[outside; MOST]; MOST];
        for i in 0..T::FROM {
            for j in 0..T::FROM {
                let inside = inside.0.contains(&i) & inside.1.contains(&j);
                let place = first.wrapping_add(i * steps.0 + j * steps.1);
                places[i][j] = select_unpredictable(inside, place, places[i][j]);
            }
        }
        Self(places)
    }

    /// Transforms `count` channels from `c` on, with an activation's scale and shift if given, into `wide` values of
    /// every point. Scale and shift may be given only with `ACTIVATE`.
    ///
    /// # Safety
    /// Pixels have that many channels, `to` has room for the results, and with `WHOLE`, vectors are whole.
    #[inline(always)]
    unsafe fn transform<S: Simd, T: Transform, const WHOLE: bool, const ACTIVATE: bool>(
        &self,
        simd: S,
        (c, count): (usize, usize),
        scale_shift: Option<[S::f32s; 2]>,
        (to, wide): (Place, usize),
    ) {
        T::both_sides(
            simd,
            #[inline(always)]
            |i, j| {
                let from = self.0[i][j].wrapping_add(c);
                // SAFETY: the caller's promise.
                let value = unsafe { if WHOLE { load::<S>(from) } else { load_some(simd, from, count) } };
                match scale_shift {
                    Some([scale, shift]) if ACTIVATE => ScaleShiftReluRows::output(simd, value, scale, shift),
                    _ => value,
                }
            },
            #[inline(always)]
            // SAFETY: as above.
            |i, j, value| unsafe {
                let to = to.at(i * T::TO + j);
                if WHOLE { store::<S>(to, value) } else { store_some(simd, to, value, wide) }
            },
        );
    }
}

/// Addresses of one vector of every point.
#[derive(Clone, Copy)]
struct Place {
    first: *mut f32,
    step: usize,
}

impl Place {
    /// Address of a point.
    ///
    /// # Safety
    /// The point exists.
    #[inline(always)]
    unsafe fn at(self, point: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.first.add(point * self.step) }
    }
}
