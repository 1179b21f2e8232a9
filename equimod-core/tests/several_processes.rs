//! N processes compute the same as one process with the whole batch; threads simulate the processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
mod threads;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use common::parts::{self, EQUIMOD, MODULES, OBJECTIVES};
use equimod_core::{
    Collective, Execution, Method, MethodConfig, PairValue, Parameters, Placement, Progress, SharedCollective,
    SingleProcess, StepBatch, StepValues,
};
use threads::Threads;

const IMAGES: usize = 12;
const PARAMETERS: usize = 5;

fn values(shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 31 + seed * 977) as f64 * 0.618).sin() + ((i * i % 1013) as f64 * 0.11).cos();
    Tensor::from_vec((0..count).map(value).collect::<Vec<f64>>(), shape, &Device::Cpu).unwrap()
}

/// Images of one rank of `size`.
fn batch(rank: usize, size: usize) -> StepBatch {
    let part = IMAGES / size;
    let images =
        |seed: usize| values(&[IMAGES, 3, 8, 8], seed).narrow(0, rank * part, part).unwrap().contiguous().unwrap();
    let params = |seed: usize| values(&[IMAGES, PARAMETERS], seed).narrow(0, rank * part, part).unwrap();
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

/// Loss, gradients and updated running statistics.
type Found = (f64, Vec<(String, Vec<f64>)>);

fn step((objective, modules): (&str, &str), collective: SharedCollective, batch: &StepBatch) -> Found {
    let config: MethodConfig = serde_json::from_str(&format!(
        r#"{{"backbone": {{"width": 4}}, "objective": {objective}, "equivariance": {modules}}}"#,
    ))
    .unwrap();
    let (device, execution) = (&Device::Cpu, Execution::default());
    let placement = Placement { seed: 3, dtype: DType::F64, device, image_size: 8, collective, execution };
    let method = Method::new(&config, &parameters(), placement).unwrap();
    // Residual branches with nonzero scale.
    let target = method.target().iter().flat_map(|target| target.params().iter()).collect::<Vec<_>>();
    let all = method.params().iter().chain(target);
    for (name, slot) in all.filter(|(name, _)| name.ends_with("bn2.weight")) {
        slot.var.set(&(slot.var.ones_like().unwrap() * 0.7).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let outcome = method.step(batch, Progress::ONLY).unwrap();
    let flat = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let mut found: Vec<_> = outcome.gradients.iter().map(|(name, g)| (name.to_owned(), flat(g))).collect();
    let StepValues { loss, metrics } = outcome.read().unwrap();
    // The spread of embeddings covers only the rows of this process.
    let shared =
        metrics.into_iter().filter(|(name, _)| !name.contains("embedding_std") && !name.contains("effective_rank"));
    found.extend(shared.map(|(name, value)| (name, vec![value])));
    let running = method.params().iter().filter(|(name, _)| name.contains("running"));
    found.extend(running.map(|(name, slot)| (name.to_owned(), flat(slot.var.as_tensor()))));
    (loss, found)
}

#[test]
fn several_processes_equal_one_with_the_whole_batch() {
    parts::assert_complete();
    let with_byol = MODULES.map(|modules| (OBJECTIVES[1], modules));
    let methods = OBJECTIVES.map(|objective| (objective, EQUIMOD)).into_iter().chain(with_byol);
    for (objective, size) in methods.flat_map(|method| [(method, 2), (method, 3)]) {
        let (loss, reference) = step(objective, SingleProcess::shared(), &batch(0, 1));
        let others = Threads::run(size, |collective| {
            let batch = batch(collective.rank(), size);
            step(objective, Arc::new(collective), &batch)
        });
        for (rank, (other_loss, other)) in others.into_iter().enumerate() {
            // 64 bits and another order of sums.
            let off = (loss - other_loss).abs() / loss.abs();
            assert!(off < 1e-12, "{objective:?}, rank {rank} of {size}: {other_loss} {loss}");
            assert_eq!(reference.len(), other.len());
            for ((name, want), (other_name, got)) in reference.iter().zip(&other) {
                assert_eq!(name, other_name);
                let scale = want.iter().map(|v| v.abs()).fold(1e-3, f64::max);
                let off = want.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(off < 1e-9 * scale, "{objective:?}: {name}, rank {rank} of {size}: off by {off:e} of {scale}");
            }
        }
    }
}
