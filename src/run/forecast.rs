//! Memory and time of a recipe's step: on the CPU extrapolated from smaller steps, on another device measured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use equimod_core::{Method, Optimizer, Parameters, Placement, Progress};
use equimod_train::Recipe;

use crate::process::device_memory;
use crate::run::noise;
use crate::run::rehearsal::Rehearsal;

/// Batch size of the smallest step.
const SMALLEST: usize = 2;
/// Relative change up to which the memory per additional image counts as constant.
const CONSTANT: f64 = 0.01;

/// Share of memory that the images must account for before the forecast extrapolates.
const DOMINANT: f64 = 0.4;

/// Cost of a step on the CPU of this machine.
pub struct Forecast {
    /// Peak memory of parameters, optimizer state and step together, in bytes.
    pub bytes: f64,
    /// Bytes that a rank gives to exchanges in a step.
    pub exchanged: f64,
    /// Duration of a step.
    pub time: Duration,
    /// Batch size of the largest step that was run.
    pub measured_batch: usize,
}

/// Forecasts the cost of a step on one of `ranks` ranks, with parameter vectors of the widths in `parameters`.
///
/// Peak memory is the maximum over the phases of a step, each of which is linear in the number of images. The batch
/// size is doubled until the memory per image is constant three times in a row and images account for a large share of
/// the memory. The second condition guards against a phase that dominates only at larger batches.
///
/// # Errors
///
/// If a step fails.
pub fn forecast(recipe: &Recipe, parameters: &Parameters, ranks: usize) -> anyhow::Result<Forecast> {
    let mut trial = Trial::new(recipe, parameters, ranks, &Device::Cpu)?;
    let batch = recipe.data.batch / ranks;
    let mut images = trial.method.needs().shared_by.unwrap_or(1).max(SMALLEST).min(batch);
    trial.step(images)?;
    let mut last = trial.forecast(images)?;
    let (mut slope, mut constant) = (None, 0);
    while images < batch {
        let next = (2 * images).min(batch);
        let measured = trial.forecast(next)?;
        let more = (next - images) as f64;
        let of_one = (measured.bytes - last.bytes) / more;
        let exchanged_by_one = (measured.exchanged - last.exchanged) / more;
        let time_of_one = (measured.time.as_secs_f64() - last.time.as_secs_f64()).max(0.0) / more;
        (images, last) = (next, measured);
        // If images do not dominate the memory yet, another phase may dominate later.
        let dominates = of_one * images as f64 >= DOMINANT * last.bytes;
        let same = dominates && slope.is_some_and(|before: f64| (of_one - before).abs() <= CONSTANT * of_one.abs());
        constant = if same { constant + 1 } else { 0 };
        if constant == 2 {
            let rest = (batch - images) as f64;
            last.bytes += of_one * rest;
            last.exchanged += exchanged_by_one * rest;
            last.time += Duration::from_secs_f64(time_of_one * rest);
            break;
        }
        slope = Some(of_one);
    }
    Ok(last)
}

/// Cost of a step on a device.
pub struct Measured {
    /// Peak memory of parameters, optimizer state and step together, in bytes; `None` if the device does not tell.
    pub bytes: Option<u64>,
    /// Duration of a step.
    pub time: Duration,
}

/// Runs two steps with the batch of one of several `ranks` on a device, and measures the second one.
///
/// # Errors
///
/// If a step fails, e.g. because it does not fit the device's memory.
pub fn measure(recipe: &Recipe, parameters: &Parameters, ranks: usize, device: &Device) -> anyhow::Result<Measured> {
    let mut trial = Trial::new(recipe, parameters, ranks, device)?;
    let images = recipe.data.batch / ranks;
    // The first one chooses algorithms and creates the optimizer's state.
    trial.step(images)?;
    trial.step(images)
}

/// A method that trains on noise.
struct Trial {
    before: u64,
    method: Method,
    optimizer: Box<dyn Optimizer>,
    parts: usize,
    size: usize,
    parameters: Parameters,
    rehearsal: Rehearsal,
}

impl Trial {
    fn new(recipe: &Recipe, parameters: &Parameters, ranks: usize, device: &Device) -> anyhow::Result<Self> {
        let before = device_memory::in_use(device);
        let size = recipe.augmentation.size;
        let rehearsal = Rehearsal::new(ranks);
        let (collective, execution) = (Arc::new(rehearsal.clone()), recipe.execution);
        let placement = Placement { seed: 0, dtype: DType::F32, device, image_size: size, collective, execution };
        let method = Method::new(&recipe.method(), parameters, placement)?;
        let optimizer = recipe.optimizer.build();
        let (parts, parameters) = (execution.parts, parameters.clone());
        Ok(Self { before, method, optimizer, parts, size, parameters, rehearsal })
    }

    /// Runs one step with a batch of `images` images.
    fn step(&mut self, images: usize) -> anyhow::Result<Measured> {
        let batch = noise::batch_for(&self.method, self.parts, [images, self.size], &self.parameters)?;
        let device = self.method.params().device();
        device.synchronize()?;
        device_memory::reset_peak(device);
        let start = Instant::now();
        let mut outcome = self.method.step(&batch, Progress::ONLY)?;
        self.optimizer.step(self.method.params(), &mut outcome.gradients, 0.0)?;
        device.synchronize()?;
        Ok(Measured { bytes: device_memory::peak(device, self.before), time: start.elapsed() })
    }

    /// [`step`](Self::step) on the CPU.
    fn forecast(&mut self, images: usize) -> anyhow::Result<Forecast> {
        let before = self.rehearsal.bytes();
        let Measured { bytes, time } = self.step(images)?;
        let exchanged = (self.rehearsal.bytes() - before) as f64;
        Ok(Forecast { bytes: bytes.unwrap_or(0) as f64, exchanged, time, measured_batch: images })
    }
}
