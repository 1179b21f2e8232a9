//! Single-threaded matrix products of slices; callers split the work.

use num_traits::Float;

/// A matrix in a slice: element (r, c) is at `r·row + c·column`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    /// The slice.
    pub values: &'a [T],
    /// Stride between rows.
    pub row: usize,
    /// Stride between columns.
    pub column: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix with a row stride of `columns`.
    pub fn rows(values: &'a [T], columns: usize) -> Self {
        Self { values, row: columns, column: 1 }
    }

    /// The transposed matrix, over the same values.
    pub fn transposed(self) -> Self {
        Self { values: self.values, row: self.column, column: self.row }
    }
}

/// `out = a·b`, or `out += a·b` if `accumulate`, on this thread: a `[m, k]`, b `[k, n]`, and out `[m, n]` row-major
/// with a row stride of `stride`.
///
/// # Panics
/// If a matrix exceeds its slice.
pub fn gemm<T: Float + 'static>(
    (m, k, n): (usize, usize, usize),
    a: Matrix<T>,
    b: Matrix<T>,
    (out, stride): (&mut [T], usize),
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    let last = |rows: usize, columns: usize, x: &Matrix<T>| (rows.max(1) - 1) * x.row + (columns.max(1) - 1) * x.column;
    assert!(k == 0 || (last(m, k, &a) < a.values.len() && last(k, n, &b) < b.values.len()), "matrix out of its slice");
    assert!(stride >= n && out.len() >= (m - 1) * stride + n, "product out of its slice");
    let (alpha, beta) = (if accumulate { T::one() } else { T::zero() }, T::one());
    // SAFETY: the assertions keep every element that `gemm` addresses, at most (m−1, k−1), (k−1, n−1) and (m−1, n−1)
    // of the three matrices, inside its slice; `out` is borrowed mutably and overlaps neither input.
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            accumulate,
            a.values.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.column as isize,
            b.row as isize,
            alpha,
            beta,
            false,
            false,
            false,
            ::gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_transposed_and_accumulated_matrices() {
        let a: Vec<f64> = (0..6).map(f64::from).collect();
        let mut out = vec![1.0; 4];
        // [[0,1,2],[3,4,5]] · its transpose = [[5,14],[14,50]]
        gemm((2, 3, 2), Matrix::rows(&a, 3), Matrix::rows(&a, 3).transposed(), (&mut out, 2), true);
        assert_eq!(out, [6.0, 15.0, 15.0, 51.0]);
        gemm((2, 3, 2), Matrix::rows(&a, 3), Matrix::rows(&a, 3).transposed(), (&mut out, 2), false);
        assert_eq!(out, [5.0, 14.0, 14.0, 50.0]);
        let mut wide = vec![-1.0; 6];
        gemm((2, 3, 2), Matrix::rows(&a, 3), Matrix::rows(&a, 3).transposed(), (&mut wide, 4), false);
        assert_eq!(wide, [5.0, 14.0, -1.0, -1.0, 14.0, 50.0]);
    }
}
