//! Stride 2 with a padding of 1. Output i of a line depends on the inputs 2i − 1, 2i and 2i + 1. The odd inputs o are
//! convolved with two taps at stride 1, with F(4, 2) and, for weight gradients, F(2, 4); the even inputs e are
//! multiplied by the middle tap.
//!
//! ```text
//! yᵢ = g₀·oᵢ + g₂·oᵢ₊₁ + g₁·eᵢ        four outputs: 9 MACs instead of 12
//!
//!      ⎡ 1  −3/2 −3/2   1   0 ⎤       ⎡   1    0   ⎤        ⎡ 1   1   1   1   0 ⎤
//!      ⎢ 0   −2   −1    1   0 ⎥       ⎢ −8/9 −4/9  ⎥   Aᵀ = ⎢ 0  1/2 −1   2   0 ⎥
//! Bᵀ = ⎢ 0    1  −5/2   1   0 ⎥   G = ⎢ −2/9  2/9  ⎥        ⎢ 0  1/4  1   4   0 ⎥
//!      ⎢ 0  −1/2  1/2   1   0 ⎥       ⎢  1/9  2/9  ⎥        ⎣ 0  1/8 −1   8   1 ⎦
//!      ⎣ 0    1  −3/2 −3/2  1 ⎦       ⎣   0    1   ⎦
//! ```
//!
//! The points are 0, 1/2, −1, 2 and ∞. The backward pass computes gradients of inputs in the same way: that of input 2i
//! is g₁·dyᵢ, and that of input 2i + 1 is g₂·dyᵢ + g₀·dyᵢ₊₁.
//!
//! A transformed tile has nine values along a side. The last four belong to the middle tap and share its weight, so
//! transformed weights have only six values along a side.

use pulp::Simd;

use super::{Transform, columns_then_rows, transform};

/// A point and its norm.
const HALF: (f32, f32) = (0.5, -8.0 / 9.0);
const MINUS_ONE: (f32, f32) = (-1.0, -2.0 / 9.0);
const TWO: (f32, f32) = (2.0, 1.0 / 9.0);

transform!(
    /// Bᵀ·d·B for the 9 × 9 inputs of 4 × 4 outputs.
    Inputs, 9 to 9 every 8 by inputs
);
transform!(
    /// Aᵀ·m·A for 4 × 4 outputs.
    Outputs, 9 to 4 by outputs
);
transform!(
    /// G·g·Gᵀ for 3 × 3 taps.
    Weights, 3 to 6 by weights
);
transform!(
    /// G·g·Gᵀ for 4 × 4 gradients, the counterpart of [`Inputs`].
    Gradients, 4 to 9 by gradients
);
transform!(
    /// Aᵀ·m·A for the gradients of 3 × 3 taps, from sums in the layout of transformed weights.
    Taps, 6 to 3 by taps
);
transform!(
    /// Bᵀ·d·B for the 5 × 5 gradients from which those of 8 × 8 inputs are computed.
    BackInputs, 5 to 9 every 4 by back_inputs
);
transform!(
    /// Aᵀ·m·A for the gradients of 8 × 8 inputs.
    BackOutputs, 9 to 8 by back_outputs
);

/// Bᵀ·d
#[inline(always)]
fn data<S: Simd>(simd: S, d: [S::f32s; 5]) -> [S::f32s; 5] {
    let end = simd.splat_f32s(-1.5);
    [
        simd.mul_add_e_f32s(end, simd.add_f32s(d[1], d[2]), simd.add_f32s(d[0], d[3])),
        simd.mul_add_e_f32s(simd.splat_f32s(-2.0), d[1], simd.sub_f32s(d[3], d[2])),
        simd.mul_add_e_f32s(simd.splat_f32s(-2.5), d[2], simd.add_f32s(d[1], d[3])),
        simd.mul_add_e_f32s(simd.splat_f32s(0.5), simd.sub_f32s(d[2], d[1]), d[3]),
        simd.mul_add_e_f32s(end, simd.add_f32s(d[2], d[3]), simd.add_f32s(d[1], d[4])),
    ]
}

/// Aᵀ·m for four outputs.
#[inline(always)]
fn four_outputs<S: Simd>(simd: S, m: [S::f32s; 5]) -> [S::f32s; 4] {
    [
        simd.add_f32s(simd.add_f32s(m[0], m[1]), simd.add_f32s(m[2], m[3])),
        sum(simd, [0.5, 2.0], [m[1], m[3]], simd.neg_f32s(m[2])),
        sum(simd, [0.25, 4.0], [m[1], m[3]], m[2]),
        sum(simd, [0.125, 8.0], [m[1], m[3]], simd.sub_f32s(m[4], m[2])),
    ]
}

/// Two products and the rest.
#[inline(always)]
fn sum<S: Simd>(simd: S, factors: [f32; 2], m: [S::f32s; 2], rest: S::f32s) -> S::f32s {
    let rest = simd.mul_add_e_f32s(simd.splat_f32s(factors[1]), m[1], rest);
    simd.mul_add_e_f32s(simd.splat_f32s(factors[0]), m[0], rest)
}

#[inline(always)]
fn inputs<S: Simd>(simd: S, d: [S::f32s; 9]) -> [S::f32s; 9] {
    let [zero, half, minus_one, two, infinity] = data(simd, [d[0], d[2], d[4], d[6], d[8]]);
    [zero, half, minus_one, two, infinity, d[1], d[3], d[5], d[7]]
}

#[inline(always)]
fn outputs<S: Simd>(simd: S, m: [S::f32s; 9]) -> [S::f32s; 4] {
    let y = four_outputs(simd, [m[0], m[1], m[2], m[3], m[4]]);
    [simd.add_f32s(y[0], m[5]), simd.add_f32s(y[1], m[6]), simd.add_f32s(y[2], m[7]), simd.add_f32s(y[3], m[8])]
}

#[inline(always)]
fn back_inputs<S: Simd>(simd: S, d: [S::f32s; 5]) -> [S::f32s; 9] {
    let [zero, half, minus_one, two, infinity] = data(simd, d);
    [zero, half, minus_one, two, infinity, d[0], d[1], d[2], d[3]]
}

#[inline(always)]
fn back_outputs<S: Simd>(simd: S, m: [S::f32s; 9]) -> [S::f32s; 8] {
    let y = four_outputs(simd, [m[0], m[1], m[2], m[3], m[4]]);
    [m[5], y[0], m[6], y[1], m[7], y[2], m[8], y[3]]
}

/// G·g for the outer taps, followed by the middle tap.
#[inline(always)]
fn weights<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
    let outer = [g[0], g[2]];
    [g[0], two_taps(simd, outer, HALF), two_taps(simd, outer, MINUS_ONE), two_taps(simd, outer, TWO), g[2], g[1]]
}

/// G·g for two taps at a point.
#[inline(always)]
fn two_taps<S: Simd>(simd: S, g: [S::f32s; 2], (point, norm): (f32, f32)) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(norm * point), g[1], simd.mul_f32s(simd.splat_f32s(norm), g[0]))
}

/// G·g for four gradients, followed by the gradients themselves.
#[inline(always)]
fn gradients<S: Simd>(simd: S, g: [S::f32s; 4]) -> [S::f32s; 9] {
    let [half, minus_one, two] = [four_taps(simd, g, HALF), four_taps(simd, g, MINUS_ONE), four_taps(simd, g, TWO)];
    [g[0], half, minus_one, two, g[3], g[0], g[1], g[2], g[3]]
}

/// G·g for four taps at a point.
#[inline(always)]
fn four_taps<S: Simd>(simd: S, g: [S::f32s; 4], (point, norm): (f32, f32)) -> S::f32s {
    let square = norm * point * point;
    let even = simd.mul_add_e_f32s(simd.splat_f32s(square), g[2], simd.mul_f32s(simd.splat_f32s(norm), g[0]));
    let first = simd.mul_add_e_f32s(simd.splat_f32s(norm * point), g[1], even);
    simd.mul_add_e_f32s(simd.splat_f32s(square * point), g[3], first)
}

/// Aᵀ·m for two outputs, the outer taps, around the middle one.
#[inline(always)]
fn taps<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 3] {
    [
        simd.add_f32s(simd.add_f32s(m[0], m[1]), simd.add_f32s(m[2], m[3])),
        m[5],
        sum(simd, [0.5, 2.0], [m[1], m[3]], simd.sub_f32s(m[4], m[2])),
    ]
}
