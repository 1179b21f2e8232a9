//! SimCLR (Chen et al., arXiv 2002.05709).

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::collective::SharedCollective;
use crate::head::{Ending, Head, HeadSpec};
use crate::nn::Mode;
use crate::objective::{Objective, nt_xent};
use crate::params::Scope;
use crate::step::{StepContext, Term};

/// Settings of [`SimClr`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimClrConfig {
    /// λ_inv, the weight of this term in the loss. Published: 1.
    pub weight: f64,
    /// T of NT-Xent. Published: 0.5 on CIFAR-10, 0.2 on ImageNet.
    pub temperature: f64,
    /// g_inv, from features to the embedding that is contrasted. Published: `2048-2048-128 bn-`.
    pub projection_head: HeadSpec,
}

impl Default for SimClrConfig {
    fn default() -> Self {
        let projection_head = HeadSpec { widths: vec![2048, 2048, 128], ending: Ending::PlainBatchNorm };
        Self { weight: 1.0, temperature: 0.5, projection_head }
    }
}

impl SimClrConfig {
    pub(super) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.temperature.is_nan() || self.temperature <= 0.0 {
            problems.push(format!("the objective's temperature is {}; it must be above 0", self.temperature));
        }
        problems
    }
}

/// `L_inv = NTXent(z, T)` over `z = g_inv(h)` of both views.
pub struct SimClr {
    temperature: f64,
    projection_head: Head,
}

impl SimClr {
    /// Builds the projection head for features of width `features`, under `scope`.
    pub fn new(
        config: &SimClrConfig,
        features: usize,
        collective: &SharedCollective,
        scope: &mut Scope,
    ) -> Result<Self> {
        let mut scope = scope.scope("projection_head");
        let projection_head = Head::new(&config.projection_head, features, collective, &mut scope)?;
        Ok(Self { temperature: config.temperature, projection_head })
    }

    /// Features `[rows, features]` → embeddings z `[rows, width]`.
    pub fn embed(&self, features: &Tensor, mode: Mode) -> Result<Tensor> {
        self.projection_head.forward(features, mode)
    }
}

impl Objective for SimClr {
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let z = self.embed(&step.view_features()?, step.mode)?;
        Ok(Term { loss: nt_xent(&z, self.temperature, step.collective.as_ref())?, metrics: Vec::new() })
    }
}
