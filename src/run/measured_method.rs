//! The methods of benchmarks and checks.

use equimod_core::equivariance::EquiModConfig;
use equimod_core::head::Ending;
use equimod_core::objective::{ByolConfig, SimClrConfig};
use equimod_core::{BackboneConfig, EquivarianceConfig, HeadSpec, MethodConfig, ObjectiveConfig, ResNetConfig};

/// Width of the parameter vectors, as in the published encoding of SimCLR on CIFAR-10.
pub const PARAMETERS: usize = 15;

/// SimCLR + EquiMod, with `hidden` values in the hidden layers of both projection heads.
pub fn simclr_with_equimod(backbone: ResNetConfig, hidden: usize) -> MethodConfig {
    let projection_head = embedding(hidden);
    with_equimod(backbone, hidden, ObjectiveConfig::SimClr(SimClrConfig { projection_head, ..Default::default() }))
}

/// BYOL + EquiMod, with `hidden` values in the hidden layers of all heads.
pub fn byol_with_equimod(backbone: ResNetConfig, hidden: usize) -> MethodConfig {
    let head = HeadSpec { widths: vec![hidden, 128], ending: Ending::Bias };
    let byol = ByolConfig { projection_head: head.clone(), predictor: head, ..Default::default() };
    with_equimod(backbone, hidden, ObjectiveConfig::Byol(byol))
}

fn with_equimod(backbone: ResNetConfig, hidden: usize, objective: ObjectiveConfig) -> MethodConfig {
    let equimod = EquiModConfig { projection_head: embedding(hidden), ..Default::default() };
    MethodConfig {
        backbone: BackboneConfig::ResNet(backbone),
        objective,
        equivariance: EquivarianceConfig { equimod: Some(equimod), ..Default::default() },
    }
}

fn embedding(hidden: usize) -> HeadSpec {
    HeadSpec { widths: vec![hidden, hidden, 128], ending: Ending::PlainBatchNorm }
}
