//! Equivariance modules: what keeps in the features how an augmentation moves them.

mod augself;
mod care;
mod conditional;
mod cross_entropy;
mod equimod;
mod essl;
mod measures;
mod predictor;
mod split;
mod stl;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use augself::{AugSelf, AugSelfConfig, Prediction};
pub use care::{Care, CareConfig};
pub use conditional::ConditionalConfig;
pub use cross_entropy::cross_entropy;
pub use equimod::{Embeddings, EquiMod, EquiModConfig, EquiModLoss};
pub use essl::{Essl, EsslConfig};
pub use measures::{Equivariance, EquivarianceRow, cosine_rows, equivariance_rows};
pub use predictor::{Predictor, PredictorSpec};
pub use split::{Split, SplitConfig};
pub use stl::{Stl, StlConfig};

use crate::build::BuildContext;
use crate::ema::TargetHead;
use crate::head::HeadSpec;
use crate::objective::ObjectiveConfig;
use crate::optim::Weight;
use crate::params::Scope;
use crate::step::{StepContext, Tap, Term};
use crate::{Error, Result};

/// What a module needs in a batch; the loader provides exactly that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// The pictures without augmentation.
    pub clean_view: bool,
    /// The parameters of each view.
    pub parameters: bool,
    /// The parameters from each view to the other.
    pub pairs: bool,
    /// Small views that are turned by quarters.
    pub small: Option<SmallView>,
    /// Neighbours in the batch that share one draw of the augmentations: this many.
    pub shared_by: Option<usize>,
    /// The outputs of stages, from 1.
    pub stages: Vec<usize>,
}

impl Needs {
    /// What both need.
    pub fn and(mut self, other: Self) -> Self {
        self.stages.extend(other.stages);
        self.stages.sort_unstable();
        self.stages.dedup();
        Self {
            clean_view: self.clean_view || other.clean_view,
            parameters: self.parameters || other.parameters,
            pairs: self.pairs || other.pairs,
            small: self.small.or(other.small),
            shared_by: self.shared_by.or(other.shared_by),
            stages: self.stages,
        }
    }

    /// Why one batch cannot be for both, if it cannot.
    pub fn conflict(&self, other: &Self) -> Option<&'static str> {
        match (self.shared_by, other.shared_by, self.small, other.small) {
            (Some(one), Some(two), ..) if one != two => Some("share augmentations in different ways"),
            (.., Some(one), Some(two)) if one != two => Some("need different small views"),
            _ => None,
        }
    }

    /// The same with what `tap` takes.
    pub fn at(mut self, tap: Tap) -> Self {
        if let Tap::Stage(number) = tap {
            self.stages.push(number);
        }
        self
    }
}

/// A small view: the augmentations of view 1 with another crop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SmallView {
    /// Its side in pixels.
    pub size: usize,
    /// Least and largest share of the picture's area.
    pub scale: (f64, f64),
}

/// From where a module predicts the embedding of a view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The clean picture, with the parameters of the view.
    #[default]
    Clean,
    /// The other view, with the parameters from it to this one.
    View,
}

/// A part of the loss that keeps the effect of augmentations in the features.
pub trait EquivarianceModule: Send + Sync {
    /// What it needs in a batch.
    fn needs(&self) -> Needs;

    /// The loss of a step and what to log of it.
    fn forward(&self, step: &StepContext) -> Result<Term>;

    /// From where [`predict`](Self::predict) predicts; `None` for a module that makes no explicit prediction.
    fn start(&self) -> Option<Start> {
        None
    }

    /// Which features it takes.
    fn tap(&self) -> Tap {
        Tap::Pooled
    }

    /// Features at its tap `[rows, features]` → the embeddings in which the module predicts, in evaluation mode;
    /// `None` for a module that makes no explicit prediction.
    fn embed(&self, _features: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Features at its tap of what it starts from `[rows, features]` and normalised parameters `[rows, parameters]` → the
    /// predicted embeddings of the views, in evaluation mode; `None` for a module that makes no explicit prediction.
    fn predict(&self, _features: &Tensor, _params: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// Settings of a module.
pub trait ModuleSettings {
    /// λ of its term.
    fn weight(&self) -> Weight;

    /// Every problem of the settings beside this objective, but for that of the weight.
    fn problems(&self, objective: &ObjectiveConfig) -> Vec<String>;

    /// Builds the module, its tensors under `scope`; `None` for one that changes what the objective sees and adds no
    /// term.
    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>>;

    /// The head that the target network has to have for it.
    fn target_head(&self, _features: usize) -> Option<TargetHead<'_>> {
        None
    }
}

/// Which modules are on, with their settings. Empty: the plain objective.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EquivarianceConfig {
    /// Prediction of the view's embedding from the clean picture and the parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equimod: Option<EquiModConfig>,
    /// Prediction of the parameters from both views.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augself: Option<AugSelfConfig>,
    /// Prediction of a small view's rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub essl: Option<EsslConfig>,
    /// Half of the features invariant, half equivariant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitConfig>,
    /// The objective's predictor is told the parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditional: Option<ConditionalConfig>,
    /// Augmentations that keep angles between embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub care: Option<CareConfig>,
    /// Transformations coded by pairs of features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stl: Option<StlConfig>,
}

/// A built module with its name and weight.
pub struct NamedModule {
    /// The name in recipes.
    pub name: String,
    /// λ of its term.
    pub weight: Weight,
    /// The module.
    pub module: Box<dyn EquivarianceModule>,
}

impl EquivarianceConfig {
    /// Every module: name in recipes, one line.
    pub const LIST: [(&'static str, &'static str); 7] = [
        (
            "equimod",
            "predicts a view's embedding from the clean picture and the parameters (EquiMod, arXiv 2211.01244)",
        ),
        ("augself", "predicts the parameters from one view to the other from both (AugSelf, arXiv 2111.09613)"),
        ("essl", "predicts by how many quarters a small view is turned (E-SSL, arXiv 2111.00899)"),
        ("split", "half of the features invariant, half moved by a hypernetwork (after SIE, arXiv 2302.10283)"),
        ("conditional", "tells the objective's predictor the parameters (conditional BYOL, see the documentation)"),
        ("care", "augmentations that keep the angles between embeddings (CARE, arXiv 2306.13924)"),
        ("stl", "codes a transformation from a pair and applies it to another picture (STL, arXiv 2501.08712)"),
    ];

    /// Every module on, with its defaults.
    pub fn all() -> Self {
        Self {
            equimod: Some(Default::default()),
            augself: Some(Default::default()),
            essl: Some(Default::default()),
            split: Some(Default::default()),
            conditional: Some(Default::default()),
            care: Some(Default::default()),
            stl: Some(Default::default()),
        }
    }

    /// The modules that are on, by name.
    pub fn on(&self) -> Vec<(&'static str, &dyn ModuleSettings)> {
        fn part<'a>(
            name: &'static str,
            settings: &'a Option<impl ModuleSettings>,
        ) -> Option<(&'static str, &'a dyn ModuleSettings)> {
            settings.as_ref().map(|settings| (name, settings as &dyn ModuleSettings))
        }
        let parts = [
            part("equimod", &self.equimod),
            part("augself", &self.augself),
            part("essl", &self.essl),
            part("split", &self.split),
            part("conditional", &self.conditional),
            part("care", &self.care),
            part("stl", &self.stl),
        ];
        parts.into_iter().flatten().collect()
    }

    /// Builds the modules, each under its name in `scope`.
    pub fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Vec<NamedModule>> {
        let mut modules = Vec::new();
        for (name, settings) in self.on() {
            if let Some(module) = settings.build(context, &mut scope.scope(name))? {
                modules.push(NamedModule { name: name.into(), weight: settings.weight(), module });
            }
        }
        Ok(modules)
    }

    /// How many of `features` the objective sees, from the first on.
    pub fn objective_features(&self, features: usize) -> Result<usize> {
        self.split.as_ref().map_or(Ok(features), |split| split.invariant(features))
    }

    /// The head on parameters that the objective's predictor has.
    pub fn condition(&self) -> Option<&HeadSpec> {
        self.conditional.as_ref().map(|conditional| &conditional.parameter_head)
    }

    /// Every problem of the configuration beside this objective.
    pub fn validate(&self, objective: &ObjectiveConfig) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, settings) in self.on() {
            problems.extend(settings.problems(objective));
            problems.extend(settings.weight().problems(name));
        }
        problems
    }
}

/// An error of a module whose batch does not divide as it has to.
fn uneven(name: &str, images: usize, chunk: usize) -> Error {
    Error::Config(format!("{name} takes pictures {chunk} by {chunk}, a batch of {images} does not divide so"))
}
