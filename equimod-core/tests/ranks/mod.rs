//! Steps of a method on several ranks, compared to one process.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, missing_docs)]

use candle_core::{DType, Device, Tensor};
use equimod_core::optim::SgdConfig;
use equimod_core::{
    Execution, Method, MethodConfig, OptimizerConfig, PairValue, Parameters, Placement, Progress, Result,
    SharedCollective, StepBatch, StepValues,
};

const IMAGES: usize = 24;
const PARAMETERS: usize = 5;
const STEPS: u64 = 5;
/// Small, because rounding errors in the weights grow from step to step: at 1e-3, to a hundredth in five steps of f32.
const LEARNING_RATE: f64 = 3e-6;

/// A method and its execution.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub objective: &'static str,
    pub modules: &'static str,
    pub dtype: DType,
    pub recompute: bool,
    pub parts: usize,
}

impl Case {
    pub fn new(objective: &'static str, modules: &'static str) -> Self {
        Self { objective, modules, dtype: DType::F64, recompute: false, parts: 1 }
    }

    /// The method; `None` if the module does not support the objective.
    fn method(self, collective: SharedCollective) -> Option<Method> {
        let Self { objective, modules, dtype, recompute, parts } = self;
        let config: MethodConfig = serde_json::from_str(&format!(
            r#"{{"backbone": {{"width": 4}}, "objective": {objective}, "equivariance": {modules}}}"#,
        ))
        .unwrap();
        if !config.validate(8).is_empty() {
            return None;
        }
        let (device, execution) = (&Device::Cpu, Execution { recompute, parts, ..Execution::default() });
        let placement = Placement { seed: 3, dtype, device, image_size: 8, collective, execution };
        let method = Method::new(&config, &parameters(), placement).unwrap();
        // Residual branches with nonzero scale.
        let target = method.target().iter().flat_map(|target| target.params().iter()).collect::<Vec<_>>();
        let all = method.params().iter().chain(target);
        for (name, slot) in all.filter(|(name, _)| name.ends_with("bn2.weight")) {
            slot.var.set(&(slot.var.ones_like().unwrap() * 0.7).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        Some(method)
    }

    /// Losses, metrics and gradients of several steps, then weights and running statistics.
    pub fn run(self, collective: SharedCollective) -> Result<Option<Found>> {
        let (rank, size) = (collective.rank(), collective.size());
        let Some(method) = self.method(collective) else { return Ok(None) };
        let mut optimizer = OptimizerConfig::Sgd(SgdConfig::default()).build();
        let mut found = Vec::new();
        for step in 0..STEPS {
            let mut outcome =
                method.step(&batch(self.dtype, step as usize, rank, size), Progress { step, total: STEPS })?;
            let StepValues { loss, metrics } = outcome.read()?;
            found.push((format!("loss {step}"), vec![loss]));
            found.extend(metrics.into_iter().map(|(name, value)| (format!("{name} {step}"), vec![value])));
            found.extend(outcome.gradients.iter().map(|(name, g)| (format!("gradient {step} {name}"), flat(g))));
            optimizer.step(method.params(), &mut outcome.gradients, LEARNING_RATE)?;
        }
        let target = method.target().iter().flat_map(|target| target.params().iter()).collect::<Vec<_>>();
        let all = method.params().iter().chain(target);
        found.extend(all.map(|(name, slot)| (name.to_owned(), flat(slot.var.as_tensor()))));
        Ok(Some(found))
    }
}

/// Named values.
pub type Found = Vec<(String, Vec<f64>)>;

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn values(shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 31 + seed * 977) as f64 * 0.618).sin() + ((i * i % 1013) as f64 * 0.11).cos();
    Tensor::from_vec((0..count).map(value).collect::<Vec<f64>>(), shape, &Device::Cpu).unwrap()
}

/// Images of one rank of `size` in a step.
fn batch(dtype: DType, step: usize, rank: usize, size: usize) -> StepBatch {
    let part = IMAGES / size;
    let rows = |shape: &[usize], seed: usize| {
        let all = values(shape, seed + 10 * step).to_dtype(dtype).unwrap();
        all.narrow(0, rank * part, part).unwrap().contiguous().unwrap()
    };
    let images = |seed: usize| rows(&[IMAGES, 3, 8, 8], seed);
    let params = |seed: usize| rows(&[IMAGES, PARAMETERS], seed);
    StepBatch {
        clean: Some(images(1)),
        small: Some(images(6)),
        params: Some(Tensor::cat(&[params(4), params(5)], 0).unwrap()),
        pairs: Some(Tensor::cat(&[params(7), params(8)], 0).unwrap()),
        ..StepBatch::of_views([images(2), images(3)])
    }
}

fn parameters() -> Parameters {
    let value = |i: usize| PairValue {
        name: format!("value {i}"),
        augmentation: format!("augmentation {}", i / 2),
        mean: 0.0,
        std: 1.0,
        reach: 2.0,
        flag: false,
    };
    Parameters { pair: (0..PARAMETERS).map(value).collect(), ..Parameters::of_views(PARAMETERS) }
}

/// Tolerances of values and of gradients, relative to the largest value of a tensor (of weights, statistics and metrics,
/// at least to 1).
pub type Tolerances = (f64, f64);

/// In f64. The backward pass through batch norm amplifies rounding errors.
pub const WIDE: Tolerances = (1e-12, 1e-11);
/// In f32. Gradients, which jump where rounding changes the sign of a ReLU's input, are compared to those in f64 instead
/// (`rounding`).
pub const NARROW: Tolerances = (1e-5, f64::INFINITY);
/// Largest distance of two results in multiples of the tolerance, and where it is.
pub fn distance(case: &str, want: &Found, got: &Found, (of_values, of_gradients): Tolerances) -> (f64, String) {
    assert_eq!(want.len(), got.len(), "{case}");
    let mut most = (0.0, String::new());
    for ((name, want), (other, got)) in want.iter().zip(got) {
        assert_eq!((name, want.len()), (other, got.len()), "{case}");
        // Gradients that are zero up to rounding, as those before a batch norm, have no relative distance.
        // Biases begin at 0, and are as exact as the gradients that moved them.
        let (least, tolerance) = match name.split(' ').next() {
            Some("gradient") => (1e-3, of_gradients),
            // Terms of a loss may cancel.
            Some("loss") => (0.1, of_values),
            _ => (1.0, of_values),
        };
        let scale = want.iter().map(|v| v.abs()).fold(least, f64::max);
        let off = want.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / scale / tolerance;
        if off > most.0 || off.is_nan() {
            most = (off, name.clone());
        }
    }
    most
}
