//! Boundary between the backbone's own backward pass and candle's.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

use crate::Result;
use crate::passes::PassFeatures;
use crate::tape::FeatureGradients;

/// Features of a pass as leaf variables of the parameters' type, at which candle's backward pass ends.
pub(super) struct Leaves {
    /// Element type of the backbone's features.
    compute: DType,
    pub pooled: Var,
    /// Outputs of the tapped stages.
    stages: Vec<Option<Var>>,
}

impl Leaves {
    pub fn new(PassFeatures { pooled, stages }: PassFeatures, params: DType) -> Result<Self> {
        let leaf = |xs: &Tensor| -> Result<Var> { Ok(Var::from_tensor(&xs.to_dtype(params)?)?) };
        let stages = stages.iter().map(|stage| stage.as_ref().map(leaf).transpose()).collect::<Result<_>>()?;
        Ok(Self { compute: pooled.dtype(), pooled: leaf(&pooled)?, stages })
    }

    /// Outputs of the tapped stages as tensors, for losses and heads.
    pub fn stages(&self) -> Vec<Option<Tensor>> {
        self.stages.iter().map(|stage| stage.as_ref().map(|stage| stage.as_tensor().clone())).collect()
    }

    pub fn gradients(self, store: &mut GradStore) -> Result<FeatureGradients> {
        let mut of = |leaf: &Var| {
            store.remove(leaf.as_tensor()).map(|gradient| gradient.contiguous()?.to_dtype(self.compute)).transpose()
        };
        let pooled = of(&self.pooled)?;
        let stages = self.stages.iter().map(|stage| Ok(stage.as_ref().map(&mut of).transpose()?.flatten()));
        Ok(FeatureGradients { pooled, stages: stages.collect::<Result<_>>()? })
    }
}
