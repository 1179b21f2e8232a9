//! Transforms of tiles, along both sides.

pub mod strided;
pub mod unit;

use std::mem::MaybeUninit;

use pulp::Simd;

/// A linear transform M along both sides of a tile t: M·t·Mᵀ.
pub trait Transform {
    /// Values along a side of t.
    const FROM: usize;
    /// Values along a side of the result.
    const TO: usize;
    /// Values along a side from one tile t to the next, which share the others.
    const STEP: usize = Self::FROM;

    /// `value(i, j)` reads t, as often as that suits; `put(i, j, value)` takes each value of the result once.
    fn both_sides<S: Simd>(simd: S, value: impl Fn(usize, usize) -> S::f32s, put: impl FnMut(usize, usize, S::f32s));
}

/// `along` turns `I` values into `O`: columns first, then rows.
#[inline(always)]
fn columns_then_rows<S: Simd, const I: usize, const O: usize>(
    simd: S,
    along: impl Fn(S, [S::f32s; I]) -> [S::f32s; O],
    value: impl Fn(usize, usize) -> S::f32s,
    mut put: impl FnMut(usize, usize, S::f32s),
) {
    // Filled with zeros first, large tiles would be written twice.
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

/// Names a [`Transform`] that goes columns first, then rows; `every` gives its step.
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
