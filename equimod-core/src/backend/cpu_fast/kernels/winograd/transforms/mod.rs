//! Transforms of tiles along both dimensions.

pub mod strided;
pub mod unit;

use std::mem::MaybeUninit;

use pulp::Simd;

/// A linear transform M along both dimensions of a tile t: M·t·Mᵀ.
pub trait Transform {
    /// Number of values along a side of t.
    const FROM: usize;
    /// Number of values along a side of the result.
    const TO: usize;
    /// Stride between tiles along a side; neighboring tiles share the other values.
    const STEP: usize = Self::FROM;

    /// `value(i, j)` reads t, possibly more than once; `put(i, j, value)` receives each value of the result once.
    fn both_sides<S: Simd>(simd: S, value: impl Fn(usize, usize) -> S::f32s, put: impl FnMut(usize, usize, S::f32s));
}

/// Applies `along`, which maps `I` values to `O`, to columns, then rows.
#[inline(always)]
fn columns_then_rows<S: Simd, const I: usize, const O: usize>(
    simd: S,
    along: impl Fn(S, [S::f32s; I]) -> [S::f32s; O],
    value: impl Fn(usize, usize) -> S::f32s,
    mut put: impl FnMut(usize, usize, S::f32s),
) {
    // Uninitialized, because zeros would write large tiles twice.
    let mut between = [MaybeUninit::<[S::f32s; O]>::uninit(); I];
    for j in 0..I {
        let mut column = [simd.splat_f32s(0.0); I];
        for i in 0..I {
            column[i] = value(i, j);
        }
        between[j].write(along(simd, column));
    }
    for i in 0..O {
        let mut row = [simd.splat_f32s(0.0); I];
        for j in 0..I {
            // SAFETY: every column has been written.
            row[j] = unsafe { between[j].assume_init_ref()[i] };
        }
        put_row(i, along(simd, row), &mut put);
    }
}

/// Puts each value of a row.
#[inline(always)]
fn put_row<V: Copy, const N: usize>(i: usize, row: [V; N], put: &mut impl FnMut(usize, usize, V)) {
    for j in 0..N {
        put(i, j, row[j]);
    }
}

/// Defines a [`Transform`] of columns first, then rows; `every` is its stride.
macro_rules! transform {
    ($(#[$doc:meta])* $name:ident, $from:literal to $to:literal $(every $step:literal)? by $along:ident) => {
        $(#[$doc])*
        pub struct $name;

        impl Transform for $name {
            const FROM: usize = $from;
            const TO: usize = $to;
            $(const STEP: usize = $step;)?

            #[inline(always)]
            fn both_sides<S: Simd>(
                simd: S,
                value: impl Fn(usize, usize) -> S::f32s,
                put: impl FnMut(usize, usize, S::f32s),
            ) {
                columns_then_rows::<S, $from, $to>(
                    simd,
                    #[inline(always)]
                    |simd, values| $along(simd, values),
                    value,
                    put,
                );
            }
        }
    };
}
use transform;
