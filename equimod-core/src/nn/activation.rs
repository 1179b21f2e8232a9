//! Activation functions.

use candle_core::Tensor;

use crate::Result;
use crate::nn::hand_written;

/// ReLU of a tensor of any shape: max(xs, 0), differentiable, with derivative 0 at 0 as in PyTorch (candle's `relu` has
/// 1 there).
///
/// # Errors
///
/// If a tensor operation fails.
pub fn relu(xs: &Tensor) -> Result<Tensor> {
    let ys = xs.detach().relu()?;
    let held = ys.clone();
    Ok(hand_written(xs, &ys, move |g| g * held.gt(0.0)?.to_dtype(g.dtype())?)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_derivative_at_zero_is_zero() {
        let x = Var::from_slice(&[-1.0f32, 0.0, 2.0], 3, &Device::Cpu).unwrap();
        let gradients = relu(&x).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0, 1.0]);
    }
}
