//! Equivariance modules, which keep in the features how an augmentation moves them.
//!
//! A new module is one file here and one line in the table of [`EquivarianceConfig`]. One that lives outside of this crate
//! is given to [`Method::with_modules`](crate::Method::with_modules).

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
pub use measures::{Equivariance, EquivarianceRow, cosine_rows, equivariance_metrics, equivariance_rows};
pub use predictor::{Predictor, PredictorSpec};
pub use split::{Split, SplitConfig};
pub use stl::{Stl, StlConfig};

use crate::Result;
use crate::build::BuildContext;
use crate::ema::TargetHead;
use crate::head::HeadSpec;
use crate::objective::ObjectiveConfig;
use crate::optim::Weight;
use crate::params::Scope;
use crate::registry::Entry;
use crate::step::{StepContext, Term};
use crate::tape::Tap;

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

macro_rules! modules {
    ($($name:ident($settings:ty) $title:literal $arxiv:literal $about:literal)*) => {
        /// Which modules are on, with their settings. Empty: the plain objective.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct EquivarianceConfig {
            $(#[doc = $about] #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$settings>,)*
        }

        impl EquivarianceConfig {
            /// Every module.
            pub const LIST: &[Entry] =
                &[$(Entry { name: stringify!($name), title: $title, arxiv: $arxiv, about: $about }),*];

            /// Every module on, with its defaults.
            pub fn all() -> Self {
                Self { $($name: Some(Default::default())),* }
            }

            /// The modules that are on, by name.
            pub fn on(&self) -> Vec<(&'static str, &dyn ModuleSettings)> {
                let mut on: Vec<(&'static str, &dyn ModuleSettings)> = Vec::new();
                $(on.extend(self.$name.as_ref().map(|settings| (stringify!($name), settings as &dyn ModuleSettings)));)*
                on
            }
        }
    };
}

modules! {
    equimod(EquiModConfig) "EquiMod" "2211.01244"
        "predicts a view's embedding from the original image and the parameters"
    augself(AugSelfConfig) "AugSelf" "2111.09613" "predicts the parameters from one view to the other from both"
    essl(EsslConfig) "E-SSL" "2111.00899" "predicts by how many quarters a small view is rotated"
    split(SplitConfig) "a feature split after SIE" "2302.10283"
        "half of the features invariant, half moved by a hypernetwork"
    conditional(ConditionalConfig) "a conditional predictor" "2211.01244"
        "gives the parameters to the objective's predictor"
    care(CareConfig) "CARE" "2306.13924" "augmentations that keep the angles between embeddings"
    stl(StlConfig) "STL" "2501.08712" "codes a transformation from a pair and applies it to another image"
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
