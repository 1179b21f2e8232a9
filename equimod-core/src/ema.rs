//! The target network: a second network whose parameters are a moving average of the trained one's (Grill et al., BYOL,
//! arXiv 2006.07733; He et al., MoCo, arXiv 1911.05722).

use candle_core::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backbone::Backbone;
use crate::build::Placement;
use crate::head::{Head, HeadSpec};
use crate::nn::Mode;
use crate::ops::{self, Gate};
use crate::optim::{Progress, TargetMomentum};
use crate::params::{ParamStore, Role, Scope};
use crate::passes::{ImagePlacement, MicroBatch, join_rows, micro_batches};
use crate::step::{StepBatch, Targets};
use crate::{Error, Result};

/// What becomes of batch norm's running statistics in the target network. It normalises with the statistics of its own
/// batch in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetBuffers {
    /// Moved by its own batches, as in the authors' code.
    #[default]
    Own,
    /// Those of the trained network.
    Copy,
    /// Their moving average.
    Ema,
}

/// Settings of a [`TargetNetwork`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TargetConfig {
    /// τ0, the momentum at the first step. Published: 0.996 (BYOL), 0.99 (MoCo v3).
    pub momentum: f64,
    /// How τ goes on. Published: `cosine`.
    pub schedule: TargetMomentum,
    /// Running statistics. Published: `own`.
    pub buffers: TargetBuffers,
}

impl Default for TargetConfig {
    fn default() -> Self {
        Self { momentum: 0.996, schedule: TargetMomentum::default(), buffers: TargetBuffers::default() }
    }
}

impl TargetConfig {
    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        match (0.0..=1.0).contains(&self.momentum) {
            true => Vec::new(),
            false => vec![format!("the target network's momentum is {}; give 0 to 1", self.momentum)],
        }
    }

    /// τ at a step.
    pub fn momentum_at(&self, progress: Progress) -> f64 {
        self.schedule.at(self.momentum, progress)
    }
}

/// A head that the target network has a copy of.
pub struct TargetHead<'a> {
    /// The scope of the trained head, e.g. `objective.projection_head`.
    pub name: &'static str,
    /// Its layers.
    pub spec: &'a HeadSpec,
    /// How many of the pooled features it takes, from the first on.
    pub features: usize,
}

/// A backbone and heads under the names of those that are trained.
pub struct TargetNetwork {
    config: TargetConfig,
    params: ParamStore,
    backbone: Box<dyn Backbone>,
    heads: Vec<(&'static str, Head, usize)>,
    /// Element type of the backbone's computation.
    compute: DType,
}

impl TargetNetwork {
    /// Builds the network, its backbone in the scope that `backbone` gets. It begins equal to the trained one, since
    /// initial values depend on the seed and on names alone.
    pub fn new(
        config: TargetConfig,
        backbone: &dyn Fn(&mut Scope) -> Result<Box<dyn Backbone>>,
        heads: &[TargetHead],
        placement: &Placement,
    ) -> Result<Self> {
        let Placement { seed, dtype, device, ref collective, execution, .. } = *placement;
        let mut params = ParamStore::new(seed, dtype, device);
        let backbone = backbone(&mut params.root().scope("backbone"))?;
        let head = |&TargetHead { name, spec, features }: &TargetHead| -> Result<_> {
            Ok((name, Head::new(spec, features, collective, &mut params.root().scope(name))?, features))
        };
        let heads = heads.iter().map(head).collect::<Result<Vec<_>>>()?;
        Ok(Self { config, params, backbone, heads, compute: execution.precision.compute(dtype) })
    }

    /// All named tensors.
    pub fn params(&self) -> &ParamStore {
        &self.params
    }

    /// Moves towards `online`, unless `gate` is closed: `θ_target ← τ·θ_target + (1 − τ)·θ` with τ of this step, which is
    /// returned.
    ///
    /// # Errors
    ///
    /// If `online` lacks a tensor of this network, or a tensor operation fails.
    pub fn follow(&self, online: &ParamStore, progress: Progress, gate: &Gate) -> Result<f64> {
        let momentum = self.config.momentum_at(progress);
        let buffers = match self.config.buffers {
            TargetBuffers::Own => None,
            TargetBuffers::Copy => Some(0.0),
            TargetBuffers::Ema => Some(momentum),
        };
        for (name, slot) in self.params.iter() {
            let kept = if slot.role == Role::Buffer { buffers } else { Some(momentum) };
            let Some(kept) = kept else { continue };
            let theirs = online.get(name).ok_or_else(|| Error::NotFound {
                kind: "tensor",
                name: name.into(),
                known: "the target network can follow only a network of the same settings".into(),
            })?;
            let theirs = theirs.var.as_detached_tensor();
            gate.apply(&[&slot.var], || match theirs.dtype().is_float() {
                true => ops::move_towards(&slot.var, &theirs, kept),
                // Counts of batches.
                false => slot.var.set(&theirs),
            })?;
        }
        Ok(momentum)
    }

    /// The embeddings of both views, which go through the backbone in `parts` parts.
    pub fn forward(&self, batch: &StepBatch, parts: usize) -> Result<Targets> {
        let mode = if self.config.buffers == TargetBuffers::Own { Mode::Train } else { Mode::TrainFrozenStats };
        let parts = micro_batches(batch, parts)?;
        let placement = ImagePlacement { device: self.params.device(), dtype: self.compute };
        let pool = |part: &MicroBatch| Ok(self.backbone.infer(&part.views(placement)?, mode)?.pooled);
        let pooled = parts.iter().map(pool).collect::<Result<Vec<_>>>()?;
        let pooled = join_rows(&pooled, &parts.iter().map(MicroBatch::pictures).collect::<Vec<_>>())?;
        let pooled = pooled.to_dtype(self.params.dtype())?;
        let embed = |(name, head, features): &(&'static str, Head, usize)| -> Result<_> {
            Ok((*name, head.forward(&pooled.narrow(1, 0, *features)?, mode)?.detach()))
        };
        let embeddings = self.heads.iter().map(embed).collect::<Result<Vec<_>>>()?;
        Ok(Targets::new(embeddings))
    }
}
