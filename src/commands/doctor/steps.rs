//! Speed and memory of a training step.

use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use equimod_core::optim::LarsConfig;
use equimod_core::{
    Execution, Method, OptimizerConfig, Parameters, Placement, Precision, Progress, ResNetConfig, SingleProcess,
};
use serde::Serialize;

use super::checks::Checked;
use crate::process::device_memory;
use crate::run::measured_method::{PARAMETERS, simclr_with_equimod};
use crate::run::noise;

/// What is measured.
pub const WHAT: &str = "ResNet-18 at 32 pixels, SimCLR + EquiMod, batch 32";

const BATCH: usize = 32;
const SIDE: usize = 32;
const HIDDEN: usize = 2048;
/// Time after which no further step begins. A first step that takes longer is the only one.
const ENOUGH: Duration = Duration::from_millis(2500);
/// Largest number of timed steps.
const STEPS: usize = 20;

/// Speed and memory in one precision.
#[derive(Serialize)]
pub struct Speed {
    /// Element type of the backbone's activations.
    pub precision: Checked,
    /// Images per second, of which each has three views; `None` if a step failed.
    pub images_per_second: Option<f64>,
    /// Number of steps that were timed.
    pub steps: usize,
    /// Peak memory of parameters, optimizer and step; `None` if the device does not tell.
    pub memory_bytes: Option<u64>,
    /// Why there is no step.
    pub failure: Option<String>,
}

/// Steps on noise. The first one counts only if there is no other.
pub fn measure(device: &Device, precision: Checked) -> Speed {
    measured(device, precision).unwrap_or_else(|reason| {
        let failure = reason.to_string().lines().next().map(str::to_owned);
        Speed { precision, images_per_second: None, steps: 0, memory_bytes: None, failure }
    })
}

fn measured(device: &Device, precision: Checked) -> anyhow::Result<Speed> {
    let before = device_memory::in_use(device);
    let parameters = Parameters::of_views(PARAMETERS);
    let config = simclr_with_equimod(ResNetConfig::default(), HIDDEN);
    let method = Method::new(&config, &parameters, placement(device, precision))?;
    let batch = noise::batch(&method.needs(), BATCH, SIDE, &parameters, device)?;
    let mut optimizer = OptimizerConfig::Lars(LarsConfig::default()).build();
    let mut step = || -> anyhow::Result<f64> {
        let start = Instant::now();
        let mut outcome = method.step(&batch, Progress::ONLY)?;
        optimizer.step(method.params(), &mut outcome.gradients, 0.1)?;
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    };
    device_memory::reset_peak(device);
    let start = Instant::now();
    let mut times = vec![step()?];
    while times.len() <= STEPS && start.elapsed() < ENOUGH {
        times.push(step()?);
    }
    if times.len() > 1 {
        times.remove(0);
    }
    let (steps, memory_bytes) = (times.len(), device_memory::peak(device, before));
    times.sort_by(f64::total_cmp);
    Ok(Speed {
        precision,
        images_per_second: Some(BATCH as f64 / times[steps / 2]),
        steps,
        memory_bytes,
        failure: None,
    })
}

fn placement(device: &Device, precision: Checked) -> Placement<'_> {
    let precision = match precision {
        Checked::F32 => Precision::F32,
        Checked::Bf16 => Precision::Bf16,
    };
    Placement {
        seed: 0,
        dtype: DType::F32,
        device,
        image_size: SIDE,
        collective: SingleProcess::shared(),
        execution: Execution { precision, ..Execution::default() },
    }
}
