//! Stride 1: the transforms of F(4×4, 3×3) and, for weight gradients, F(3×3, 4×4) (Winograd 1980; Lavin and Gray, arXiv
//! 1509.09308) for the points 0, ±p, ±q and ∞: one dimension each, six values at a time.
//!
//! ```text
//!      ⎡ p²q²   0    −p²−q²    0     1  0 ⎤       ⎡ 1/(p²q²)                     ⎤
//!      ⎢  0   −pq²   −q²       p     1  0 ⎥       ⎢ N_p · (1,  p, p², …)         ⎥
//! Bᵀ = ⎢  0    pq²   −q²      −p     1  0 ⎥   G = ⎢ N_p · (1, −p, p², …)         ⎥   N_p = 1 / (2p²(p²−q²))
//!      ⎢  0   −p²q   −p²       q     1  0 ⎥       ⎢ N_q · (1,  q, q², …)         ⎥   N_q = 1 / (2q²(q²−p²))
//!      ⎢  0    p²q   −p²      −q     1  0 ⎥       ⎢ N_q · (1, −q, q², …)         ⎥
//!      ⎣  0   p²q²     0   −p²−q²    0  1 ⎦       ⎣ (0, …, 0, 1)                 ⎦
//!
//! Aᵀ: row i, from 0, is (1 in the first row, else 0; pⁱ, (−p)ⁱ, qⁱ, (−q)ⁱ; 1 in the last row, else 0)
//! ```
//!
//! p = 2/3 and q = 3/2 have smaller rounding errors than the usual 1 and 2, and p²q² = 1.

use pulp::Simd;

use super::{Transform, columns_then_rows, put_row, transform};

const P: f32 = 2.0 / 3.0;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;
const NP: f32 = 1.0 / (2.0 * P2 * (P2 - Q2));
const NQ: f32 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// Bᵀ·d
#[inline(always)]
fn data<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    let inner = [d[1], d[2], d[3], d[4]];
    let ([plus_p, minus_p], [plus_q, minus_q]) = (data_at(simd, inner, AT_P), data_at(simd, inner, AT_Q));
    [data_end(simd, [d[0], d[2], d[4]]), plus_p, minus_p, plus_q, minus_q, data_end(simd, [d[1], d[3], d[5]])]
}

/// First or last value of Bᵀ·d, from every second value of d.
#[inline(always)]
fn data_end<S: Simd>(simd: S, d: [S::f32s; 3]) -> S::f32s {
    simd.add_f32s(d[0], simd.mul_add_e_f32s(simd.splat_f32s(-(P2 + Q2)), d[1], d[2]))
}

/// A point, and the square of the other point.
const AT_P: (f32, f32) = (P, Q2);
const AT_Q: (f32, f32) = (Q, P2);

/// Values of Bᵀ·d at a point and its negative, from the inner values of d.
#[inline(always)]
fn data_at<S: Simd>(simd: S, d: [S::f32s; 4], (point, square): (f32, f32)) -> [S::f32s; 2] {
    let square = simd.splat_f32s(-square);
    let (even, odd) = (simd.mul_add_e_f32s(square, d[1], d[3]), simd.mul_add_e_f32s(square, d[0], d[2]));
    [simd.mul_add_e_f32s(simd.splat_f32s(point), odd, even), simd.mul_add_e_f32s(simd.splat_f32s(-point), odd, even)]
}

/// Bᵀ·d·B, two rows at a time, so that they fit into registers.
pub struct Inputs;

impl Transform for Inputs {
    const FROM: usize = 6;
    const TO: usize = 6;
    const STEP: usize = 4;

    #[inline(always)]
    fn both_sides<S: Simd>(simd: S, d: impl Fn(usize, usize) -> S::f32s, mut put: impl FnMut(usize, usize, S::f32s)) {
        let mut rows = [[simd.splat_f32s(0.0); 6]; 2];
        for j in 0..6 {
            rows[0][j] = data_end(simd, [d(0, j), d(2, j), d(4, j)]);
            rows[1][j] = data_end(simd, [d(1, j), d(3, j), d(5, j)]);
        }
        put_row(0, data(simd, rows[0]), &mut put);
        put_row(5, data(simd, rows[1]), &mut put);
        for (first, at) in [(1, AT_P), (3, AT_Q)] {
            for j in 0..6 {
                [rows[0][j], rows[1][j]] = data_at(simd, [d(1, j), d(2, j), d(3, j), d(4, j)], at);
            }
            put_row(first, data(simd, rows[0]), &mut put);
            put_row(first + 1, data(simd, rows[1]), &mut put);
        }
    }
}

transform!(
    /// Aᵀ·m·A for 4 × 4 outputs.
    Outputs, 6 to 4 by four_outputs
);
transform!(
    /// Aᵀ·m·A for the gradients of 3 × 3 taps.
    Taps, 6 to 3 by three_outputs
);
transform!(
    /// G·g·Gᵀ for 3 × 3 taps.
    Weights, 3 to 6 by three_taps
);

/// Aᵀ·m for four outputs.
#[inline(always)]
fn four_outputs<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
    let (even_p, odd_p) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (even_q, odd_q) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(even_p, even_q)),
        simd.mul_add_e_f32s(simd.splat_f32s(P), odd_p, simd.mul_f32s(simd.splat_f32s(Q), odd_q)),
        simd.mul_add_e_f32s(simd.splat_f32s(P2), even_p, simd.mul_f32s(simd.splat_f32s(Q2), even_q)),
        simd.mul_add_e_f32s(simd.splat_f32s(P2 * P), odd_p, simd.mul_add_e_f32s(simd.splat_f32s(Q2 * Q), odd_q, m[5])),
    ]
}

/// Aᵀ·m for three outputs.
#[inline(always)]
fn three_outputs<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 3] {
    let (even_p, odd_p) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (even_q, odd_q) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(even_p, even_q)),
        simd.mul_add_e_f32s(simd.splat_f32s(P), odd_p, simd.mul_f32s(simd.splat_f32s(Q), odd_q)),
        simd.mul_add_e_f32s(simd.splat_f32s(P2), even_p, simd.mul_add_e_f32s(simd.splat_f32s(Q2), even_q, m[5])),
    ]
}

/// G·g for three taps.
#[inline(always)]
fn three_taps<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
    let even_p = simd.mul_add_e_f32s(simd.splat_f32s(NP * P2), g[2], simd.mul_f32s(simd.splat_f32s(NP), g[0]));
    let even_q = simd.mul_add_e_f32s(simd.splat_f32s(NQ * Q2), g[2], simd.mul_f32s(simd.splat_f32s(NQ), g[0]));
    from_parts(
        simd,
        g[0],
        (even_p, simd.mul_f32s(simd.splat_f32s(NP * P), g[1])),
        (even_q, simd.mul_f32s(simd.splat_f32s(NQ * Q), g[1])),
        g[2],
    )
}

/// G·g for four taps.
#[inline(always)]
fn four_taps<S: Simd>(simd: S, g: [S::f32s; 4]) -> [S::f32s; 6] {
    let ([plus_p, minus_p], [plus_q, minus_q]) = (taps_at(simd, g, (P, NP)), taps_at(simd, g, (Q, NQ)));
    [g[0], plus_p, minus_p, plus_q, minus_q, g[3]]
}

/// Values of G·g for four taps at a point, with its norm N, and at its negative.
#[inline(always)]
fn taps_at<S: Simd>(simd: S, g: [S::f32s; 4], (point, norm): (f32, f32)) -> [S::f32s; 2] {
    let (first, second) = (norm * point, norm * point * point);
    let [one, first, second, third] = [norm, first, second, second * point].map(|power| simd.splat_f32s(power));
    let even = simd.mul_add_e_f32s(second, g[2], simd.mul_f32s(one, g[0]));
    let odd = simd.mul_add_e_f32s(third, g[3], simd.mul_f32s(first, g[1]));
    [simd.add_f32s(even, odd), simd.sub_f32s(even, odd)]
}

/// G·g·Gᵀ for 4 × 4 gradients, two rows at a time, so that they fit into registers.
pub struct Gradients;

impl Transform for Gradients {
    const FROM: usize = 4;
    const TO: usize = 6;

    #[inline(always)]
    fn both_sides<S: Simd>(simd: S, g: impl Fn(usize, usize) -> S::f32s, mut put: impl FnMut(usize, usize, S::f32s)) {
        put_row(0, four_taps(simd, [g(0, 0), g(0, 1), g(0, 2), g(0, 3)]), &mut put);
        put_row(5, four_taps(simd, [g(3, 0), g(3, 1), g(3, 2), g(3, 3)]), &mut put);
        let mut rows = [[simd.splat_f32s(0.0); 4]; 2];
        for (first, at) in [(1, (P, NP)), (3, (Q, NQ))] {
            for j in 0..4 {
                [rows[0][j], rows[1][j]] = taps_at(simd, [g(0, j), g(1, j), g(2, j), g(3, j)], at);
            }
            put_row(first, four_taps(simd, rows[0]), &mut put);
            put_row(first + 1, four_taps(simd, rows[1]), &mut put);
        }
    }
}

#[inline(always)]
fn from_parts<S: Simd>(
    simd: S,
    zero: S::f32s,
    p: (S::f32s, S::f32s),
    q: (S::f32s, S::f32s),
    infinity: S::f32s,
) -> [S::f32s; 6] {
    [zero, simd.add_f32s(p.0, p.1), simd.sub_f32s(p.0, p.1), simd.add_f32s(q.0, q.1), simd.sub_f32s(q.0, q.1), infinity]
}
