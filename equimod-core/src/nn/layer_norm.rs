//! Layer norm (Ba et al., arXiv 1607.06450) as PyTorch's `LayerNorm`, in candle's autograd, for heads.

use candle_core::{Tensor, Var};
use candle_nn::ops::layer_norm_slow;

use crate::Result;
use crate::params::{Init, Role, Scope};

const EPSILON: f32 = 1e-5;

/// Layer norm `weight·(x − mean(x))/√(Var(x) + 1e-5) + bias` over each row, with the biased variance.
#[derive(Clone)]
pub struct LayerNorm {
    weight: Var,
    bias: Var,
}

impl LayerNorm {
    /// Creates `weight` (1) and `bias` (0), `[width]` each.
    ///
    /// # Errors
    ///
    /// If a parameter of the same name already exists.
    pub fn new(width: usize, scope: &mut Scope) -> Result<Self> {
        let mut part = |name, value| scope.parameter(name, width, Init::Constant(value), Role::Other);
        Ok(Self { weight: part("weight", 1.0)?, bias: part("bias", 0.0)? })
    }

    /// xs `[rows, width]` → normalized rows of the same shape.
    ///
    /// # Errors
    ///
    /// If the width does not fit, or a tensor operation fails.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        // candle's fused layer norm has no gradient.
        Ok(layer_norm_slow(xs, &self.weight, &self.bias, EPSILON)?)
    }
}
