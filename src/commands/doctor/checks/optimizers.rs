//! Optimizer steps and the target network's moving average.

use candle_core::{Result, Tensor, Var};
use equimod_core::ops::{Gate, move_towards, squared_norm};
use equimod_core::optim::{AdamWConfig, LarsConfig, SgdConfig, Update};
use equimod_core::params::{Role, Slot};
use equimod_core::{Optimizer, OptimizerConfig};

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
    move_towards(&target, &place.values(&SHAPE, 2)?, 0.9)?;
    parts.push(Part::new("average of the target network".into(), target.as_detached_tensor(), SUM));
    Ok(parts)
}

/// The weight after some steps, and the optimizer's state, whose only floating-point tensor has the weight's name.
fn steps(optimizer: &mut dyn Optimizer, place: &Place) -> anyhow::Result<(Tensor, Tensor)> {
    let slot = Slot { var: Var::from_tensor(&place.values(&SHAPE, 1)?)?, role: Role::Weight };
    for step in 0..STEPS {
        optimizer.begin_step();
        // Equal signs keep the steps from cancelling.
        let gradient = place.put(&(values(&SHAPE, 10 + step)? + 0.5)?)?;
        optimizer.update("weight", &slot, &gradient, Update { learning_rate: 0.05, gate: &Gate::Open })?;
    }
    let state = optimizer.state().into_values().filter(|tensor| tensor.dtype().is_float());
    let state = state.map(|tensor| tensor.flatten_all()).collect::<Result<Vec<_>>>()?;
    Ok((slot.var.as_detached_tensor(), Tensor::cat(&state, 0)?))
}
