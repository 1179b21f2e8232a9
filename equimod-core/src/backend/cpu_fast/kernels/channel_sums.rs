//! Two sums of each column over rows, in a fixed order: short runs of rows are summed in registers, some runs in f32,
//! and the rest in f64.

use std::ops::Range;

use pulp::Simd;

use super::vectors::{load_some, store_some};

/// Number of rows of a run, and of runs that are summed in f32.
pub const SHORT: usize = 16;

/// Sums of all tasks, `[2, channels]` each, in the order of tasks.
pub struct Partials(pub Vec<Vec<f64>>);

impl Partials {
    /// Sums of all tasks; `None` if a task has none.
    pub fn of(tasks: Vec<Option<Vec<f64>>>) -> Option<Self> {
        tasks.into_iter().collect::<Option<_>>().map(Self)
    }

    /// Total over all tasks, `[2, channels]`.
    pub fn sum(self, channels: usize) -> Vec<f64> {
        let mut total = vec![0.0; 2 * channels];
        for partial in self.0 {
            total.iter_mut().zip(partial).for_each(|(sum, value)| *sum += value);
        }
        total
    }
}

/// Two sums of a task.
pub struct Sums {
    columns: usize,
    /// Sums of the last runs in f32, `[2, columns]`.
    runs: Vec<f32>,
    /// Sums of all earlier runs in f64, `[2, columns]`.
    total: Vec<f64>,
}

impl Sums {
    /// Zeros for `columns` columns.
    pub fn new(columns: usize) -> Self {
        Self { columns, runs: vec![0.0; 2 * columns], total: vec![0.0; 2 * columns] }
    }

    /// Adds the two sums of a run for the `count` columns from `c` on. [`carry`](Self::carry) must follow after
    /// [`SHORT`] runs of a column.
    #[inline(always)]
    pub fn add<S: Simd>(&mut self, simd: S, (c, count): (usize, usize), sums: [S::f32s; 2]) {
        for (row, sum) in sums.into_iter().enumerate() {
            let place = self.runs[row * self.columns + c..][..count].as_mut_ptr();
            // SAFETY: these are `count` values.
            unsafe { store_some(simd, place, simd.add_f32s(load_some(simd, place, count), sum), count) };
        }
    }

    /// Adds the sums of the last runs for these columns to those in f64.
    #[inline(always)]
    pub fn carry(&mut self, columns: Range<usize>) {
        for row in 0..2 {
            let place = row * self.columns + columns.start..row * self.columns + columns.end;
            for (total, run) in self.total[place.clone()].iter_mut().zip(&mut self.runs[place]) {
                *total += f64::from(*run);
                *run = 0.0;
            }
        }
    }

    /// Adds Σx and Σx² over `rows` rows, the first of them at `x`.
    ///
    /// # Safety
    /// All columns of each row are readable; rows are contiguous.
    #[inline(always)]
    pub unsafe fn add_rows<S: Simd>(&mut self, simd: S, x: *const f32, rows: usize) {
        for start in (0..rows).step_by(SHORT * SHORT) {
            let end = rows.min(start + SHORT * SHORT);
            for run in (start..end).step_by(SHORT) {
                // SAFETY: the caller's promise.
                unsafe { self.add_run(simd, x.add(run * self.columns), SHORT.min(end - run)) };
            }
            self.carry(0..self.columns);
        }
    }

    /// [`add_rows`](Self::add_rows) of one run.
    #[inline(always)]
    unsafe fn add_run<S: Simd>(&mut self, simd: S, x: *const f32, rows: usize) {
        for c in (0..self.columns).step_by(S::F32_LANES) {
            let count = (self.columns - c).min(S::F32_LANES);
            let (mut sum, mut square) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
            for row in 0..rows {
                // SAFETY: the caller's promise.
                let value = unsafe { load_some(simd, x.add(row * self.columns + c), count) };
                sum = simd.add_f32s(sum, value);
                square = simd.mul_add_e_f32s(value, value, square);
            }
            self.add(simd, (c, count), [sum, square]);
        }
    }

    /// Both sums, `[2, columns]`.
    pub fn total(mut self) -> Vec<f64> {
        self.carry(0..self.columns);
        self.total
    }
}
