//! N processes compute the same as one process with the whole batch, over several steps; they are threads here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use common::parts::{self, EQUIMOD, MODULES, OBJECTIVES};
use equimod_core::optim::SgdConfig;
use equimod_core::{
    Execution, Method, MethodConfig, OptimizerConfig, PairValue, Parameters, Placement, Progress, RankThreads, Result,
    SharedCollective, SingleProcess, StepBatch, StepValues, run_ranks,
};
use threads::Threads;

const IMAGES: usize = 24;
const PARAMETERS: usize = 5;
const STEPS: u64 = 5;
/// Small, because rounding errors in the weights grow from step to step: at 1e-3, to a hundredth in five steps of f32.
const LEARNING_RATE: f64 = 3e-6;

/// A method and its execution.
#[derive(Clone, Copy, Debug)]
struct Case {
    objective: &'static str,
    modules: &'static str,
    dtype: DType,
    recompute: bool,
    parts: usize,
}

impl Case {
    fn new(objective: &'static str, modules: &'static str) -> Self {
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
    fn run(self, collective: SharedCollective) -> Result<Option<Found>> {
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
type Found = Vec<(String, Vec<f64>)>;

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
type Tolerances = (f64, f64);

/// In f64. The backward pass through batch norm amplifies rounding errors.
const WIDE: Tolerances = (1e-12, 1e-11);
/// In f32. Gradients, which jump where rounding changes the sign of a ReLU's input, are compared to those in f64 instead
/// ([`rounding`]).
const NARROW: Tolerances = (1e-5, f64::INFINITY);
/// Largest distance of the gradients of several ranks in f32 to those in f64, in multiples of that of one process.
const ROUNDING: f64 = 2.0;

/// Largest distance of two results in multiples of the tolerance, and where it is.
fn distance(case: &str, want: &Found, got: &Found, (of_values, of_gradients): Tolerances) -> (f64, String) {
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

/// Compares a case on several numbers of ranks to one process; returns whether the method exists.
fn compare(case: Case, numbers: &[usize], tolerances: Tolerances) -> bool {
    let Some(reference) = case.run(SingleProcess::shared()).unwrap() else { return false };
    for &ranks in numbers {
        let group = RankThreads { ranks, threads: 1, timeout: Duration::from_secs(120) };
        let found = run_ranks(group, move |collective| case.run(collective)).unwrap();
        for (rank, found) in found.iter().enumerate() {
            let found = found.as_ref().unwrap();
            let (off, name) = distance(&format!("{case:?}"), &reference, found, tolerances);
            assert!(off <= 1.0, "{case:?}, rank {rank} of {ranks}: {name} is off by {off:.1} times what is allowed");
        }
    }
    true
}

/// Relative distance (L2, over all parameters) of the gradients of the first step to `exact` ones.
fn rounding(exact: &Found, found: &Found) -> f64 {
    let first = |(name, _): &&(String, Vec<f64>)| name.starts_with("gradient 0 ");
    let (mut off, mut all) = (0.0, 0.0);
    for ((name, exact), (other, found)) in exact.iter().filter(first).zip(found.iter().filter(first)) {
        assert_eq!((name, exact.len()), (other, found.len()));
        off += exact.iter().zip(found).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        all += exact.iter().map(|value| value.powi(2)).sum::<f64>();
    }
    assert!(all > 0.0);
    (off / all).sqrt()
}

/// Compares the rounding errors of gradients in f32 of two ranks to those of one process.
fn compare_rounding(case: Case) {
    let Some(exact) = case.run(SingleProcess::shared()).unwrap() else { return };
    let case = Case { dtype: DType::F32, ..case };
    let alone = rounding(&exact, &case.run(SingleProcess::shared()).unwrap().unwrap());
    let group = RankThreads { ranks: 2, threads: 1, timeout: Duration::from_secs(120) };
    let found = run_ranks(group, move |collective| case.run(collective)).unwrap();
    let of_ranks = rounding(&exact, found[0].as_ref().unwrap());
    assert!(of_ranks <= ROUNDING * alone.max(1e-6), "{case:?}: off by {of_ranks:.1e}, one process by {alone:.1e}");
}

/// Every objective with every module that supports it.
fn all() -> impl Iterator<Item = Case> {
    let modules = ["{}", EQUIMOD].into_iter().chain(MODULES);
    let cases = OBJECTIVES
        .into_iter()
        .flat_map(move |objective| modules.clone().map(move |modules| Case::new(objective, modules)));
    // Without an objective there is nothing to train but a module.
    cases.filter(|case| !(case.objective.contains("none") && case.modules == "{}"))
}

#[test]
fn several_ranks_equal_one_process_in_f64() {
    parts::assert_complete();
    let compared = all().filter(|case| compare(*case, &[2, 3, 4], WIDE)).count();
    assert!(compared > 50, "{compared} methods");
}

#[test]
fn several_ranks_equal_one_process_in_f32() {
    for case in all().filter(|case| case.modules == EQUIMOD || case.objective == OBJECTIVES[1]) {
        compare(Case { dtype: DType::F32, ..case }, &[2, 3], NARROW);
        compare_rounding(case);
    }
}

#[test]
fn recomputation_and_parts_equal_one_process() {
    for modules in [EQUIMOD, MODULES[2], MODULES[3]] {
        for objective in [OBJECTIVES[0], OBJECTIVES[1]] {
            let case = Case::new(objective, modules);
            assert!(compare(Case { recompute: true, ..case }, &[2], WIDE));
            assert!(compare(Case { parts: 2, ..case }, &[2, 4], WIDE));
        }
    }
}

/// Sums in another order in every call, as the contract allows.
#[test]
fn the_order_of_sums_does_not_matter() {
    let with_byol = MODULES.map(|modules| Case::new(OBJECTIVES[1], modules));
    for case in OBJECTIVES.map(|objective| Case::new(objective, EQUIMOD)).into_iter().chain(with_byol) {
        let reference = case.run(SingleProcess::shared()).unwrap().unwrap();
        for size in [2, 3] {
            for found in Threads::run(size, |collective| case.run(Arc::new(collective)).unwrap().unwrap()) {
                let (off, name) = distance(&format!("{case:?}"), &reference, &found, WIDE);
                assert!(off <= 1.0, "{case:?}, {size} ranks: {name} is off by {off:.1} times what is allowed");
            }
        }
    }
}
