//! What a step of a recipe will take, found by taking smaller ones.

use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use equimod_core::{Method, Optimizer, Parameters, Placement, Progress, SingleProcess};
use equimod_train::Recipe;

use crate::allocator::MEMORY;
use crate::noise;

/// Images of the smallest step.
const SMALLEST: usize = 2;
/// How little the memory of one more image has to change between steps for it to count as known.
const KNOWN: f64 = 0.01;

/// The share of the memory that images have to have before the forecast goes by them.
const DECIDING: f64 = 0.4;

/// What a step takes on this machine's CPU.
pub struct Forecast {
    /// The most memory that parameters, the optimiser's state and the step have together, in bytes.
    pub bytes: f64,
    /// How long it takes.
    pub time: Duration,
    /// Images of the largest step that was taken.
    pub taken: usize,
}

/// Forecasts a step on parameter vectors that hold `parameters`.
///
/// The most memory is the largest of what the parts of a step need, each linear in the number of images: steps are
/// doubled until one more image costs the same three times running, and images have a good part of the memory: a part
/// that decides later may need nearly the same at first.
pub fn forecast(recipe: &Recipe, parameters: &Parameters) -> anyhow::Result<Forecast> {
    let mut trial = Trial::new(recipe, parameters)?;
    let asked = recipe.data.batch;
    let mut images = trial.method.needs().shared_by.unwrap_or(1).max(SMALLEST).min(asked);
    trial.step(images)?;
    let mut last = trial.step(images)?;
    let (mut slope, mut known) = (None, 0);
    while images < asked {
        let next = (2 * images).min(asked);
        let found = trial.step(next)?;
        let more = (next - images) as f64;
        let of_one = (found.bytes - last.bytes) / more;
        let time_of_one = (found.time.as_secs_f64() - last.time.as_secs_f64()).max(0.0) / more;
        (images, last) = (next, found);
        // Where images do not decide the most memory yet, a part that does may still come.
        let decides = of_one * images as f64 >= DECIDING * last.bytes;
        let same = decides && slope.is_some_and(|before: f64| (of_one - before).abs() <= KNOWN * of_one.abs());
        known = if same { known + 1 } else { 0 };
        if known == 2 {
            let rest = (asked - images) as f64;
            last.bytes += of_one * rest;
            last.time += Duration::from_secs_f64(time_of_one * rest);
            break;
        }
        slope = Some(of_one);
    }
    Ok(last)
}

/// A method that is trained on noise.
struct Trial {
    before: usize,
    method: Method,
    optimizer: Box<dyn Optimizer>,
    size: usize,
    parameters: Parameters,
}

impl Trial {
    fn new(recipe: &Recipe, parameters: &Parameters) -> anyhow::Result<Self> {
        let before = MEMORY.current_usage();
        let size = recipe.augmentation.size;
        let (device, collective, execution) = (&Device::Cpu, SingleProcess::shared(), recipe.execution);
        let placement = Placement { seed: 0, dtype: DType::F32, device, image_size: size, collective, execution };
        let method = Method::new(&recipe.method(), parameters, placement)?;
        let optimizer = recipe.optimizer.build();
        Ok(Self { before, method, optimizer, size, parameters: parameters.clone() })
    }

    /// Takes a step of so many images.
    fn step(&mut self, images: usize) -> anyhow::Result<Forecast> {
        let batch = noise::batch(&self.method.needs(), images, self.size, &self.parameters, &Device::Cpu)?;
        MEMORY.reset_peak_usage();
        let start = Instant::now();
        let mut outcome = self.method.step(&batch, Progress::ONLY)?;
        self.optimizer.step(self.method.params(), &mut outcome.gradients, 0.0)?;
        let bytes = MEMORY.peak_usage().saturating_sub(self.before) as f64;
        Ok(Forecast { bytes, time: start.elapsed(), taken: images })
    }
}
