//! How the work of a step is done.

use candle_core::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ways to the same result, bit for bit or but for rounding; `parts` alone changes what batch norm sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Execution {
    /// Whether the backbone uses activation checkpointing (Chen et al., arXiv 1604.06174): activations inside of its
    /// blocks are recomputed in the backward pass and not saved. Less than half the memory for activations, more time,
    /// the same result bit for bit. Default: no.
    pub recompute: bool,
    /// Whether the CPU convolves 3×3 windows by Winograd's algorithm (Lavin and Gray, arXiv 1509.09308) in f32: a
    /// quarter of the MACs at stride 1, nine sixteenths at stride 2, and a rounding error of at most 4e-6 instead of
    /// 2e-6. Default: yes.
    pub winograd: bool,
    /// Parts in which a batch goes through the backbone: with more than one the activations of a part are all that
    /// memory has to hold, and every part is computed twice (Gao et al., arXiv 2101.06983). Losses are over the whole
    /// batch; batch norm sees a part at a time, and its running statistics move once a part. Default: 1.
    pub parts: usize,
    /// Element type of the backbone's activations, and of the weights that it computes with. Default: `f32`.
    pub precision: Precision,
}

/// Element type of the backbone's computation. Parameters, batch-norm statistics, heads, losses and the optimizer are f32
/// (f64 in proofs) in any case, and sums are accumulated in at least f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The parameters' own type: f32, or f64 in proofs.
    #[default]
    F32,
    /// bfloat16: activations, their gradients, and the weights of each step are rounded to 8 significant bits.
    Bf16,
}

impl Precision {
    /// Element type of the backbone's activations for parameters of type `params`.
    pub fn compute(self, params: DType) -> DType {
        match self {
            Self::F32 => params,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl Execution {
    /// Every problem of the configuration.
    pub fn validate(&self) -> Vec<String> {
        match self.parts {
            0 => vec!["execution.parts is 0; give at least 1".into()],
            _ => Vec::new(),
        }
    }
}

impl Default for Execution {
    fn default() -> Self {
        Self { recompute: false, winograd: true, parts: 1, precision: Precision::F32 }
    }
}
