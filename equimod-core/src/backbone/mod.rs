//! Backbones: images in, features out, with a tape for the way back.

mod resnet;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use resnet::{Architecture, ResNet, ResNetConfig, Stem};

use crate::Result;
use crate::collective::SharedCollective;
use crate::execution::Execution;
use crate::nn::Mode;
use crate::params::Scope;
use crate::tape::{Features, Tape};

/// A network from images to features.
pub trait Backbone: Send + Sync {
    /// images `[batch, 3, height, width]` → features and the record for [`Tape::backward`].
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<(Features, Tape)>;

    /// images `[batch, 3, height, width]` → features; nothing is remembered.
    fn infer(&self, images: &Tensor, mode: Mode) -> Result<Features>;

    /// Multiplications of a pass over one square picture of `side` pixels, those of its convolutions.
    fn multiplications(&self, side: usize) -> f64;

    /// Width of the pooled features.
    fn features(&self) -> usize;

    /// Channels of each stage's output.
    fn stage_channels(&self) -> Vec<usize>;
}

/// Which backbone to build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct BackboneConfig(pub ResNetConfig);

impl BackboneConfig {
    /// Builds the backbone, its tensors under `scope`.
    pub fn build(
        &self,
        execution: Execution,
        collective: &SharedCollective,
        scope: &mut Scope,
    ) -> Result<Box<dyn Backbone>> {
        Ok(Box::new(ResNet::new(&self.0, execution, collective, scope)?))
    }
}
