//! The empty objective, for training with equivariance modules alone.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::build::BuildContext;
use crate::objective::{Objective, ObjectiveSettings};
use crate::params::Scope;
use crate::step::{StepContext, Term};

/// Settings of the empty objective, which has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NoneConfig {}

impl ObjectiveSettings for NoneConfig {
    fn build(&self, _: &BuildContext, _: &mut Scope) -> Result<Box<dyn Objective>> {
        Ok(Box::new(Nothing))
    }

    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    fn weight(&self) -> f64 {
        0.0
    }
}

/// An objective whose loss is 0.
struct Nothing;

impl Objective for Nothing {
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let loss = Tensor::zeros((), step.pooled.dtype(), step.pooled.device())?;
        Ok(Term { loss, metrics: Vec::new() })
    }
}
