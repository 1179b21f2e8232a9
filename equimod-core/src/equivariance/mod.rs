//! Equivariance modules: what keeps in the features how an augmentation moves them.

mod equimod;
mod measures;
mod predictor;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

pub use equimod::{Embeddings, EquiMod, EquiModConfig};
pub use measures::{Equivariance, EquivarianceRow, cosine_rows, equivariance_rows};
pub use predictor::{Predictor, PredictorSpec};

use crate::Result;
use crate::collective::SharedCollective;
use crate::params::Scope;
use crate::step::{StepContext, Term};

/// What a module needs in a batch; the loader provides exactly that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The pictures without augmentation.
    pub clean_view: bool,
    /// The parameters of each view.
    pub parameters: bool,
}

/// A part of the loss that keeps the effect of augmentations in the features.
pub trait EquivarianceModule: Send + Sync {
    /// What it needs in a batch.
    fn needs(&self) -> Needs;

    /// The loss of a step and what to log of it.
    fn forward(&self, step: &StepContext) -> Result<Term>;

    /// Features `[rows, features]` → the embeddings in which the module predicts, in evaluation mode;
    /// `None` for a module that makes no explicit prediction.
    fn embed(&self, features: &Tensor) -> Result<Option<Tensor>>;

    /// Features of clean pictures `[rows, features]` and normalised parameters `[rows, parameters]` → the predicted
    /// embeddings of the views, in evaluation mode; `None` for a module that makes no explicit prediction.
    fn predict(&self, clean: &Tensor, params: &Tensor) -> Result<Option<Tensor>>;
}

/// Which modules are on, with their settings. Empty: the plain objective.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EquivarianceConfig {
    /// Prediction of the view's embedding from the clean picture and the parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equimod: Option<EquiModConfig>,
}

/// A built module with its name and weight.
pub struct NamedModule {
    /// The name in recipes.
    pub name: &'static str,
    /// λ of its term.
    pub weight: f64,
    /// The module.
    pub module: Box<dyn EquivarianceModule>,
}

impl EquivarianceConfig {
    /// Every module: name in recipes, one line.
    pub const LIST: [(&'static str, &'static str); 1] = [(
        "equimod",
        "predicts a view's embedding from the clean picture and the parameters (EquiMod, arXiv 2211.01244)",
    )];

    /// Builds the modules for features of width `features` and parameter vectors of width `parameters`, each under
    /// its name in `scope`.
    pub fn build(
        &self,
        features: usize,
        parameters: usize,
        collective: &SharedCollective,
        scope: &mut Scope,
    ) -> Result<Vec<NamedModule>> {
        let mut modules = Vec::new();
        if let Some(config) = &self.equimod {
            let module = EquiMod::new(config, features, parameters, collective, &mut scope.scope("equimod"))?;
            modules.push(NamedModule { name: "equimod", weight: config.weight, module: Box::new(module) });
        }
        Ok(modules)
    }

    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        self.equimod.as_ref().map(EquiModConfig::validate).unwrap_or_default()
    }
}
