//! SimCLR (Chen et al., arXiv 2002.05709).

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::build::BuildContext;
use crate::head::{Ending, Head, HeadSpec};
use crate::nn::Mode;
use crate::objective::{Objective, ObjectiveSettings, nt_xent, spread, temperature_problems};
use crate::params::Scope;
use crate::step::{StepContext, Term};

/// Settings of [`SimClr`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimClrConfig {
    /// λ_inv, the weight of this term in the loss. Published: 1.
    pub weight: f64,
    /// Temperature T of NT-Xent. Published: 0.5 on CIFAR-10, 0.2 on ImageNet.
    pub temperature: f64,
    /// g_inv, the projection head from the features to the embedding. Published: `2048-2048-128 bn-`.
    pub projection_head: HeadSpec,
}

impl Default for SimClrConfig {
    fn default() -> Self {
        let projection_head = HeadSpec { widths: vec![2048, 2048, 128], ending: Ending::PlainBatchNorm };
        Self { weight: 1.0, temperature: 0.5, projection_head }
    }
}

impl ObjectiveSettings for SimClrConfig {
    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Box<dyn Objective>> {
        Ok(Box::new(SimClr::new(self, context, scope)?))
    }

    fn problems(&self) -> Vec<String> {
        temperature_problems("objective", self.temperature)
    }

    fn weight(&self) -> f64 {
        self.weight
    }
}

/// The SimCLR objective: `L_inv = NTXent(z, T)` over the embeddings `z = g_inv(h)` of both views.
pub struct SimClr {
    temperature: f64,
    projection_head: Head,
}

impl SimClr {
    /// Builds the projection head under `projection_head` in `scope`.
    ///
    /// # Errors
    ///
    /// If the features have width 0, or a parameter of that name already exists.
    pub fn new(config: &SimClrConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let projection_head = context.head(&config.projection_head, context.features, "projection_head", scope)?;
        Ok(Self { temperature: config.temperature, projection_head })
    }

    /// Features `[rows, features]` → embeddings z `[rows, width]`.
    ///
    /// # Errors
    ///
    /// If the width does not fit, or a tensor operation fails.
    pub fn embed(&self, features: &Tensor, mode: Mode) -> Result<Tensor> {
        self.projection_head.forward(features, mode)
    }
}

impl Objective for SimClr {
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let z = self.embed(&step.view_features()?, step.mode)?;
        Ok(Term {
            loss: nt_xent(&z, self.temperature, step.collective.as_ref())?,
            metrics: spread(&z, step.collective.as_ref())?,
        })
    }
}
