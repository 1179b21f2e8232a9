//! The target network (momentum encoder): a copy of the online network whose parameters are an exponential moving
//! average of the online ones (Grill et al., BYOL, arXiv 2006.07733; He et al., MoCo, arXiv 1911.05722).

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

/// Source of batch norm's running statistics in the target network. In training, the network always normalizes with the
/// statistics of its own batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetBuffers {
    /// Updated from the target network's own batches, as in the authors' code.
    #[default]
    Own,
    /// Copied from the online network.
    Copy,
    /// Exponential moving average of the online network's running statistics.
    Ema,
}

/// Settings of a [`TargetNetwork`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TargetConfig {
    /// τ0, the momentum of the moving average at the first step. Published: 0.996 (BYOL), 0.99 (MoCo v3).
    pub momentum: f64,
    /// Schedule of τ. Published: `cosine`.
    pub schedule: TargetMomentum,
    /// Source of batch norm's running statistics. Published: `own`.
    pub buffers: TargetBuffers,
}

impl Default for TargetConfig {
    fn default() -> Self {
        Self { momentum: 0.996, schedule: TargetMomentum::default(), buffers: TargetBuffers::default() }
    }
}

impl TargetConfig {
    /// One sentence for each invalid setting; empty if all are valid.
    pub fn validate(&self) -> Vec<String> {
        match (0.0..=1.0).contains(&self.momentum) {
            true => Vec::new(),
            false => vec![format!("objective.target.momentum is {}; give 0 to 1", self.momentum)],
        }
    }

    /// τ at a step.
    pub fn momentum_at(&self, progress: Progress) -> f64 {
        self.schedule.at(self.momentum, progress)
    }
}

/// A head of which the target network has a copy.
pub struct TargetHead<'a> {
    /// Scope of the online head, e.g. `objective.projection_head`.
    pub name: &'static str,
    /// Layers of the head.
    pub spec: &'a HeadSpec,
    /// Number of pooled features that the head takes, counted from the first.
    pub features: usize,
}

/// The target network: a backbone and heads under the parameter names of the online network.
pub struct TargetNetwork {
    config: TargetConfig,
    params: ParamStore,
    backbone: Box<dyn Backbone>,
    heads: Vec<(&'static str, Head, usize)>,
    /// Element type of the backbone's computation.
    compute: DType,
}

impl TargetNetwork {
    /// Builds the network, with the backbone that `backbone` creates in the scope it receives. It starts equal to the
    /// online network, because initial values depend only on the seed and the names.
    ///
    /// # Errors
    ///
    /// If the backbone or a head cannot be built.
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

    /// All named tensors of the network.
    pub fn params(&self) -> &ParamStore {
        &self.params
    }

    /// Updates the moving average, unless `gate` is closed: `θ_target ← τ·θ_target + (1 − τ)·θ`, with θ of the `online`
    /// network. Returns τ of this step.
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
        let (mut parameters, mut statistics) = (Vec::new(), Vec::new());
        for (name, slot) in self.params.iter() {
            let moved = if slot.role == Role::Buffer { &mut statistics } else { &mut parameters };
            if slot.role == Role::Buffer && buffers.is_none() {
                continue;
            }
            let theirs = online.get(name).ok_or_else(|| Error::NotFound {
                kind: "tensor",
                name: name.into(),
                known: "the target network can follow only a network of the same settings".into(),
            })?;
            let theirs = theirs.var.as_detached_tensor();
            match theirs.dtype().is_float() {
                true => moved.push((slot.var.clone(), theirs)),
                // Batch norm's `num_batches_tracked`, on the host, which does not wait for a flag on the device.
                false if matches!(gate, Gate::Closed) => {}
                false => slot.var.set(&theirs)?,
            }
        }
        ops::move_all_towards(&parameters, momentum, gate)?;
        if let Some(kept) = buffers {
            ops::move_all_towards(&statistics, kept, gate)?;
        }
        Ok(momentum)
    }

    /// Embeddings of both views, `[2B, width]` for each head. The batch goes through the backbone in `parts`
    /// micro-batches.
    ///
    /// # Errors
    ///
    /// If the views' shape does not fit the network, or a tensor operation fails.
    pub fn forward(&self, batch: &StepBatch, parts: usize) -> Result<Targets> {
        let mode = if self.config.buffers == TargetBuffers::Own { Mode::Train } else { Mode::TrainFrozenStats };
        let parts = micro_batches(batch, parts)?;
        let placement = ImagePlacement { device: self.params.device(), dtype: self.compute };
        let pool = |part: &MicroBatch| Ok(self.backbone.infer(&part.views(placement)?, mode)?.pooled);
        let pooled = parts.iter().map(pool).collect::<Result<Vec<_>>>()?;
        let pooled = join_rows(&pooled, &parts)?;
        let pooled = pooled.to_dtype(self.params.dtype())?;
        let embed = |(name, head, features): &(&'static str, Head, usize)| -> Result<_> {
            Ok((*name, head.forward(&pooled.narrow(1, 0, *features)?, mode)?.detach()))
        };
        let embeddings = self.heads.iter().map(embed).collect::<Result<Vec<_>>>()?;
        Ok(Targets::new(embeddings))
    }
}
