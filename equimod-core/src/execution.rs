//! Execution settings of a step.

use candle_core::{DType, Device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::has_bf16_units;
use crate::ops::ConvAlgorithms;

/// Execution settings. They change memory and speed but not the result, except for rounding; only `parts` changes the
/// statistics of batch norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Execution {
    /// Whether the backbone uses activation checkpointing (Chen et al., arXiv 1604.06174): activations inside its
    /// blocks are recomputed in the backward pass instead of saved. It takes less than half the memory for activations
    /// and more time, and gives bitwise the same result. Default: no.
    pub recompute: bool,
    /// Whether the CPU computes 3×3 convolutions with Winograd's algorithm (Lavin and Gray, arXiv 1509.09308) in f32.
    /// It takes a quarter of the MACs at stride 1 and nine sixteenths at stride 2, with a rounding error of at most
    /// 4e-6 instead of 2e-6. Default: yes.
    pub winograd: bool,
    /// Number of micro-batches in which a batch goes through the backbone (GradCache, Gao et al., arXiv 2101.06983).
    /// With more than one, memory holds the activations of only one micro-batch, and each is computed twice. Losses are
    /// over the whole batch; batch norm sees one micro-batch at a time and updates its running statistics once for
    /// each. Default: 1.
    pub parts: usize,
    /// Element type of the backbone's activations, and of the weights that it computes with. Default: `f32`.
    pub precision: Precision,
    /// Whether cuDNN's algorithms are chosen by their time on the first use of a shape, as with PyTorch's
    /// `cudnn.benchmark`, instead of by its heuristics. Another run may choose differently, so that its results differ
    /// by rounding. Without effect without cuDNN. Default: no.
    pub autotune: bool,
    /// Whether cuDNN fuses convolutions in bf16 with the batch norm and ReLU around them, for the shapes that it takes.
    /// It compiles a kernel for each shape on its first use. Without effect without cuDNN. Default: yes.
    pub fused: bool,
    /// Longest time in seconds that the ranks of a run wait for each other in an exchange, before the run ends with an
    /// error. Without effect with one rank. Default: 600.
    pub timeout: u64,
}

/// Element type of the backbone's computation. Parameters, batch-norm statistics, heads, losses and the optimizer are
/// always f32 (f64 in numerical checks), and sums are accumulated in at least f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The type of the parameters: f32, or f64 in numerical checks.
    #[default]
    F32,
    /// f32 tensors, with the factors of convolutions rounded to TF32 (11 significant bits) on an NVIDIA GPU, as is
    /// PyTorch's default; as `f32` on other devices.
    Tf32,
    /// bfloat16: activations, their gradients, and the weights of each step are rounded to 8 significant bits.
    Bf16,
    /// `bf16` on NVIDIA GPUs with compute capability 8.0 or later, else `f32`. It is chosen when a run begins, and
    /// written to `recipe.resolved.toml`, so that the run keeps it on every machine.
    Auto,
}

impl Precision {
    /// The precision that [`Auto`](Self::Auto) stands for on a device; any other stays as it is.
    pub fn on(self, device: &Device) -> Self {
        match self {
            Self::Auto if has_bf16_units(device) => Self::Bf16,
            Self::Auto => Self::F32,
            chosen => chosen,
        }
    }

    /// Element type of the backbone's activations for parameters of type `params`. [`Auto`](Self::Auto) counts as f32
    /// until a [device](Self::on) is known.
    pub fn compute(self, params: DType) -> DType {
        match self {
            Self::F32 | Self::Tf32 | Self::Auto => params,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl Execution {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        recompute: false,
        winograd: true,
        parts: 1,
        precision: Precision::F32,
        autotune: false,
        fused: true,
        timeout: 600,
    };

    /// The settings with the [precision for a device](Precision::on).
    pub fn on(self, device: &Device) -> Self {
        Self { precision: self.precision.on(device), ..self }
    }

    /// Algorithms that convolutions may use.
    pub fn algorithms(&self) -> ConvAlgorithms {
        ConvAlgorithms {
            winograd: self.winograd,
            tf32: self.precision == Precision::Tf32,
            autotune: self.autotune,
            fused: self.fused,
        }
    }

    /// One sentence for each invalid setting; empty if all are valid.
    pub fn validate(&self) -> Vec<String> {
        let least_one = [("parts", self.parts as u64), ("timeout", self.timeout)].into_iter();
        least_one
            .filter(|(_, value)| *value == 0)
            .map(|(name, _)| format!("execution.{name} is 0; give at least 1"))
            .collect()
    }
}

impl Default for Execution {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_decides_on_an_automatic_precision_alone() {
        let (auto, text) = (Precision::Auto, r#""auto""#);
        assert_eq!(
            (serde_json::from_str::<Precision>(text).unwrap(), serde_json::to_string(&auto).unwrap()),
            (auto, text.into())
        );
        assert_eq!(Execution { precision: auto, parts: 3, ..Execution::default() }.on(&Device::Cpu).parts, 3);
        assert_eq!(auto.on(&Device::Cpu), Precision::F32);
        for chosen in [Precision::F32, Precision::Tf32, Precision::Bf16] {
            assert_eq!(chosen.on(&Device::Cpu), chosen);
        }
    }
}
