//! Layer norm (Ba et al., arXiv 1607.06450), PyTorch's `LayerNorm`, in candle's automatic differentiation: for heads.

use candle_core::{Tensor, Var};
use candle_nn::ops::layer_norm_slow;

use crate::Result;
use crate::params::{Init, Role, Scope};

const EPSILON: f32 = 1e-5;

/// `weight·(x − mean(x))/√(Var(x) + 1e-5) + bias` over the values of each row, the variance biased.
#[derive(Clone)]
pub struct LayerNorm {
    weight: Var,
    bias: Var,
}

impl LayerNorm {
    /// Creates `weight` (1) and `bias` (0), `[width]` each.
    pub fn new(width: usize, scope: &mut Scope) -> Result<Self> {
        let mut part = |name, value| scope.parameter(name, width, Init::Constant(value), Role::Other);
        Ok(Self { weight: part("weight", 1.0)?, bias: part("bias", 0.0)? })
    }

    /// xs `[rows, width]` → the same shape.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        // candle's faster form has no gradient.
        Ok(layer_norm_slow(xs, &self.weight, &self.bias, EPSILON)?)
    }
}
