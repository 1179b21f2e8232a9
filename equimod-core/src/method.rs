//! What is trained: a backbone, an objective and any number of equivariance modules.

use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::backbone::{Backbone, BackboneConfig};
use crate::collective::SharedCollective;
use crate::equivariance::{EquivarianceConfig, NamedModule, Needs};
use crate::execution::Execution;
use crate::nn::{Mode, collecting};
use crate::objective::{Objective, ObjectiveConfig};
use crate::params::ParamStore;
use crate::step::{Metrics, StepBatch, StepContext, StepTimes, scalar};
use crate::tape::{FeatureGradients, Features, Gradients};
use crate::{Error, Result};

/// The parts of a method and their settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodConfig {
    /// From images to features.
    pub backbone: BackboneConfig,
    /// What pulls views together.
    pub objective: ObjectiveConfig,
    /// What keeps the effect of augmentations.
    #[serde(default)]
    pub equivariance: EquivarianceConfig,
}

impl MethodConfig {
    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.backbone.0.validate();
        problems.extend(self.objective.validate());
        problems.extend(self.equivariance.validate());
        problems
    }
}

/// A built method with its parameters: `backbone.*`, `objective.*`, `equivariance.<module>.*`.
pub struct Method {
    params: ParamStore,
    backbone: Box<dyn Backbone>,
    objective: Box<dyn Objective>,
    objective_weight: f64,
    modules: Vec<NamedModule>,
    collective: SharedCollective,
}

/// Where and how to build a [`Method`].
pub struct Placement<'a> {
    /// Decides the initial weights.
    pub seed: u64,
    /// f32, or f64 for proofs.
    pub dtype: DType,
    /// Where the tensors live.
    pub device: &'a Device,
    /// The processes that train together.
    pub collective: SharedCollective,
    /// How the work is done.
    pub execution: Execution,
}

/// What one step found, before anything is changed.
pub struct StepOutcome {
    /// The loss of the whole batch.
    pub loss: f64,
    /// Named scalars: loss terms, equivariance.
    pub metrics: Metrics,
    /// Gradients of every trained tensor, summed over processes.
    pub gradients: Gradients,
    /// Where the time went.
    pub times: StepTimes,
}

/// What losses and heads give: their part of a [`StepOutcome`].
struct HeadsOutcome {
    loss: f64,
    metrics: Metrics,
    gradients: Vec<(String, Tensor)>,
    times: StepTimes,
}

impl Method {
    /// Builds the method for parameter vectors of width `parameters`.
    pub fn new(config: &MethodConfig, parameters: usize, placement: Placement) -> Result<Self> {
        let Placement { seed, dtype, device, collective, execution } = placement;
        let mut params = ParamStore::new(seed, dtype, device);
        let backbone = config.backbone.build(execution, &collective, &mut params.root().scope("backbone"))?;
        let features = backbone.features();
        let objective = config.objective.build(features, &collective, &mut params.root().scope("objective"))?;
        let mut root = params.root();
        let mut scope = root.scope("equivariance");
        let modules = config.equivariance.build(features, parameters, &collective, &mut scope)?;
        Ok(Self { params, backbone, objective, objective_weight: config.objective.weight(), modules, collective })
    }

    /// All named tensors.
    pub fn params(&self) -> &ParamStore {
        &self.params
    }

    /// The backbone.
    pub fn backbone(&self) -> &dyn Backbone {
        self.backbone.as_ref()
    }

    /// The equivariance modules that are on.
    pub fn modules(&self) -> &[NamedModule] {
        &self.modules
    }

    /// What the modules together need in a batch.
    pub fn needs(&self) -> Needs {
        self.modules.iter().map(|m| m.module.needs()).fold(Needs::default(), |a, b| Needs {
            clean_view: a.clean_view || b.clean_view,
            parameters: a.parameters || b.parameters,
        })
    }

    /// `loss = λ_inv · invariance + Σ λ · equivariance` of a batch and its gradients; running statistics are updated.
    ///
    /// candle differentiates losses and heads down to the features; the tape carries those gradients through the
    /// backbone.
    pub fn step(&self, batch: &StepBatch) -> Result<StepOutcome> {
        let start = Instant::now();
        let (features, tape) = self.backbone.forward(&batch.images()?, Mode::Train)?;
        let backbone_forward = start.elapsed();
        let (outcome, features) = self.heads(batch, features)?;
        let HeadsOutcome { loss, metrics, gradients: heads, mut times } = outcome;
        times.backbone_forward = backbone_forward;
        let start = Instant::now();
        let mut gradients = tape.backward(features)?;
        times.backbone_backward = start.elapsed();
        for (name, gradient) in heads {
            gradients.insert(&name, gradient)?;
        }
        Ok(StepOutcome { loss, metrics, gradients: self.reduced(gradients)?, times })
    }

    /// Losses and heads, forward and back to the features.
    fn heads(&self, batch: &StepBatch, features: Features) -> Result<(HeadsOutcome, FeatureGradients)> {
        let mut times = StepTimes::default();
        let start = Instant::now();
        let leaf = Var::from_tensor(&features.pooled)?;
        let (loss, metrics) = self.loss(&StepContext {
            features: &Features { pooled: leaf.as_tensor().clone(), stages: features.stages },
            has_clean: batch.clean.is_some(),
            params: batch.params.as_ref(),
            mode: Mode::Train,
            collective: &self.collective,
        })?;
        times.heads_forward = start.elapsed();
        let start = Instant::now();
        let (mut store, mut collected) = collecting(|| loss.backward())?;
        let mut gradients = Vec::new();
        for (name, slot) in self.params.trainable() {
            let gradient = match (store.remove(slot.var.as_tensor()), collected.remove(&slot.var.id())) {
                (Some(a), Some(b)) => Some((a + b)?),
                (a, b) => a.or(b),
            };
            gradients.extend(gradient.map(|gradient| (name.to_owned(), gradient)));
        }
        let pooled = store.remove(leaf.as_tensor()).map(|g| g.contiguous()).transpose()?;
        times.heads_backward = start.elapsed();
        let outcome = HeadsOutcome { loss: scalar(&loss)?, metrics, gradients, times };
        Ok((outcome, FeatureGradients { pooled, stages: Vec::new() }))
    }

    /// The weighted sum of all terms and what to log.
    fn loss(&self, step: &StepContext) -> Result<(Tensor, Metrics)> {
        let term = self.objective.forward(step)?;
        let mut metrics = vec![("invariance_loss".to_owned(), scalar(&term.loss)?)];
        metrics.extend(term.metrics);
        let mut loss = (term.loss * self.objective_weight)?;
        for NamedModule { name, weight, module } in &self.modules {
            let term = module.forward(step)?;
            metrics.push((format!("{name}.loss"), scalar(&term.loss)?));
            metrics.extend(term.metrics.into_iter().map(|(metric, value)| (format!("{name}.{metric}"), value)));
            loss = (loss + (term.loss * *weight)?)?;
        }
        Ok((loss, metrics))
    }

    fn reduced(&self, gradients: Gradients) -> Result<Gradients> {
        if self.collective.size() == 1 {
            return Ok(gradients);
        }
        let mut reduced = Gradients::default();
        for (name, gradient) in gradients.iter() {
            reduced.insert(name, self.collective.all_reduce_sum(gradient)?)?;
        }
        Ok(reduced)
    }

    /// The module called `name`.
    pub fn module(&self, name: &str) -> Result<&NamedModule> {
        self.modules
            .iter()
            .find(|module| module.name == name)
            .ok_or_else(|| Error::Config(format!("the method has no equivariance module called {name}")))
    }
}
