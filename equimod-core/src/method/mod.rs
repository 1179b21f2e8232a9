//! The trainable method: a backbone, an objective and any number of equivariance modules.

mod config;
mod leaves;
mod outcome;
mod step;

use candle_core::DType;

pub use config::{Extensions, MethodConfig, ModuleBuilder};
pub use outcome::{StepOutcome, StepValues};

use crate::backbone::{Backbone, BackboneBuilder};
use crate::build::{BuildContext, Placement};
use crate::collective::SharedCollective;
use crate::ema::TargetNetwork;
use crate::equivariance::{NamedModule, Needs};
use crate::error::listed;
use crate::execution::Execution;
use crate::objective::{Objective, ObjectiveConfig};
use crate::parameters::Parameters;
use crate::params::{ParamStore, Scope};
use crate::{Error, Result};

/// A method with its parameters: `backbone.*`, `objective.*`, `equivariance.<module>.*`.
pub struct Method {
    params: ParamStore,
    backbone: Box<dyn Backbone>,
    objective: Box<dyn Objective>,
    objective_weight: f64,
    /// Number of pooled features that the objective sees.
    objective_features: usize,
    /// Whether the objective's predictor takes the parameters from view to view.
    conditioned: bool,
    modules: Vec<NamedModule>,
    target: Option<TargetNetwork>,
    /// Settings of the computation.
    execution: Execution,
    collective: SharedCollective,
}

impl Method {
    /// Builds the method for augmentation parameter vectors with the values `parameters`.
    ///
    /// # Errors
    ///
    /// If a part of the configuration cannot be built, two modules conflict, or no term of the loss has a weight.
    pub fn new(config: &MethodConfig, parameters: &Parameters, placement: Placement) -> Result<Self> {
        Self::with_extensions(config, parameters, placement, Extensions::default())
    }

    /// As [`new`](Self::new), with a backbone defined outside of this crate. The configuration's backbone has
    /// `kind = "custom"`.
    ///
    /// # Errors
    ///
    /// As for `new`, and if the builder fails.
    pub fn with_backbone(
        config: &MethodConfig,
        parameters: &Parameters,
        placement: Placement,
        backbone: BackboneBuilder,
    ) -> Result<Self> {
        Self::with_extensions(config, parameters, placement, Extensions::backbone(backbone))
    }

    /// As [`new`](Self::new), with additional modules.
    ///
    /// # Errors
    ///
    /// As for `new`, and if the builder fails.
    pub fn with_modules(
        config: &MethodConfig,
        parameters: &Parameters,
        placement: Placement,
        modules: ModuleBuilder,
    ) -> Result<Self> {
        Self::with_extensions(config, parameters, placement, Extensions::modules(modules))
    }

    /// As [`new`](Self::new), with parts defined outside of this crate.
    ///
    /// # Errors
    ///
    /// As for `new`, and if a builder fails.
    pub fn with_extensions(
        config: &MethodConfig,
        parameters: &Parameters,
        placement: Placement,
        extensions: Extensions,
    ) -> Result<Self> {
        let placement = Placement { execution: placement.execution.on(placement.device), ..placement };
        let mut method = Self::without_target(config, parameters, &placement, &extensions)?;
        if let Some((target, heads)) = config.target(method.objective_features, method.backbone.features()) {
            let (context, custom) = (placement.backbone(), extensions.backbone.as_ref());
            let backbone = |scope: &mut Scope| config.backbone.build(&context, custom, scope);
            method.target = Some(TargetNetwork::new(target, &backbone, &heads, &placement)?);
        }
        Ok(method)
    }

    /// As [`with_extensions`](Self::with_extensions), without a target network: for evaluation only, not for training.
    ///
    /// # Errors
    ///
    /// Those of `with_extensions`.
    pub fn for_evaluation(
        config: &MethodConfig,
        parameters: &Parameters,
        placement: &Placement,
        extensions: &Extensions,
    ) -> Result<Self> {
        Self::without_target(config, parameters, placement, extensions)
    }

    fn without_target(
        config: &MethodConfig,
        parameters: &Parameters,
        placement: &Placement,
        extensions: &Extensions,
    ) -> Result<Self> {
        let Placement { seed, dtype, device, collective, execution, .. } = placement;
        let mut params = ParamStore::new(*seed, *dtype, device);
        let mut scope = params.root();
        let mut scope = scope.scope("backbone");
        let backbone = config.backbone.build(&placement.backbone(), extensions.backbone.as_ref(), &mut scope)?;
        let (features, stages) = (backbone.features(), backbone.stage_widths());
        let condition = config.equivariance.condition();
        let context = BuildContext { features, stages: &stages, parameters, collective, condition };
        let objective_features = config.equivariance.objective_features(features)?;
        let seen = BuildContext { features: objective_features, ..context };
        let settings = config.objective.settings();
        let objective = settings.build(&seen, &mut params.root().scope("objective"))?;
        let mut root = params.root();
        let mut scope = root.scope("equivariance");
        let mut modules = config.equivariance.build(&context, &mut scope)?;
        if let Some(more) = extensions.modules {
            modules.extend(more(&context, &mut scope)?);
        }
        let (objective_weight, conditioned) = (settings.weight(), condition.is_some());
        let (target, collective) = (None, collective.clone());
        fit_together(&modules)?;
        if matches!(config.objective, ObjectiveConfig::None(_)) && modules.iter().all(|m| m.weight.is_zero()) {
            return Err(Error::setting(
                "objective.kind",
                "\"none\"",
                "there is nothing to train for, because no equivariance module has a weight; turn one on, e.g. \
                 [equivariance.equimod]",
            ));
        }
        Ok(Self {
            params,
            backbone,
            objective,
            objective_weight,
            objective_features,
            conditioned,
            modules,
            target,
            execution: *execution,
            collective,
        })
    }

    /// All trainable tensors and buffers with their names.
    pub fn params(&self) -> &ParamStore {
        &self.params
    }

    /// Element type of the backbone's computation, to which a step casts its images.
    pub fn compute_dtype(&self) -> DType {
        self.execution.precision.compute(self.params.dtype())
    }

    /// The target network; `None` if the objective has none.
    pub fn target(&self) -> Option<&TargetNetwork> {
        self.target.as_ref()
    }

    /// The backbone.
    pub fn backbone(&self) -> &dyn Backbone {
        self.backbone.as_ref()
    }

    /// The enabled equivariance modules.
    pub fn modules(&self) -> &[NamedModule] {
        &self.modules
    }

    /// Inputs that objective and modules together need in a batch.
    pub fn needs(&self) -> Needs {
        let objective = Needs { pairs: self.conditioned, ..Needs::default() };
        self.modules.iter().map(|m| m.module.needs()).fold(objective, Needs::and)
    }

    /// Approximate number of floating-point operations (FLOPs = 2 × MACs) of a step on `images` images of `side`
    /// pixels; `None` if the backbone does not count its own.
    ///
    /// It covers the backbone, and linear layers as if each took both views. The backward pass counts twice the forward
    /// pass. Losses, norms and the optimizer are left out.
    pub fn flops(&self, images: usize, side: usize) -> Option<f64> {
        const FORWARD_AND_BACKWARD: f64 = 3.0;
        let needs = self.needs();
        let (views, rows) = (2 * images, if needs.clean_view { 3 * images } else { 2 * images });
        let linear = |prefix: &str, rows: usize| {
            let weights =
                self.params.trainable().filter(|(name, slot)| name.starts_with(prefix) && slot.var.rank() == 2);
            weights.map(|(_, slot)| slot.var.elem_count()).sum::<usize>() as f64 * rows as f64
        };
        let of_image = self.backbone.macs(side)?;
        let rotated = match needs.small {
            Some(small) => self.backbone.macs(small.size)? * 4.0 * images as f64,
            None => 0.0,
        };
        let backbone = of_image * rows as f64 + rotated;
        let trained = backbone + linear("objective.", views) + linear("equivariance.", views);
        // With micro-batches, every part goes forward once more for its backward pass.
        let twice = if self.execution.parts > 1 { backbone } else { 0.0 };
        let target = self.target.as_ref().map_or(0.0, |_| of_image * views as f64);
        Some(2.0 * (FORWARD_AND_BACKWARD * trained + twice + target))
    }

    /// The module called `name`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn module(&self, name: &str) -> Result<&NamedModule> {
        self.modules.iter().find(|module| module.name == name).ok_or_else(|| Error::NotFound {
            kind: "equivariance module",
            name: name.into(),
            known: format!("the method has: {}", listed(self.modules.iter().map(|module| module.name.as_str()))),
        })
    }
}

/// Checks that the modules have distinct names and can share one batch.
fn fit_together(modules: &[NamedModule]) -> Result<()> {
    for (number, one) in modules.iter().enumerate() {
        for two in &modules[number + 1..] {
            if one.name == two.name {
                return Err(Error::Duplicate { kind: "module", name: one.name.clone() });
            }
            if let Some(reason) = one.module.needs().conflict(&two.module.needs()) {
                return Err(Error::Conflict { first: one.name.clone(), second: two.name.clone(), reason });
            }
        }
    }
    Ok(())
}
