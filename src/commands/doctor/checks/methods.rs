//! Whole training steps: loss and norm of the gradient.

use candle_core::{DType, Tensor};
use equimod_core::{
    Execution, Method, MethodConfig, Parameters, Placement, Precision, Progress, ResNetConfig, SingleProcess, Stem,
    StepBatch,
};

use super::place::{Place, values, vector};
use super::{Part, Tolerance};
use crate::run::measured_method::{PARAMETERS, byol_with_equimod, simclr_with_equimod};

const IMAGES: usize = 8;
const SIDE: usize = 32;
const WIDTH: usize = 8;
const HIDDEN: usize = 64;

const LOSS: Tolerance = Tolerance { f32: 1e-5, bf16: 2e-2 };
const GRADIENT: Tolerance = Tolerance { f32: 1e-4, bf16: 1e-1 };

/// A step of SimCLR + EquiMod with the CIFAR stem, and one of BYOL + EquiMod with the ImageNet stem.
pub fn parts(place: &Place) -> anyhow::Result<Vec<Part>> {
    let backbone = |stem| ResNetConfig { stem, width: WIDTH, ..Default::default() };
    let methods = [
        ("SimCLR + EquiMod", simclr_with_equimod(backbone(Stem::Cifar), HIDDEN)),
        ("BYOL + EquiMod", byol_with_equimod(backbone(Stem::ImageNet), HIDDEN)),
    ];
    let mut parts = Vec::new();
    for (name, config) in methods {
        let [loss, norm] = step(&config, place)?;
        parts.push(Part::new(format!("step of {name}: loss"), loss, LOSS));
        parts.push(Part::new(format!("step of {name}: norm of the gradient"), norm, GRADIENT));
    }
    Ok(parts)
}

/// Loss and norm of the gradient. Parameters and images are f32, also where the backbone computes in bf16.
fn step(config: &MethodConfig, place: &Place) -> anyhow::Result<[Tensor; 2]> {
    let dtype = if place.dtype == DType::BF16 { DType::F32 } else { place.dtype };
    let precision = if place.dtype == DType::BF16 { Precision::Bf16 } else { Precision::F32 };
    let device = place.device;
    let placement = Placement {
        seed: 0,
        dtype,
        device,
        image_size: SIDE,
        collective: SingleProcess::shared(),
        execution: Execution { precision, ..Execution::default() },
    };
    let method = Method::new(config, &Parameters::of_views(PARAMETERS), placement)?;
    let inputs = Place { device, dtype, inputs: DType::F32 };
    let images = |seed| inputs.values(&[IMAGES, 3, SIDE, SIDE], seed);
    let batch = StepBatch {
        clean: Some(images(1)?),
        params: Some(inputs.put(&values(&[2 * IMAGES, PARAMETERS], 4)?)?),
        ..StepBatch::of_views([images(2)?, images(3)?])
    };
    let outcome = method.step(&batch, Progress { step: 1, total: 4 })?;
    let mut squares = 0.0;
    for (_, gradient) in outcome.gradients.iter() {
        squares += vector(gradient)?.into_iter().map(|value| value * value).sum::<f64>();
    }
    Ok([outcome.loss, Tensor::new(squares.sqrt(), &candle_core::Device::Cpu)?])
}
