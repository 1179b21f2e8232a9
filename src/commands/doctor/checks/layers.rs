//! Pools, matrix products, losses and pixels.

use candle_core::{Device, Tensor};
use equimod_core::Normalization;
use equimod_core::ops::{
    Positives, RowTargets, cross_entropy_rows, global_average_pool, global_average_pool_backward, matmul, matmul_nt,
    matmul_tn, max_pool2d, max_pool2d_backward,
};

use super::place::{Place, values};
use super::{EXACT, PRODUCT, Part, SUM};

/// Max-pool of few distinct values, so that windows have ties, and average pool.
pub fn pools(place: &Place) -> anyhow::Result<Vec<Part>> {
    let shape = [4, 19, 17, 17];
    let xs = place.put(&(values(&shape, 1)? * 2.0)?.round()?)?;
    let (ys, winners) = max_pool2d(&xs, 3, 2, 1)?;
    let dxs = max_pool2d_backward(&place.values(ys.dims(), 2)?, &winners)?;
    let xs = place.put(&(values(&shape, 3)? + 0.5)?)?;
    let pooled = global_average_pool(&xs)?;
    let pooled_dxs = global_average_pool_backward(&place.values(pooled.dims(), 4)?, (shape[2], shape[3]))?;
    Ok(vec![
        Part::new("max-pool with ties: forward".into(), ys, EXACT),
        Part::new("max-pool with ties: winners".into(), winners.indices, EXACT),
        Part::new("max-pool with ties: gradient".into(), dxs, SUM),
        Part::new("average pool: forward".into(), pooled, SUM),
        Part::new("average pool: gradient".into(), pooled_dxs, SUM),
    ])
}

/// Products of matrices, with either of them transposed.
pub fn products(place: &Place) -> anyhow::Result<Vec<Part>> {
    let (rows, inner, columns) = (96, 200, 72);
    let of = |shape: [usize; 2], seed| place.values(&shape, seed);
    Ok(vec![
        Part::new("product a·b".into(), matmul(&of([rows, inner], 1)?, &of([inner, columns], 2)?)?, PRODUCT),
        Part::new("product a·bᵀ".into(), matmul_nt(&of([rows, inner], 3)?, &of([columns, inner], 4)?)?, PRODUCT),
        Part::new("product aᵀ·b".into(), matmul_tn(&of([inner, rows], 5)?, &of([inner, columns], 6)?)?, PRODUCT),
    ])
}

/// Cross-entropy of rows for each kind of positives.
pub fn losses(place: &Place) -> anyhow::Result<Vec<Part>> {
    let (rows, columns) = (64, 128);
    let kinds = [
        ("a row's own column", Positives::SameRow, false),
        ("the other view", Positives::OtherHalf, true),
        ("view and prediction", Positives::OtherHalfWithoutSiblings, false),
    ];
    let mut parts = Vec::new();
    for (name, positives, decoupled) in kinds {
        let targets = RowTargets { first: 0, local: rows, offset: rows, positives, decoupled };
        let similarities = place.put(&(values(&[rows, columns], 1)? * 5.0)?)?;
        let (losses, gradient) = cross_entropy_rows(similarities, &targets)?;
        parts.push(Part::new(format!("cross-entropy, {name}: losses"), losses, SUM));
        parts.push(Part::new(format!("cross-entropy, {name}: gradient"), gradient, SUM));
    }
    Ok(parts)
}

/// Every value of a pixel, normalized.
pub fn pixels(place: &Place) -> anyhow::Result<Vec<Part>> {
    let shape = (2, 16, 16);
    let pixels: Vec<u8> = (0..2 * 16 * 16 * 3).map(|i| (i * 7 % 256) as u8).collect();
    let tensor = |device: &Device| -> equimod_core::Result<Tensor> {
        Normalization::CIFAR10.tensor(&pixels, shape, device, place.dtype)
    };
    Ok(vec![Part::new("pixels to a tensor".into(), tensor(place.device)?, SUM)])
}
