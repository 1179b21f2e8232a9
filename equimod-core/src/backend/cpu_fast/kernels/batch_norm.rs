//! Batch norm over rows of channels: sums, application and backward pass, with one pass over memory each.
//!
//! The split of [sums](super::channel_sums) and tasks depends only on the shape.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::channel_sums::{Partials, SHORT, Sums};
use super::vectors::{Writer, load_some, unwritten};
use crate::backend::cpu::vectorized_for;

/// Approximate number of values of a task.
const TASK: usize = 1 << 16;

/// Number of values of a task, in whole runs of rows.
fn task(channels: usize) -> usize {
    (TASK / channels.max(1)).max(1).next_multiple_of(SHORT) * channels.max(1)
}

/// Σx and Σx² of each channel, `[2, channels]`.
pub fn sums(arch: Arch, x: &[f32], channels: usize) -> Vec<f64> {
    let partials = x.par_chunks(task(channels)).map(|x| arch.dispatch(ForwardSums { x, channels })).collect();
    Partials(partials).sum(channels)
}

struct ForwardSums<'a> {
    x: &'a [f32],
    channels: usize,
}

impl WithSimd for ForwardSums<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f64> {
        let mut sums = Sums::new(self.channels);
        // SAFETY: the rows are within the slice.
        unsafe { sums.add_rows(simd, self.x.as_ptr(), self.x.len() / self.channels) };
        sums.total()
    }
}

/// A batch norm and its ReLU: `relu(x·scale + shift)`.
#[derive(Clone, Copy)]
pub struct ScaleShiftReluRows<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
}

/// Loads `count` values from `from` on, at most one vector.
#[inline(always)]
fn at<S: Simd>(simd: S, values: &[f32], from: usize, count: usize) -> S::f32s {
    // SAFETY: they are within the slice.
    unsafe { load_some(simd, values[from..from + count].as_ptr(), count) }
}

impl ScaleShiftReluRows<'_> {
    /// The activation of a vector of inputs, with scale and shift of its channels.
    #[inline(always)]
    pub fn output<S: Simd>(simd: S, x: S::f32s, scale: S::f32s, shift: S::f32s) -> S::f32s {
        relu_of(simd, simd.mul_add_e_f32s(x, scale, shift))
    }

    /// Gradients `dy`, set to 0 where the activation of the inputs `x` is 0, for `count` channels from `c` on.
    #[inline(always)]
    fn passed<S: Simd>(self, simd: S, dy: S::f32s, x: S::f32s, (c, count): (usize, usize)) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        let y = simd.mul_add_e_f32s(x, at(simd, self.scale, c, count), at(simd, self.shift, c, count));
        simd.select_f32s(simd.greater_than_f32s(y, zero), dy, zero)
    }
}

/// `relu(y)`, which preserves NaN.
#[inline(always)]
fn relu_of<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_or_equal_f32s(y, zero), zero, y)
}

/// Σdy' and Σdy'·x̂ of each channel, `[2, channels]`, where dy' is dy, set to 0 where the activation is 0.
pub fn backward_sums(
    arch: Arch,
    dy: &[f32],
    activation: Option<ScaleShiftReluRows>,
    x: &[f32],
    (mean, inverse_std): (&[f32], &[f32]),
) -> Vec<f64> {
    let channels = mean.len();
    let length = task(channels);
    let tasks = dy.par_chunks(length).zip(x.par_chunks(length));
    let partials = tasks.map(|(dy, x)| arch.dispatch(BackwardSums { dy, activation, x, mean }));
    let mut sums = Partials(partials.collect()).sum(channels);
    for (sum, &inverse) in sums[channels..].iter_mut().zip(inverse_std) {
        *sum *= f64::from(inverse);
    }
    sums
}

/// Σdy' and Σdy'·(x − mean).
struct BackwardSums<'a> {
    dy: &'a [f32],
    activation: Option<ScaleShiftReluRows<'a>>,
    x: &'a [f32],
    mean: &'a [f32],
}

impl WithSimd for BackwardSums<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f64> {
        let (channels, lanes) = (self.mean.len(), S::F32_LANES);
        let mut sums = Sums::new(channels);
        for (run, start) in (0..self.x.len()).step_by(SHORT * channels).enumerate() {
            let rows = SHORT.min((self.x.len() - start) / channels);
            let mut c = 0;
            while c < channels {
                // Adjacent vectors of a row together, so that memory is read sequentially.
                let (part, left) = ((start, rows), channels - c);
                c += match left / lanes {
                    0 => self.add::<S, 1>(simd, part, (c, left), &mut sums),
                    1 => self.add::<S, 1>(simd, part, (c, lanes), &mut sums),
                    2 | 3 => self.add::<S, 2>(simd, part, (c, lanes), &mut sums),
                    _ => self.add::<S, 4>(simd, part, (c, lanes), &mut sums),
                };
            }
            if run % SHORT == SHORT - 1 {
                sums.carry(0..channels);
            }
        }
        sums.total()
    }
}

impl BackwardSums<'_> {
    /// Adds the sums of `V` vectors of `count` channels from `c` on, over `rows` rows starting at the value `start`.
    /// Returns the number of channels.
    #[inline(always)]
    fn add<S: Simd, const V: usize>(
        &self,
        simd: S,
        (start, rows): (usize, usize),
        (c, count): (usize, usize),
        sums: &mut Sums,
    ) -> usize {
        let Self { dy, activation, x, mean } = *self;
        let channels = mean.len();
        let mut run = [[simd.splat_f32s(0.0); 2]; V];
        for row in 0..rows {
            for v in 0..V {
                let c = c + v * S::F32_LANES;
                let place = start + row * channels + c;
                let (x, dy) = (at(simd, x, place, count), at(simd, dy, place, count));
                let dy = match activation {
                    Some(activation) => activation.passed(simd, dy, x, (c, count)),
                    None => dy,
                };
                let product = simd.mul_add_e_f32s(dy, simd.sub_f32s(x, at(simd, mean, c, count)), run[v][1]);
                run[v] = [simd.add_f32s(run[v][0], dy), product];
            }
        }
        for v in 0..V {
            sums.add(simd, (c + v * S::F32_LANES, count), run[v]);
        }
        V * count
    }
}

/// `relu?(x·scale + shift + residual?)`.
pub fn apply(arch: Arch, x: &[f32], scale: &[f32], shift: &[f32], residual: Option<&[f32]>, relu: bool) -> Vec<f32> {
    let mut out = unwritten(x.len());
    let places = Places { from: x.as_ptr(), to: out.as_mut_ptr(), count: x.len(), writer: Writer::of(x.len()) };
    places.each(scale.len(), |places, start| {
        let residual = residual.map(|residual| &residual[start..][..places.count]);
        arch.dispatch(Apply { places, scale, shift, residual, relu });
    });
    out
}

/// In-place [`apply`].
pub fn apply_in_place(arch: Arch, x: &mut [f32], scale: &[f32], shift: &[f32], residual: Option<&[f32]>, relu: bool) {
    Places::in_place(x).each(scale.len(), |places, start| {
        let residual = residual.map(|residual| &residual[start..][..places.count]);
        arch.dispatch(Apply { places, scale, shift, residual, relu });
    });
}

/// Memory from which values are read and to which results are written, at the same offsets: two buffers, or one.
#[derive(Clone, Copy)]
struct Places {
    from: *const f32,
    to: *mut f32,
    count: usize,
    writer: Writer,
}

// SAFETY: only pointers; tasks read and write at disjoint places.
unsafe impl Send for Places {}
// SAFETY: as above.
unsafe impl Sync for Places {}

impl Places {
    fn in_place(values: &mut [f32]) -> Self {
        let to = values.as_mut_ptr();
        Self { from: to, to, count: values.len(), writer: Writer::in_place() }
    }

    /// Calls `work` with the places of every task, and the index of the first of them.
    fn each(self, channels: usize, work: impl Fn(Self, usize) + Sync) {
        let length = task(channels);
        (0..self.count.div_ceil(length)).into_par_iter().for_each(|k| {
            let (start, places) = (k * length, self);
            let (from, to) = (places.from.wrapping_add(start), places.to.wrapping_add(start));
            work(Self { from, to, count: length.min(places.count - start), ..places }, start);
            places.writer.finish();
        });
    }
}

struct Apply<'a> {
    places: Places,
    scale: &'a [f32],
    shift: &'a [f32],
    residual: Option<&'a [f32]>,
    relu: bool,
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { places, scale, shift, residual, relu } = self;
        let channels = scale.len();
        for row in (0..places.count).step_by(channels) {
            for c in (0..channels).step_by(S::F32_LANES) {
                let (count, place) = ((channels - c).min(S::F32_LANES), row + c);
                // SAFETY: there are `count` values at the place, which are read before any is written.
                unsafe {
                    let x = load_some(simd, places.from.add(place), count);
                    let mut y = simd.mul_add_e_f32s(x, at(simd, scale, c, count), at(simd, shift, c, count));
                    if let Some(residual) = residual {
                        y = simd.add_f32s(y, at(simd, residual, place, count));
                    }
                    if relu {
                        y = relu_of(simd, y);
                    }
                    places.writer.store_some(simd, places.to.add(place), y, count);
                }
            }
        }
    }
}

/// Backward pass of batch norm: `scale·dy' + slope·x + offset` with per-channel coefficients.
pub fn backward(
    arch: Arch,
    dy: &[f32],
    activation: Option<ScaleShiftReluRows>,
    x: &[f32],
    coefficients: [&[f32]; 3],
) -> Vec<f32> {
    let mut out = unwritten(x.len());
    let places = Places { from: x.as_ptr(), to: out.as_mut_ptr(), count: x.len(), writer: Writer::of(x.len()) };
    backward_at(arch, dy, activation, places, coefficients);
    out
}

/// In-place [`backward`].
pub fn backward_in_place(
    arch: Arch,
    dy: &[f32],
    activation: Option<ScaleShiftReluRows>,
    x: &mut [f32],
    coefficients: [&[f32]; 3],
) {
    backward_at(arch, dy, activation, Places::in_place(x), coefficients);
}

fn backward_at(
    arch: Arch,
    dy: &[f32],
    activation: Option<ScaleShiftReluRows>,
    places: Places,
    coefficients: [&[f32]; 3],
) {
    places.each(coefficients[0].len(), |places, start| {
        arch.dispatch(Backward { dy: &dy[start..][..places.count], activation, places, coefficients });
    });
}

struct Backward<'a> {
    dy: &'a [f32],
    activation: Option<ScaleShiftReluRows<'a>>,
    /// Activation of the inputs, if any.
    places: Places,
    coefficients: [&'a [f32]; 3],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dy, activation, places, coefficients: [scale, slope, offset] } = self;
        let channels = scale.len();
        for row in (0..dy.len()).step_by(channels) {
            for c in (0..channels).step_by(S::F32_LANES) {
                let (count, place) = ((channels - c).min(S::F32_LANES), row + c);
                // SAFETY: there are `count` values at the place, which are read before any is written.
                unsafe {
                    let (dy, x) = (at(simd, dy, place, count), load_some(simd, places.from.add(place), count));
                    let dy = match activation {
                        Some(activation) => activation.passed(simd, dy, x, (c, count)),
                        None => dy,
                    };
                    let rest = simd.mul_add_e_f32s(x, at(simd, slope, c, count), at(simd, offset, c, count));
                    let dx = simd.mul_add_e_f32s(dy, at(simd, scale, c, count), rest);
                    places.writer.store_some(simd, places.to.add(place), dx, count);
                }
            }
        }
    }
}

/// In-place `dy = (dy + more?)·[y > 0]`.
pub fn relu_backward(arch: Arch, dy: &mut [f32], more: Option<&[f32]>, y: &[f32]) {
    dy.par_chunks_mut(TASK).zip(y.par_chunks(TASK)).enumerate().for_each(|(k, (dy, y))| {
        let more = more.map(|more| &more[k * TASK..][..y.len()]);
        vectorized_for(
            arch,
            #[inline(always)]
            || match more {
                None => dy.iter_mut().zip(y).for_each(|(dy, &y)| *dy = if y > 0.0 { *dy } else { 0.0 }),
                Some(more) => {
                    for ((dy, &y), &more) in dy.iter_mut().zip(y).zip(more) {
                        *dy = if y > 0.0 { *dy + more } else { 0.0 };
                    }
                }
            },
        );
    });
}
