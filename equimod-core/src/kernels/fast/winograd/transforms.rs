//! The transforms of F(4×4, 3×3) and, for weight gradients, F(3×3, 4×4) (Winograd 1980; Lavin and Gray, arXiv 1509.09308)
//! for the points 0, ±p, ±q and ∞: one dimension each, six values at a time.
//!
//! ```text
//!      ⎡ p²q²   0    −p²−q²    0     1  0 ⎤       ⎡ 1/(p²q²)                     ⎤
//!      ⎢  0   −pq²   −q²       p     1  0 ⎥       ⎢ N_p · (1,  p, p², …)         ⎥
//! Bᵀ = ⎢  0    pq²   −q²      −p     1  0 ⎥   G = ⎢ N_p · (1, −p, p², …)         ⎥   N_p = 1 / (2p²(p²−q²))
//!      ⎢  0   −p²q   −p²       q     1  0 ⎥       ⎢ N_q · (1,  q, q², …)         ⎥   N_q = 1 / (2q²(q²−p²))
//!      ⎢  0    p²q   −p²      −q     1  0 ⎥       ⎢ N_q · (1, −q, q², …)         ⎥
//!      ⎣  0   p²q²     0   −p²−q²    0  1 ⎦       ⎣ (0, …, 0, 1)                 ⎦
//!
//! Aᵀ: row i is (i = 0, pⁱ, (−p)ⁱ, qⁱ, (−q)ⁱ, last row)
//! ```
//!
//! p = 2/3 and q = 3/2 round less than the usual 1 and 2, and p²q² is 1.

use pulp::Simd;

const P: f32 = 2.0 / 3.0;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;
const NP: f32 = 1.0 / (2.0 * P2 * (P2 - Q2));
const NQ: f32 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// Points, and so values along a side of a transformed tile.
pub const SIDE: usize = 6;

/// Bᵀ·d
#[inline(always)]
pub fn data<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    let (p2, q2, both) = (simd.splat_f32s(-P2), simd.splat_f32s(-Q2), simd.splat_f32s(-(P2 + Q2)));
    let even_p = simd.mul_add_e_f32s(q2, d[2], d[4]);
    let odd_p = simd.mul_add_e_f32s(q2, d[1], d[3]);
    let even_q = simd.mul_add_e_f32s(p2, d[2], d[4]);
    let odd_q = simd.mul_add_e_f32s(p2, d[1], d[3]);
    [
        simd.add_f32s(d[0], simd.mul_add_e_f32s(both, d[2], d[4])),
        simd.mul_add_e_f32s(simd.splat_f32s(P), odd_p, even_p),
        simd.mul_add_e_f32s(simd.splat_f32s(-P), odd_p, even_p),
        simd.mul_add_e_f32s(simd.splat_f32s(Q), odd_q, even_q),
        simd.mul_add_e_f32s(simd.splat_f32s(-Q), odd_q, even_q),
        simd.add_f32s(d[1], simd.mul_add_e_f32s(both, d[3], d[5])),
    ]
}

/// Aᵀ·m for four outputs.
#[inline(always)]
pub fn four_outputs<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
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
pub fn three_outputs<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 3] {
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
pub fn three_taps<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
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
pub fn four_taps<S: Simd>(simd: S, g: [S::f32s; 4]) -> [S::f32s; 6] {
    let even_p = simd.mul_add_e_f32s(simd.splat_f32s(NP * P2), g[2], simd.mul_f32s(simd.splat_f32s(NP), g[0]));
    let even_q = simd.mul_add_e_f32s(simd.splat_f32s(NQ * Q2), g[2], simd.mul_f32s(simd.splat_f32s(NQ), g[0]));
    let odd_p = simd.mul_add_e_f32s(simd.splat_f32s(NP * P2 * P), g[3], simd.mul_f32s(simd.splat_f32s(NP * P), g[1]));
    let odd_q = simd.mul_add_e_f32s(simd.splat_f32s(NQ * Q2 * Q), g[3], simd.mul_f32s(simd.splat_f32s(NQ * Q), g[1]));
    from_parts(simd, g[0], (even_p, odd_p), (even_q, odd_q), g[3])
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

/// A transform along both sides of a tile: `along` turns `I` values into `O`, columns first, then rows.
#[inline(always)]
pub fn both_sides<S: Simd, const I: usize, const O: usize>(
    simd: S,
    tile: [[S::f32s; I]; I],
    along: impl Fn(S, [S::f32s; I]) -> [S::f32s; O],
) -> [[S::f32s; O]; O] {
    let zero = simd.splat_f32s(0.0);
    let mut between = [[zero; I]; O];
    for j in 0..I {
        let mut column = [zero; I];
        for i in 0..I {
            column[i] = tile[i][j];
        }
        let column = along(simd, column);
        for i in 0..O {
            between[i][j] = column[i];
        }
    }
    let mut out = [[zero; O]; O];
    for i in 0..O {
        out[i] = along(simd, between[i]);
    }
    out
}
