//! Equivariance modules: terms of the loss that make the effect of augmentations predictable in the features.
//!
//! A new module takes one file here and one line in the table of [`EquivarianceConfig`]. A module from another crate is
//! registered ([`register`]), so that recipes can name it, or passed to
//! [`Method::with_modules`](crate::Method::with_modules).

mod augself;
mod care;
mod conditional;
mod cross_entropy;
mod equimod;
mod essl;
mod measures;
mod predictor;
mod registered;
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
pub use registered::{ModuleKind, RegisteredModules, register};
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

/// Inputs that a module needs in a batch; the loader provides exactly these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// The original (un-augmented) images.
    pub clean_view: bool,
    /// The augmentation parameters of each view.
    pub parameters: bool,
    /// The augmentation parameters from each view to the other.
    pub pairs: bool,
    /// Small views, rotated by multiples of 90 degrees.
    pub small: Option<SmallView>,
    /// Number of consecutive images that share one draw of the augmentations.
    pub shared_by: Option<usize>,
    /// Stages whose outputs are tapped, counted from 1.
    pub stages: Vec<usize>,
}

impl Needs {
    /// The inputs that either of two modules needs.
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

    /// Reason why one batch cannot serve both modules; `None` if it can.
    pub fn conflict(&self, other: &Self) -> Option<&'static str> {
        match (self.shared_by, other.shared_by, self.small, other.small) {
            (Some(one), Some(two), ..) if one != two => Some("share augmentations in different ways"),
            (.., Some(one), Some(two)) if one != two => Some("need different small views"),
            _ => None,
        }
    }

    /// These inputs and the features at `tap`.
    pub fn at(mut self, tap: Tap) -> Self {
        if let Tap::Stage(number) = tap {
            self.stages.push(number);
        }
        self
    }
}

/// A small view, made by the augmentations of view 1 with another crop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SmallView {
    /// Side in pixels.
    pub size: usize,
    /// Smallest and largest fraction of the image's area that the crop covers.
    pub scale: (f64, f64),
}

/// Starting point from which a module predicts the embedding of a view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The original image, with the parameters of the view.
    #[default]
    Clean,
    /// The other view, with the parameters from that view to this one.
    View,
}

/// A term of the loss that makes the effect of augmentations predictable in the features, with its own heads.
pub trait EquivarianceModule: Send + Sync {
    /// Inputs that the module needs in a batch.
    fn needs(&self) -> Needs;

    /// Loss of a step, a scalar, and its metrics.
    ///
    /// # Errors
    ///
    /// If the step lacks an input that the module needs, or a tensor operation fails.
    fn forward(&self, step: &StepContext) -> Result<Term>;

    /// Starting point of [`predict`](Self::predict); `None` for a module that makes no explicit prediction.
    fn start(&self) -> Option<Start> {
        None
    }

    /// Features that the module takes.
    fn tap(&self) -> Tap {
        Tap::Pooled
    }

    /// Features at the module's tap `[rows, features]` → embeddings `[rows, width]` in which it predicts, in evaluation
    /// mode; `None` for a module that makes no explicit prediction.
    ///
    /// # Errors
    ///
    /// If the width does not fit, or a tensor operation fails.
    fn embed(&self, _features: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Features `[rows, features]` of the starting point, at the module's tap, and normalized parameters
    /// `[rows, parameters]` → predicted embeddings of the views `[rows, width]`, in evaluation mode; `None` for a
    /// module that makes no explicit prediction.
    ///
    /// # Errors
    ///
    /// If the widths do not fit, or a tensor operation fails.
    fn predict(&self, _features: &Tensor, _params: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// Settings from which a module is built.
pub trait ModuleSettings {
    /// λ, the weight of the module's term in the loss.
    fn weight(&self) -> Weight;

    /// One sentence for each setting other than the weight that is invalid or does not fit the objective.
    fn problems(&self, objective: &ObjectiveConfig) -> Vec<String>;

    /// Builds the module with its parameters under `scope`; `None` for one that changes the objective and adds no term.
    ///
    /// # Errors
    ///
    /// If the settings do not fit the context, or a parameter of the same name already exists.
    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>>;

    /// Head that the target network needs for this module, on `features` pooled features.
    fn target_head(&self, _features: usize) -> Option<TargetHead<'_>> {
        None
    }
}

macro_rules! modules {
    ($($name:ident($settings:ty) $title:literal $arxiv:literal $about:literal)*) => {
        /// The enabled modules with their settings; none by default, which leaves the plain objective.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default)]
        #[schemars(deny_unknown_fields)]
        pub struct EquivarianceConfig {
            $(#[doc = $about] #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$settings>,)*
            /// Modules that are registered under other names.
            #[serde(flatten)]
            #[schemars(skip)]
            pub registered: RegisteredModules,
        }

        impl EquivarianceConfig {
            /// Table of the built-in modules.
            pub const LIST: &[Entry] =
                &[$(Entry { name: stringify!($name), title: $title, arxiv: $arxiv, about: $about }),*];

            /// All built-in modules, enabled with their defaults.
            pub fn all() -> Self {
                Self { $($name: Some(Default::default()),)* registered: RegisteredModules::default() }
            }

            /// The enabled modules with their names.
            pub fn on(&self) -> Vec<(&str, &dyn ModuleSettings)> {
                let mut on: Vec<(&str, &dyn ModuleSettings)> = Vec::new();
                $(on.extend(self.$name.as_ref().map(|settings| (stringify!($name), settings as &dyn ModuleSettings)));)*
                on.extend(self.registered.on());
                on
            }
        }
    };
}

modules! {
    equimod(EquiModConfig) "EquiMod" "2211.01244"
        "predicts a view's embedding from the original image and the augmentation parameters"
    augself(AugSelfConfig) "AugSelf" "2111.09613" "predicts the differences of two views' augmentation parameters"
    essl(EsslConfig) "E-SSL" "2111.00899" "predicts the rotation of a small view among four"
    split(SplitConfig) "a feature split after SIE" "2302.10283"
        "half of the features invariant, half transformed by a hypernetwork"
    conditional(ConditionalConfig) "a conditional predictor" "2211.01244"
        "gives the augmentation parameters to the objective's predictor"
    care(CareConfig) "CARE" "2306.13924" "augmentations that preserve the angles between embeddings"
    stl(StlConfig) "STL" "2501.08712" "encodes a transformation from one image and applies it to another"
}

/// A module with its name and weight.
pub struct NamedModule {
    /// Name in recipes.
    pub name: String,
    /// λ, the weight of the module's term in the loss.
    pub weight: Weight,
    /// The module.
    pub module: Box<dyn EquivarianceModule>,
}

impl EquivarianceConfig {
    /// Table of the built-in and the registered modules.
    pub fn list() -> Vec<Entry> {
        Self::LIST.iter().copied().chain(registered::registered()).collect()
    }

    /// Names of modules that this program does not know; it leaves them out.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.registered.unknown()
    }

    /// Builds the enabled modules, each under its name in `scope`.
    ///
    /// # Errors
    ///
    /// If the settings of a module do not fit the context, or a parameter of the same name already exists.
    pub fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Vec<NamedModule>> {
        let mut modules = Vec::new();
        for (name, settings) in self.on() {
            if let Some(module) = settings.build(context, &mut scope.scope(name))? {
                modules.push(NamedModule { name: name.into(), weight: settings.weight(), module });
            }
        }
        Ok(modules)
    }

    /// Number of features that the objective sees, counted from the first of `features`.
    ///
    /// # Errors
    ///
    /// If the split leaves one side without features.
    pub fn objective_features(&self, features: usize) -> Result<usize> {
        self.split.as_ref().map_or(Ok(features), |split| split.invariant(features))
    }

    /// Specification of the parameter head that conditions the objective's predictor; `None` without one.
    pub fn condition(&self) -> Option<&HeadSpec> {
        self.conditional.as_ref().map(|conditional| &conditional.parameter_head)
    }

    /// One sentence for each setting that is invalid or does not fit the objective; empty if all are valid.
    pub fn validate(&self, objective: &ObjectiveConfig) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, settings) in self.on() {
            problems.extend(settings.problems(objective));
            problems.extend(settings.weight().problems(&format!("equivariance.{name}")));
        }
        problems
    }
}
