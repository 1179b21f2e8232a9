//! Optimizer steps and the target network's moving average.

use candle_core::{Result, Tensor, Var};
use equimod_core::ops::{Gate, move_all_towards, squared_norm};
use equimod_core::optim::{AdamWConfig, LarsConfig, SgdConfig};
use equimod_core::params::{Gradients, Init, Role};
use equimod_core::{Optimizer, OptimizerConfig, ParamStore};

use super::place::{Place, values};
use super::{Part, SUM};

const SHAPE: [usize; 4] = [37, 16, 3, 3];
const STEPS: u64 = 3;

/// Three steps of each optimizer, the norm of a gradient, and the moving average.
pub fn parts(place: &Place) -> anyhow::Result<Vec<Part>> {
    let decay = 0.01;
    let optimizers = [
        (
            "LARS",
            OptimizerConfig::Lars(LarsConfig { weight_decay: decay, trust_coefficient: 0.1, ..Default::default() }),
        ),
        ("SGD", OptimizerConfig::Sgd(SgdConfig { weight_decay: decay, ..Default::default() })),
        ("AdamW", OptimizerConfig::AdamW(AdamWConfig::default())),
    ];
    let mut parts = Vec::new();
    for (name, config) in optimizers {
        let (moved, state) = steps(config.build().as_mut(), place)?;
        parts.push(Part::new(format!("{name}, {STEPS} steps: weight"), moved, SUM));
        parts.push(Part::new(format!("{name}, {STEPS} steps: state"), state, SUM));
    }
    let norm = squared_norm(&place.values(&SHAPE, 1)?)?.sqrt()?;
    parts.push(Part::new("norm of a gradient".into(), norm, SUM));
    let target = Var::from_tensor(&place.values(&SHAPE, 1)?)?;
    move_all_towards(&[(target.clone(), place.values(&SHAPE, 2)?)], 0.9, &Gate::Open)?;
    parts.push(Part::new("average of the target network".into(), target.as_detached_tensor(), SUM));
    Ok(parts)
}

/// The weight after some steps, and the optimizer's floating-point state.
fn steps(optimizer: &mut dyn Optimizer, place: &Place) -> anyhow::Result<(Tensor, Tensor)> {
    let mut params = ParamStore::new(0, place.dtype, place.device);
    let weight = params.root().parameter("weight", SHAPE.to_vec(), Init::Constant(0.0), Role::Weight)?;
    weight.set(&place.values(&SHAPE, 1)?)?;
    for step in 0..STEPS {
        let mut gradients = Gradients::default();
        // Equal signs keep the steps from cancelling.
        gradients.insert("weight", place.put(&(values(&SHAPE, 10 + step)? + 0.5)?)?)?;
        optimizer.step(&params, &mut gradients, 0.05)?;
    }
    let state = optimizer.state().into_values().filter(|tensor| tensor.dtype().is_float());
    let state = state.map(|tensor| tensor.flatten_all()).collect::<Result<Vec<_>>>()?;
    Ok((weight.as_detached_tensor(), Tensor::cat(&state, 0)?))
}
