//! The trainable method: a backbone, an objective and any number of equivariance modules.

use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::backbone::{Backbone, BackboneBuilder, BackboneConfig};
use crate::buckets::Buckets;
use crate::build::{BuildContext, Placement};
use crate::collective::SharedCollective;
use crate::ema::{TargetConfig, TargetHead, TargetNetwork};
use crate::equivariance::{EquivarianceConfig, NamedModule, Needs};
use crate::error::listed;
use crate::execution::Execution;
use crate::nn::Mode;
use crate::objective::{Objective, ObjectiveConfig, PROJECTION_HEAD};
use crate::ops::Gate;
use crate::optim::{Progress, Weight};
use crate::parameters::Parameters;
use crate::params::{GradientSink, Gradients, ParamStore, Scope};
use crate::passes::{ImagePlacement, PassFeatures, Passes};
use crate::step::{Metrics, StepBatch, StepContext, StepTimes, Targets, Term, known};
use crate::tape::{FeatureGradients, differentiate};
use crate::{Error, Result, host};

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
    fn target(&self, features: usize, all: usize) -> Option<(TargetConfig, Vec<TargetHead<'_>>)> {
        let (config, spec) = self.objective.settings().target()?;
        let mut heads = vec![TargetHead { name: PROJECTION_HEAD, spec, features }];
        heads.extend(self.equivariance.on().iter().filter_map(|(_, settings)| settings.target_head(all)));
        Some((config, heads))
    }
}

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

/// Loss, metrics and gradients of one step, before the optimizer step. All of them stay on the device.
pub struct StepOutcome {
    /// The loss of the whole batch, a scalar.
    pub loss: Tensor,
    /// Named scalars: loss terms, equivariance, the target network's momentum, spread of the embeddings.
    pub metrics: Metrics,
    /// Gradient of every trainable tensor, summed over processes.
    pub gradients: Gradients,
    /// Wall-clock time of each part of the step.
    pub times: StepTimes,
}

/// Loss and metrics of a step as numbers on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct StepValues {
    /// The loss of the whole batch.
    pub loss: f64,
    /// The metrics with their names.
    pub metrics: Vec<(String, f64)>,
}

impl StepValues {
    /// Value of the metric `name`; `None` if there is none.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
}

impl StepOutcome {
    /// Transfers loss and metrics from the device, all at once.
    ///
    /// # Errors
    ///
    /// If the transfer fails.
    pub fn read(&self) -> Result<StepValues> {
        let scalars = self.metrics.iter().map(|(_, scalar)| scalar);
        let values = host::read(&std::iter::once(&self.loss).chain(scalars).collect::<Vec<_>>())?;
        let names = self.metrics.iter().map(|(name, _)| name.clone());
        let metrics = names.zip(values.iter().skip(1).copied()).collect();
        Ok(StepValues { loss: values[0], metrics })
    }
}

/// Inputs of losses and heads other than the features.
struct HeadInputs<'a> {
    batch: &'a StepBatch,
    targets: Option<&'a Targets>,
    mode: Mode,
}

/// Results of losses and heads, a part of [`StepOutcome`].
struct HeadsOutcome {
    loss: Tensor,
    metrics: Metrics,
    gradients: Gradients,
    times: StepTimes,
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

    /// Loss `λ_inv · invariance + Σ λ · equivariance` of a batch, and its gradients. First the target network is
    /// updated; the forward pass updates the running statistics.
    ///
    /// candle differentiates losses and heads down to the features; the tape propagates those gradients through the
    /// backbone.
    ///
    /// # Errors
    ///
    /// If the batch lacks an input that the objective or a module needs, or a tensor operation fails.
    pub fn step(&self, batch: &StepBatch, progress: Progress) -> Result<StepOutcome> {
        self.gated_step(batch, progress, &Gate::Open)
    }

    /// As [`step`](Self::step), but the target network is updated only if `gate` is open.
    ///
    /// # Errors
    ///
    /// Those of `step`.
    pub fn gated_step(&self, batch: &StepBatch, progress: Progress, gate: &Gate) -> Result<StepOutcome> {
        let follow = |target: &TargetNetwork| target.follow(&self.params, progress, gate);
        let momentum = self.target.as_ref().map(follow).transpose()?;
        let mut outcome = self.gradients(batch, progress, Mode::Train)?;
        if let Some(momentum) = momentum {
            outcome.metrics.push(("target_momentum".to_owned(), known(momentum)?));
        }
        Ok(outcome)
    }

    /// As [`step`](Self::step), without the update of the target network. `mode` is the mode of the backbone and the
    /// heads.
    ///
    /// # Errors
    ///
    /// Those of `step`.
    pub fn gradients(&self, batch: &StepBatch, progress: Progress, mode: Mode) -> Result<StepOutcome> {
        let start = Instant::now();
        let (needs, device) = (self.needs(), self.params.device());
        let (backbone, parts) = (self.backbone.as_ref(), self.execution.parts);
        let targets = self.target.as_ref().map(|target| target.forward(batch, parts)).transpose()?;
        let placement = ImagePlacement { device, dtype: self.compute_dtype() };
        let passes = Passes { backbone, placement, parts, tapped: &needs.stages, mode };
        let (features, saved) = tracing::trace_span!("backbone forward").in_scope(|| passes.forward(batch))?;
        let backbone_forward = start.elapsed();
        let inputs = HeadInputs { batch, targets: targets.as_ref(), mode };
        let (HeadsOutcome { loss, metrics, gradients: heads, mut times }, features) =
            self.heads(&inputs, progress, features)?;
        times.backbone_forward = backbone_forward;
        let start = Instant::now();
        let mut buckets = Buckets::new(self.collective.as_ref());
        let of_backbone = hand_over_heads(heads, &mut buckets)?;
        let backward = tracing::trace_span!("backbone backward");
        backward.in_scope(|| passes.backward(saved, features, of_backbone, &mut buckets))?;
        let gradients = buckets.finish()?;
        times.backbone_backward = start.elapsed();
        Ok(StepOutcome { loss, metrics, gradients, times })
    }

    /// Forward and backward pass of losses and heads, down to the features of each pass.
    fn heads(
        &self,
        &HeadInputs { batch, targets: target, mode }: &HeadInputs,
        progress: Progress,
        passes: Vec<PassFeatures>,
    ) -> Result<(HeadsOutcome, Vec<FeatureGradients>)> {
        let mut times = StepTimes::default();
        let start = Instant::now();
        let leaves =
            passes.into_iter().map(|pass| Leaves::new(pass, self.params.dtype())).collect::<Result<Vec<_>>>()?;
        let Some((first, others)) = leaves.split_first() else {
            return Err(Error::internal("a step has no features"));
        };
        let stages = first.stages();
        let rotated = others.first().map(|leaves| leaves.pooled.as_tensor().clone());
        let (loss, metrics) = self.loss(
            &StepContext {
                pooled: &first.pooled,
                stages: &stages,
                has_clean: batch.clean.is_some(),
                rotated: rotated.as_ref(),
                params: batch.params.as_ref(),
                pairs: batch.pairs.as_ref(),
                target,
                mode,
                collective: &self.collective,
            },
            progress,
        )?;
        drop(stages);
        times.heads_forward = start.elapsed();
        let start = Instant::now();
        let backward = tracing::trace_span!("heads backward");
        let named = self.params.trainable().map(|(name, slot)| (name, &slot.var));
        let (gradients, mut store) = backward.in_scope(|| differentiate(&loss, named))?;
        let features = leaves.into_iter().map(|leaves| leaves.gradients(&mut store)).collect::<Result<Vec<_>>>()?;
        times.heads_backward = start.elapsed();
        Ok((HeadsOutcome { loss: loss.detach(), metrics, gradients, times }, features))
    }

    /// Weighted sum of all terms, a scalar, and the metrics.
    fn loss(&self, step: &StepContext, progress: Progress) -> Result<(Tensor, Metrics)> {
        let term = self.invariance(step)?;
        let mut metrics = vec![("invariance_loss".to_owned(), term.loss.detach())];
        metrics.extend(term.metrics);
        let mut loss = (term.loss * self.objective_weight)?;
        for NamedModule { name, weight, module } in &self.modules {
            let term = module.forward(step)?;
            metrics.push((format!("{name}.loss"), term.loss.detach()));
            if let Weight::Line { .. } = weight {
                metrics.push((format!("{name}.weight"), known(weight.at(progress))?));
            }
            metrics.extend(term.metrics.into_iter().map(|(metric, value)| (format!("{name}.{metric}"), value)));
            loss = (loss + (term.loss * weight.at(progress))?)?;
        }
        Ok((loss, metrics))
    }

    /// The objective's term on the features that it sees.
    fn invariance(&self, step: &StepContext) -> Result<Term> {
        if self.objective_features == step.pooled.dim(1)? {
            return self.objective.forward(step);
        }
        let pooled = step.pooled.narrow(1, 0, self.objective_features)?;
        self.objective.forward(&StepContext { pooled: &pooled, ..*step })
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

/// Passes the gradients of losses and heads to `sink`. Returns those of the backbone's own parameters, to which its
/// backward pass adds: there are some if a loss uses such a parameter directly.
fn hand_over_heads(gradients: Gradients, sink: &mut dyn GradientSink) -> Result<Gradients> {
    let (mut of_backbone, mut of_heads) = (Gradients::default(), Gradients::default());
    for (name, gradient) in gradients {
        let part = if name.starts_with("backbone.") { &mut of_backbone } else { &mut of_heads };
        part.insert(&name, gradient)?;
    }
    of_heads.hand_over(sink)?;
    Ok(of_backbone)
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

/// Features of a pass as leaf variables of the parameters' type, at which candle's backward pass ends.
struct Leaves {
    /// Element type of the backbone's features.
    compute: DType,
    pooled: Var,
    /// Outputs of the tapped stages.
    stages: Vec<Option<Var>>,
}

impl Leaves {
    fn new(PassFeatures { pooled, stages }: PassFeatures, params: DType) -> Result<Self> {
        let leaf = |xs: &Tensor| -> Result<Var> { Ok(Var::from_tensor(&xs.to_dtype(params)?)?) };
        let stages = stages.iter().map(|stage| stage.as_ref().map(leaf).transpose()).collect::<Result<_>>()?;
        Ok(Self { compute: pooled.dtype(), pooled: leaf(&pooled)?, stages })
    }

    /// Outputs of the tapped stages as tensors, for losses and heads.
    fn stages(&self) -> Vec<Option<Tensor>> {
        self.stages.iter().map(|stage| stage.as_ref().map(|stage| stage.as_tensor().clone())).collect()
    }

    fn gradients(self, store: &mut GradStore) -> Result<FeatureGradients> {
        let mut of = |leaf: &Var| {
            store.remove(leaf.as_tensor()).map(|gradient| gradient.contiguous()?.to_dtype(self.compute)).transpose()
        };
        let pooled = of(&self.pooled)?;
        let stages = self.stages.iter().map(|stage| Ok(stage.as_ref().map(&mut of).transpose()?.flatten()));
        Ok(FeatureGradients { pooled, stages: stages.collect::<Result<_>>()? })
    }
}
