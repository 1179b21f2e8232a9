//! Linear (fully connected) layer in candle's autograd, for heads.

use candle_core::{Tensor, TensorId, Var};

use crate::Result;
use crate::nn::collector::collect;
use crate::nn::{hand_written_of_three, hand_written_pair};
use crate::ops;
use crate::params::{Init, Role, Scope};

/// Linear layer `xs · weightᵀ (+ bias)`, as PyTorch's `Linear`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Var,
    bias: Option<Var>,
}

impl Linear {
    /// Creates `weight` `[out, in]` and, with `bias`, a `bias` `[out]`, with PyTorch's default initialization.
    ///
    /// # Errors
    ///
    /// If a parameter of the same name already exists.
    pub fn new(inputs: usize, outputs: usize, bias: bool, scope: &mut Scope) -> Result<Self> {
        let weight = scope.parameter("weight", (outputs, inputs), Init::KaimingUniformFanIn, Role::Weight)?;
        let bound = (inputs.max(1) as f64).sqrt().recip();
        let bias = bias.then(|| scope.parameter("bias", outputs, Init::Uniform(bound), Role::Other)).transpose()?;
        Ok(Self { weight, bias })
    }

    /// xs `[batch, in]` → `[batch, out]`.
    ///
    /// # Errors
    ///
    /// If the width does not fit, or a tensor operation fails.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let backward = Backward { xs: xs.detach(), weight: self.weight.as_detached_tensor(), id: self.weight.id() };
        let ys = ops::matmul_nt(&backward.xs, &backward.weight)?;
        let Some(bias) = &self.bias else {
            return Ok(hand_written_pair(xs, &self.weight, &ys, move |dys| backward.gradients(dys))?);
        };
        let (ys, id) = (ys.broadcast_add(&bias.as_detached_tensor())?, bias.id());
        Ok(hand_written_of_three([xs, &self.weight, bias], &ys, move |dys| {
            let (dxs, weight) = backward.gradients(dys)?;
            // The first of batch norm's sums is the sum over rows, the bias's gradient.
            let sum = ops::batch_norm_sums(dys)?.get(0)?.to_dtype(dys.dtype())?;
            Ok((dxs, weight, collect(id, sum)?))
        })?)
    }
}

/// Backward pass with its saved activations.
struct Backward {
    xs: Tensor,
    weight: Tensor,
    /// Variable of the weight, under which its gradient is collected.
    id: TensorId,
}

impl Backward {
    /// Gradients of the input `[batch, in]` and of the weight `[out, in]`, as [`hand_written_pair`] expects them.
    fn gradients(&self, dys: &Tensor) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dxs = ops::matmul(dys, &self.weight)?;
        Ok((Some(dxs), collect(self.id, ops::matmul_tn(dys, &self.xs)?)?))
    }
}
