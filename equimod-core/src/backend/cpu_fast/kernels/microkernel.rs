//! Microkernel of all products: a few rows times a panel of columns, accumulated in registers.
//!
//! `out[m][n] (+)= Σ_i Σ_j Σ_p a_m[i·A₀ + j·A₁ + p·A₂] · b[i·B₀ + j·B₁ + p·B₂ + n]`: three nested loops with arbitrary
//! strides cover windows of an image as well as rows and columns of a matrix, without unfolding.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::vectors::{load, store};

/// Largest number of rows at once.
const ROWS: usize = 12;

/// Number of rows at once that fill the registers, for a number of columns.
#[inline(always)]
fn rows_at_once<S: Simd>(columns: usize) -> usize {
    if columns.div_ceil(S::F32_LANES) * 2 <= panel_vectors::<S>() { ROWS } else { ROWS / 2 }
}

/// Number of columns of a panel, which are multiplied by the same rows while those are in the cache.
pub const PANEL: usize = 64;

/// Largest number of vectors of a row at once, which fill the registers for six rows.
const fn panel_vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

/// Number of columns, rounded up to whole vectors.
pub const fn padded<S: Simd>(columns: usize) -> usize {
    columns.div_ceil(S::F32_LANES) * S::F32_LANES
}

/// Columns of a panel, rounded up to whole vectors.
pub fn whole<S: Simd>(panel: &Range<usize>) -> Range<usize> {
    panel.start..panel.start + padded::<S>(panel.len())
}

/// [`padded`] for the instruction set found at run time.
pub fn padded_for(arch: Arch, columns: usize) -> usize {
    struct Columns(usize);

    impl WithSimd for Columns {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            padded::<S>(self.0)
        }
    }

    arch.dispatch(Columns(columns))
}

/// The columns of each panel.
pub fn panels(columns: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..columns).step_by(PANEL).map(move |first| first..(first + PANEL).min(columns))
}

/// Counts and strides of the three nested loops, the outermost first.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Number of steps.
    pub count: [usize; 3],
    /// Stride between values of a row.
    pub a: [usize; 3],
    /// Stride between rows of columns.
    pub b: [usize; 3],
}

/// A panel of columns by which rows are multiplied.
#[derive(Clone, Copy)]
pub struct Panel {
    /// The three nested loops.
    pub walk: Walk,
    /// First row of columns, readable in whole vectors.
    pub b: *const f32,
    /// Number of columns, at most [`PANEL`].
    pub columns: usize,
    /// Whether results are added to the output.
    pub add: bool,
}

/// Multiplies `rows` rows by a panel; `place(row)` returns the addresses of the row's first value and of its result.
///
/// # Safety
/// All addresses of the loops are readable (columns in whole vectors), and the panel's columns are writable at every
/// row's result and, with `add`, readable.
#[inline(always)]
pub unsafe fn multiply<S: Simd>(simd: S, panel: Panel, rows: usize, place: impl Fn(usize) -> (*const f32, *mut f32)) {
    for group in groups::<S>(rows, panel.columns) {
        let mut product =
            Multiply { a: [std::ptr::null(); ROWS], out: [std::ptr::null_mut(); ROWS], rows: group.len(), panel };
        for (m, row) in group.enumerate() {
            (product.a[m], product.out[m]) = place(row);
        }
        // SAFETY: the caller's promise.
        unsafe { multiply_group(simd, &product) };
    }
}

/// Multiplies a group of rows. All callers share one copy for each instruction set: the kernels of all sizes take long
/// to compile.
///
/// # Safety
/// The promise to [`multiply`].
#[inline(never)]
unsafe fn multiply_group<S: Simd>(simd: S, product: &Multiply) {
    simd.vectorize(Group { simd, product });
}

struct Group<'a, S> {
    simd: S,
    product: &'a Multiply,
}

impl<S: Simd> pulp::NullaryFnOnce for Group<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        // SAFETY: the promise to `multiply_group`.
        unsafe {
            match self.product.panel.columns % S::F32_LANES {
                0 => by_vectors(self.simd, self.product),
                _ => by_way_of_whole_vectors(self.simd, self.product),
            }
        }
    }
}

/// Rows that fit into the registers at once, and a panel.
struct Multiply {
    a: [*const f32; ROWS],
    out: [*mut f32; ROWS],
    rows: usize,
    panel: Panel,
}

/// A product whose last vector is partial: computed in a buffer of whole vectors, then copied to the output.
#[inline(always)]
unsafe fn by_way_of_whole_vectors<S: Simd>(simd: S, product: &Multiply) {
    let mut memory = [[0f32; PANEL]; ROWS];
    let columns = product.panel.columns;
    let panel = Panel { columns: padded::<S>(columns), ..product.panel };
    let whole = Multiply { out: memory.each_mut().map(|row| row.as_mut_ptr()), panel, ..*product };
    // SAFETY: the promise to `multiply`; rows of `memory` hold a panel.
    unsafe {
        if panel.add {
            for m in 0..product.rows {
                whole.out[m].copy_from_nonoverlapping(product.out[m], columns);
            }
        }
        by_vectors(simd, &whole);
        for m in 0..product.rows {
            product.out[m].copy_from_nonoverlapping(whole.out[m], columns);
        }
    }
}

#[inline(always)]
unsafe fn by_vectors<S: Simd>(simd: S, product: &Multiply) {
    let (at_once, columns) = (panel_vectors::<S>() * S::F32_LANES, product.panel.columns);
    if columns <= at_once {
        // SAFETY: the promise to `multiply`.
        return unsafe { at_once_by_vectors(simd, product) };
    }
    for first in (0..columns).step_by(at_once) {
        // SAFETY: these columns are within the panel.
        unsafe {
            let (b, columns) = (product.panel.b.add(first), at_once.min(columns - first));
            let out = product.out.map(|row| row.wrapping_add(first));
            at_once_by_vectors(simd, &Multiply { out, panel: Panel { b, columns, ..product.panel }, ..*product });
        }
    }
}

/// Columns that fit into the registers.
#[inline(always)]
unsafe fn at_once_by_vectors<S: Simd>(simd: S, product: &Multiply) {
    // SAFETY: the promise to `multiply`.
    unsafe {
        match product.panel.columns.div_ceil(S::F32_LANES) {
            1 => by_rows::<S, 1>(simd, product),
            2 => by_rows::<S, 2>(simd, product),
            3 => by_rows::<S, 3>(simd, product),
            _ => by_rows::<S, 4>(simd, product),
        }
    }
}

#[inline(always)]
unsafe fn by_rows<S: Simd, const V: usize>(simd: S, product: &Multiply) {
    if V > panel_vectors::<S>() {
        return;
    }
    // SAFETY: the promise to `multiply`.
    unsafe {
        if 2 * V <= panel_vectors::<S>() {
            match product.rows {
                7 => return block::<S, 7, V>(simd, product),
                8 => return block::<S, 8, V>(simd, product),
                9 => return block::<S, 9, V>(simd, product),
                10 => return block::<S, 10, V>(simd, product),
                11 => return block::<S, 11, V>(simd, product),
                12 => return block::<S, 12, V>(simd, product),
                _ => {}
            }
        }
        match product.rows {
            1 => block::<S, 1, V>(simd, product),
            2 => block::<S, 2, V>(simd, product),
            3 => block::<S, 3, V>(simd, product),
            4 => block::<S, 4, V>(simd, product),
            5 => block::<S, 5, V>(simd, product),
            _ => block::<S, 6, V>(simd, product),
        }
    }
}

/// Columns in whole vectors, whose sums stay in registers.
#[inline(always)]
unsafe fn block<S: Simd, const M: usize, const V: usize>(simd: S, product: &Multiply) {
    let Panel { walk: Walk { count, a: a_steps, b: b_steps }, b: columns, add, .. } = product.panel;
    let mut a = [std::ptr::null::<f32>(); M];
    a.copy_from_slice(&product.a[..M]);
    let mut sums = [[simd.splat_f32s(0.0); V]; M];
    // SAFETY: the promise to `multiply`.
    unsafe {
        if add {
            for m in 0..M {
                for v in 0..V {
                    sums[m][v] = load::<S>(product.out[m].add(v * S::F32_LANES));
                }
            }
        }
        for i in 0..count[0] {
            for j in 0..count[1] {
                let (mut at, mut b) = (i * a_steps[0] + j * a_steps[1], columns.add(i * b_steps[0] + j * b_steps[1]));
                for _ in 0..count[2] {
                    let mut columns = [simd.splat_f32s(0.0); V];
                    for v in 0..V {
                        columns[v] = load::<S>(b.add(v * S::F32_LANES));
                    }
                    for m in 0..M {
                        let value = simd.splat_f32s(*a[m].add(at));
                        for v in 0..V {
                            sums[m][v] = simd.mul_add_e_f32s(value, columns[v], sums[m][v]);
                        }
                    }
                    at += a_steps[2];
                    b = b.add(b_steps[2]);
                }
            }
        }
        for m in 0..M {
            for v in 0..V {
                store::<S>(product.out[m].add(v * S::F32_LANES), sums[m][v]);
            }
        }
    }
}

/// Splits `count` rows into groups of at most [`rows_at_once`] for the number of columns; sizes differ by at most one.
#[inline(always)]
fn groups<S: Simd>(count: usize, columns: usize) -> impl Iterator<Item = Range<usize>> {
    let number = count.div_ceil(rows_at_once::<S>(columns));
    (0..number).map(move |g| g * count / number..(g + 1) * count / number)
}

/// `out` `[rows, columns]` `(+)=` a `[rows, depth]` times b `[depth, columns]`, all with contiguous rows.
///
/// # Safety
/// The matrices have these shapes; columns are whole vectors.
#[inline(always)]
pub unsafe fn product<S: Simd>(
    simd: S,
    (rows, depth, columns): (usize, usize, usize),
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    add: bool,
) {
    let walk = Walk { count: [1, 1, depth], a: [0, 0, 1], b: [0, 0, columns] };
    let place = |row: usize| (a.wrapping_add(row * depth), out.wrapping_add(row * columns));
    // SAFETY: the caller's promise.
    unsafe { multiply(simd, Panel { walk, b, columns, add }, rows, place) };
}
