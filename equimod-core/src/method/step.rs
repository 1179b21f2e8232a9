//! One step of a method: forward pass, losses and backward pass.

use std::time::Instant;

use candle_core::Tensor;

use super::leaves::Leaves;
use super::{Method, StepOutcome};
use crate::buckets::Buckets;
use crate::ema::TargetNetwork;
use crate::equivariance::NamedModule;
use crate::nn::Mode;
use crate::ops::Gate;
use crate::optim::{Progress, Weight};
use crate::params::{GradientSink, Gradients};
use crate::passes::{ImagePlacement, PassFeatures, Passes};
use crate::step::{Metrics, StepBatch, StepContext, StepTimes, Targets, Term, known};
use crate::tape::{FeatureGradients, differentiate};
use crate::{Error, Result};

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

impl Method {
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
