//! Batch norm of values far from zero, whose variance is a small difference of large sums.

use candle_core::{Result, Tensor};
use equimod_core::ops::{
    ChannelStatistics, ScaleShiftRelu, batch_norm_apply, batch_norm_backward, batch_norm_backward_sums,
    batch_norm_statistics, batch_norm_sums, relu_backward,
};

use super::place::{Place, values};
use super::{Part, SUM, Tolerance};

const SHAPE: [usize; 4] = [16, 8, 32, 32];
const MEAN: f64 = 30.0;
const DEVIATION: f64 = 0.6;
const EPSILON: f64 = 1e-5;
/// Distance from the threshold of a ReLU within which gradients are 0, so that rounding switches none of them.
const MARGIN: f64 = 1e-3;

/// f32 holds the squares, about 900, to 6e-5, and the variance is 0.36.
const DEVIATIONS: Tolerance = Tolerance { f32: 3e-4, bf16: 3e-4 };

/// Statistics, forward pass and backward pass.
pub fn parts(place: &Place) -> anyhow::Result<Vec<Part>> {
    let exact = Exact::new(place)?;
    let xs = place.put(&exact.xs)?;
    let ChannelStatistics { mean, inverse_std } = statistics(&xs)?;
    let part = |what: &str, values, tolerance| Part::new(format!("batch norm: {what}"), values, tolerance);
    let mut parts = vec![
        part("mean (30)", mean, SUM),
        part("inverse deviation (1/0.6)", inverse_std, DEVIATIONS),
        part("forward, addition, ReLU", exact.forward(place, &xs)?, SUM),
    ];
    let activation =
        ScaleShiftRelu { scale: place.put_coefficients(&exact.scale)?, shift: place.put_coefficients(&exact.shift)? };
    for (what, activation) in [("", None), (" through a ReLU", Some(&activation))] {
        let [sums, dxs] = exact.backward(place, &xs, activation)?;
        parts.push(part(&format!("sums of gradients{what}"), sums, SUM));
        parts.push(part(&format!("gradient{what}"), dxs, SUM));
    }
    let (dys, more) = (place.put(&exact.dys)?, place.values(&SHAPE, 4)?);
    parts.push(Part::new("ReLU: gradient".into(), relu_backward(dys, Some(&more), &place.values(&SHAPE, 6)?)?, SUM));
    Ok(parts)
}

/// Mean and inverse standard deviation of each channel.
fn statistics(xs: &Tensor) -> Result<ChannelStatistics> {
    batch_norm_statistics(xs, &batch_norm_sums(xs)?, (xs.elem_count() / SHAPE[1]) as f64, EPSILON, None)
}

/// Inputs on the CPU in f64, with the coefficients that all places use.
struct Exact {
    xs: Tensor,
    dys: Tensor,
    mean: Tensor,
    inverse: Tensor,
    scale: Tensor,
    shift: Tensor,
}

impl Exact {
    fn new(place: &Place) -> Result<Self> {
        // Uniform values in ±1 have the deviation 1/√3.
        let xs = place.rounded(&((values(&SHAPE, 1)? * (DEVIATION * 3f64.sqrt()))? + MEAN)?)?;
        let ChannelStatistics { mean, inverse_std: inverse } = statistics(&xs)?;
        let weight = (values(&[SHAPE[1]], 2)? + 2.0)?;
        let scale = (&inverse * weight)?;
        let shift = (values(&[SHAPE[1]], 3)? - (&mean * &scale)?)?;
        let normalized = batch_norm_apply(&xs, &scale, &shift, None, false)?;
        let clear = normalized.abs()?.gt(MARGIN)?.to_dtype(xs.dtype())?;
        // Without a mean, sums of gradients would be small differences as well.
        let dys = ((values(&SHAPE, 5)? + 0.5)? * clear)?;
        Ok(Self { xs, dys, mean, inverse, scale, shift })
    }

    fn forward(&self, place: &Place, xs: &Tensor) -> Result<Tensor> {
        let (scale, shift) = (place.put_coefficients(&self.scale)?, place.put_coefficients(&self.shift)?);
        batch_norm_apply(xs, &scale, &shift, Some(&place.values(&SHAPE, 4)?), true)
    }

    fn backward(&self, place: &Place, xs: &Tensor, activation: Option<&ScaleShiftRelu>) -> Result<[Tensor; 2]> {
        let dys = place.put(&self.dys)?;
        let (mean, inverse) = (place.put_coefficients(&self.mean)?, place.put_coefficients(&self.inverse)?);
        let sums = batch_norm_backward_sums(&dys, activation, xs, &mean, &inverse)?;
        // The gradient's slope in x, as if it were correlated with x by 0.1, and the offset that cancels its mean.
        let slope = (&self.scale * -0.1)?;
        let offset = ((&slope * &self.mean)?.neg()? - 0.05)?;
        let [scale, slope, offset] = [&self.scale, &slope, &offset].map(|tensor| place.put_coefficients(tensor));
        let dxs = batch_norm_backward(&dys, activation, xs, [&scale?, &slope?, &offset?])?;
        Ok([sums, dxs])
    }
}
