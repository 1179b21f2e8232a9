//! Settings of a method, and parts of it from outside of this crate.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::backbone::{BackboneBuilder, BackboneConfig};
use crate::build::BuildContext;
use crate::ema::{TargetConfig, TargetHead};
use crate::equivariance::{EquivarianceConfig, NamedModule};
use crate::objective::{ObjectiveConfig, PROJECTION_HEAD};
use crate::params::Scope;

/// Settings of a method and its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodConfig {
    /// The backbone, from images to features.
    pub backbone: BackboneConfig,
    /// The invariance objective.
    pub objective: ObjectiveConfig,
    /// The equivariance modules.
    #[serde(default)]
    pub equivariance: EquivarianceConfig,
}

impl MethodConfig {
    /// One sentence for each invalid setting for images of `image_size` × `image_size` pixels; empty if all are valid.
    pub fn validate(&self, image_size: usize) -> Vec<String> {
        let mut problems = self.backbone.validate(image_size);
        problems.extend(self.objective.validate());
        problems.extend(self.equivariance.validate(&self.objective));
        problems
    }

    /// Settings and heads of the target network; `None` if the objective has none. The objective sees the first
    /// `features` of `all` pooled features.
    pub(super) fn target(&self, features: usize, all: usize) -> Option<(TargetConfig, Vec<TargetHead<'_>>)> {
        let (config, spec) = self.objective.settings().target()?;
        let mut heads = vec![TargetHead { name: PROJECTION_HEAD, spec, features }];
        heads.extend(self.equivariance.on().iter().filter_map(|(_, settings)| settings.target_head(all)));
        Some((config, heads))
    }
}

/// Function that builds equivariance modules in addition to those of the configuration, each with a name and a weight.
/// Their tensors belong under a scope of that name.
pub type ModuleBuilder<'a> = &'a dyn Fn(&BuildContext, &mut Scope) -> Result<Vec<NamedModule>>;

/// Parts of a method that are defined outside of this crate.
#[derive(Clone, Default)]
pub struct Extensions<'a> {
    /// Builder of the backbone for `kind = "custom"`.
    pub backbone: Option<BackboneBuilder>,
    /// Builder of additional modules.
    pub modules: Option<ModuleBuilder<'a>>,
}

impl<'a> Extensions<'a> {
    /// Extensions with a backbone alone.
    pub fn backbone(backbone: BackboneBuilder) -> Self {
        Self { backbone: Some(backbone), ..Self::default() }
    }

    /// Extensions with modules alone.
    pub fn modules(modules: ModuleBuilder<'a>) -> Self {
        Self { modules: Some(modules), ..Self::default() }
    }
}
