//! Backbones written in plain candle code and differentiated by candle's autograd.

use std::sync::Arc;

use candle_core::{Tensor, Var};
use candle_nn::VarBuilder;

use super::Backbone;
use crate::Result;
use crate::nn::Mode;
use crate::params::{GradientSink, Scope};
use crate::tape::{FeatureGradients, Features, Record, Tape, differentiate};

/// A network from images to features, written in plain candle code.
pub trait Network: Send + Sync {
    /// Images `[batch, 3, height, width]` → features, `[batch, features]` pooled. `mode` selects the statistics of
    /// batch norm.
    ///
    /// # Errors
    ///
    /// If the images do not fit the network, or a tensor operation fails.
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Features>;

    /// Width of the pooled features.
    fn features(&self) -> usize;

    /// Width of each stage's output, in the order of [`Features::stages`].
    fn stage_widths(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Multiply-accumulate operations (MACs) of a forward pass over one square image of `side` pixels; `None` if they
    /// are not counted.
    fn macs(&self, _side: usize) -> Option<f64> {
        None
    }
}

/// A [`Backbone`] whose backward pass is candle's autograd.
///
/// Every intermediate tensor stays in memory until the backward pass is done. `execution.recompute` and
/// `execution.precision` have no effect, but `execution.parts` bounds the memory as for any backbone.
///
/// A few operations of candle have no gradient or a wrong one: `max_pool2d`, `avg_pool2d` whose stride differs from its
/// kernel, and the fused `softmax_last_dim`, `layer_norm` and `rms_norm`. Use strided convolutions, `softmax` and
/// `layer_norm_slow` instead.
pub struct AutogradBackbone<N> {
    network: N,
    parameters: Arc<[(String, Var)]>,
}

impl<N: Network + 'static> AutogradBackbone<N> {
    /// Builds a network whose variables are created under `scope`, and are trained, saved and loaded like those of any
    /// backbone. They have the initialization that the layers request, drawn from the seed and the name.
    ///
    /// # Errors
    ///
    /// If `network` fails.
    pub fn build(scope: &mut Scope, network: impl FnOnce(VarBuilder) -> Result<N>) -> Result<Box<dyn Backbone>> {
        let network = network(scope.var_builder())?;
        Ok(Box::new(Self { network, parameters: scope.trainable().into() }))
    }
}

impl<N: Network> AutogradBackbone<N> {
    /// candle's operations take tensors of one type: the network computes in that of its parameters.
    fn features_of(&self, images: &Tensor, mode: Mode) -> Result<Features> {
        match self.parameters.first() {
            Some((_, parameter)) => self.network.forward(&images.to_dtype(parameter.dtype())?, mode),
            None => self.network.forward(images, mode),
        }
    }
}

impl<N: Network> Backbone for AutogradBackbone<N> {
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<(Features, Tape)> {
        let features = self.features_of(images, mode)?;
        let detached = features.detached();
        Ok((detached, Tape::new(AutogradRecord { features, parameters: self.parameters.clone() })))
    }

    fn infer(&self, images: &Tensor, mode: Mode) -> Result<Features> {
        Ok(self.features_of(images, mode)?.detached())
    }

    fn macs(&self, side: usize) -> Option<f64> {
        self.network.macs(side)
    }

    fn features(&self) -> usize {
        self.network.features()
    }

    fn stage_widths(&self) -> Vec<usize> {
        self.network.stage_widths()
    }
}

/// Features with their graph, which candle differentiates.
struct AutogradRecord {
    features: Features,
    parameters: Arc<[(String, Var)]>,
}

impl Record for AutogradRecord {
    /// Differentiates `Σ features · gradients`, whose gradient with respect to the parameters is that of the loss.
    fn backward(self: Box<Self>, gradients: FeatureGradients, sink: &mut dyn GradientSink) -> Result<()> {
        let Self { features: Features { pooled, stages }, parameters } = *self;
        let mut sum: Option<Tensor> = None;
        let pairs = std::iter::once((pooled, gradients.pooled)).chain(stages.into_iter().zip(gradients.stages));
        for (features, gradient) in pairs {
            let Some(gradient) = gradient else { continue };
            let product = (features * gradient)?.sum_all()?;
            sum = Some(match sum {
                Some(sum) => (sum + product)?,
                None => product,
            });
        }
        let Some(sum) = sum else { return Ok(()) };
        let named = parameters.iter().map(|(name, var)| (name.as_str(), var));
        differentiate(&sum, named)?.0.hand_over(sink)
    }
}
