//! Fully connected layer.

use candle_core::{Tensor, Var};

use crate::Result;
use crate::kernels;
use crate::nn::collector::collect;
use crate::nn::hand_written_pair;
use crate::params::{Init, Role, Scope};

/// xs `[batch, in]` → `xs · weightᵀ (+ bias)` `[batch, out]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Var,
    bias: Option<Var>,
}

impl Linear {
    /// Creates `weight` `[out, in]` and, if asked for, `bias` `[out]`, with PyTorch's default initialisation.
    pub fn new(inputs: usize, outputs: usize, bias: bool, scope: &mut Scope) -> Result<Self> {
        let weight = scope.parameter("weight", (outputs, inputs), Init::KaimingUniformFanIn, Role::Weight)?;
        let bound = (inputs.max(1) as f64).sqrt().recip();
        let bias = bias.then(|| scope.parameter("bias", outputs, Init::Uniform(bound), Role::Other)).transpose()?;
        Ok(Self { weight, bias })
    }

    /// Applies the layer.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (input, weight, id) = (xs.detach(), self.weight.as_detached_tensor(), self.weight.id());
        let ys = kernels::times_transposed(&input, &weight)?;
        let ys = hand_written_pair(xs, &self.weight, &ys, move |dys| {
            let dxs = kernels::times(dys, &weight)?;
            Ok((Some(dxs), collect(id, kernels::transposed_times(dys, &input)?)?))
        })?;
        match &self.bias {
            Some(bias) => Ok(ys.broadcast_add(bias)?),
            None => Ok(ys),
        }
    }
}
