//! The contract of collectives: reductions, buckets of gradients, agreements and errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod threads;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};
use equimod_core::agreement::{finite_on_all, gather_bytes, same_on_all};
use equimod_core::params::{GradientSink, Gradients};
use equimod_core::tape::FeatureGradients;
use equimod_core::{
    Agreement, Backbone, Buckets, Collective, CollectiveError, CollectiveResult, Error, Execution, Method,
    MethodConfig, Mode, ParamStore, Parameters, Placement, Progress, Reduction, ResNet, ResNetConfig, Result,
    SingleProcess, StepBatch,
};
use threads::Threads;

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn many_tensors_of_several_types_are_reduced_in_one_call() {
    let device = &Device::Cpu;
    for (reduction, want) in [
        (Reduction::Sum, [vec![3.0, -3.0], vec![6.0], vec![2.0]]),
        (Reduction::Max, [vec![2.0, 0.0], vec![3.0], vec![1.0]]),
        (Reduction::Min, [vec![0.0, -2.0], vec![1.0], vec![0.0]]),
    ] {
        let found = Threads::run(3, |ranks| {
            let rank = ranks.rank() as f64;
            let tensors = [
                Tensor::new(&[[rank as f32, -rank as f32]], device).unwrap(),
                Tensor::new(rank + 1.0, device).unwrap(),
                Tensor::new(u8::from(ranks.rank() > 0), device).unwrap(),
            ];
            let reduced = ranks.all_reduce(&tensors, reduction).unwrap();
            for (before, after) in tensors.iter().zip(&reduced) {
                assert_eq!((before.dims(), before.dtype()), (after.dims(), after.dtype()));
            }
            reduced.iter().map(numbers).collect::<Vec<_>>()
        });
        for found in found {
            assert_eq!(found, want, "{reduction:?}");
        }
    }
}

#[test]
fn the_first_process_is_the_one_that_writes() {
    assert_eq!(Threads::run(3, |ranks| ranks.is_first()), [true, false, false]);
    assert!(SingleProcess.is_first() && SingleProcess.is_deterministic());
}

#[test]
fn processes_that_disagree_are_named() {
    let refused = Threads::run(2, |ranks| {
        let tensor = Tensor::zeros(2 + ranks.rank(), DType::F32, &Device::Cpu).unwrap();
        Error::from(ranks.all_reduce_sum(&tensor).unwrap_err())
    });
    for error in refused {
        assert!(error.to_string().contains("on process 1, [[3]]"), "{error}");
        assert!(matches!(error, Error::Collective(CollectiveError::Mismatch { operation: "all-reduce", .. })));
    }
}

#[test]
fn the_loop_stops_with_the_first_stop_flag_and_the_first_end_of_data() {
    for (stop, end) in [(None, None), (Some(1), None), (None, Some(2)), (Some(0), Some(0))] {
        let states = Threads::run(3, |ranks| {
            let rank = Some(ranks.rank());
            let own = Agreement { stop: stop == rank, has_batch: end != rank, news: rank == Some(1) && end.is_some() };
            own.reach(&ranks).unwrap()
        });
        let all = Agreement { stop: stop.is_some(), has_batch: end.is_none(), news: end.is_some() };
        assert_eq!(states, [all; 3]);
    }
    let alone = Agreement { stop: true, has_batch: true, news: false };
    assert_eq!(alone.reach(&SingleProcess).unwrap(), alone);
}

#[test]
fn bytes_of_any_number_are_gathered() {
    let want: Vec<Vec<u8>> = vec![vec![], vec![7; 3], vec![9; 600]];
    let of = |rank: usize| want[rank].clone();
    assert_eq!(Threads::run(3, |ranks| gather_bytes(&of(ranks.rank()), &ranks).unwrap()), vec![want.clone(); 3]);
    assert_eq!(gather_bytes(b"alone", &SingleProcess).unwrap(), [b"alone"]);
    assert_eq!(Threads::run(2, |ranks| gather_bytes(&[], &ranks).unwrap()), vec![vec![Vec::<u8>::new(); 2]; 2]);
}

#[test]
fn a_fact_that_differs_is_named_with_its_process() {
    for other in [None, Some("recipe"), Some("version")] {
        let found = Threads::run(3, |ranks| {
            let of = |name: &str| if ranks.rank() == 2 && other == Some(name) { "another" } else { "the same" };
            same_on_all(&[("recipe", of("recipe")), ("version", of("version"))], &ranks).map_err(|e| e.to_string())
        });
        for found in found {
            let want = other.map(|name| format!("the {name} of process 2 is not that of process 0"));
            assert_eq!(found.is_ok(), want.is_none());
            if let (Err(error), Some(want)) = (found, want) {
                assert!(error.contains(&want), "{error}");
            }
        }
    }
}

#[test]
fn numbers_are_finite_only_if_they_are_on_all_processes() {
    let flag = |finite: bool| Tensor::new(u8::from(finite), &Device::Cpu).unwrap();
    for diverged in [None, Some(1)] {
        let flags =
            Threads::run(2, |ranks| numbers(&finite_on_all(flag(diverged != Some(ranks.rank())), &ranks).unwrap()));
        assert_eq!(flags, [[f64::from(u8::from(diverged.is_none()))]; 2]);
    }
    let own = flag(true);
    assert_eq!(finite_on_all(own.clone(), &SingleProcess).unwrap().id(), own.id());
}

/// Passes the gradients of a small network for the images of `rank` to `sink`. Batch norm is local.
fn backward_into(rank: usize, sink: &mut dyn GradientSink) -> Result<()> {
    let mut store = ParamStore::new(1, DType::F64, &Device::Cpu);
    let config: ResNetConfig = serde_json::from_str(r#"{"width": 2}"#).unwrap();
    let scope = &mut store.root();
    let net = ResNet::new(&config, Execution::default(), &SingleProcess::shared(), &mut scope.scope("backbone"))?;
    let wave = |i: usize| ((i * (rank + 3)) as f64 * 0.37).sin();
    let images = Tensor::from_vec((0..4 * 3 * 64).map(wave).collect::<Vec<f64>>(), (4, 3, 8, 8), &Device::Cpu)?;
    let (features, tape) = net.forward(&images, Mode::Train)?;
    let pooled = Some(features.pooled.affine(0.5, 0.1)?);
    tape.backward_into(FeatureGradients { pooled, stages: Vec::new() }, sink)
}

#[test]
fn buckets_of_any_size_equal_one_exchange_at_the_end() {
    let reference = Threads::run(3, |ranks| {
        let mut gradients = Gradients::default();
        backward_into(ranks.rank(), &mut gradients).unwrap();
        let sum = |(name, gradient): (String, Tensor)| (name, numbers(&ranks.all_reduce_sum(&gradient).unwrap()));
        gradients.into_iter().map(sum).collect::<Vec<_>>()
    })
    .swap_remove(0);
    for (limit, least) in [(1, reference.len()), (2048, 3), (usize::MAX, 1)] {
        let found = Threads::run(3, |ranks| {
            let mut buckets = Buckets::with_limit(&ranks, limit);
            backward_into(ranks.rank(), &mut buckets).unwrap();
            let gradients = buckets.finish().unwrap();
            let gradients = gradients.iter().map(|(name, sum)| (name.to_owned(), numbers(sum))).collect::<Vec<_>>();
            (gradients, ranks.started())
        });
        let order = found[0].1.clone();
        assert!(order.len() >= least, "{} buckets of {limit} bytes", order.len());
        assert_eq!(order.iter().map(Vec::len).sum::<usize>(), reference.len());
        for (gradients, started) in found {
            assert_eq!(started, order, "every rank starts the same buckets in the same order");
            for ((name, want), (other, got)) in reference.iter().zip(&gradients) {
                assert_eq!(name, other);
                let scale = want.iter().map(|v| v.abs()).fold(1e-3, f64::max);
                // Another order of the sum of three numbers in f64.
                assert!(want.iter().zip(got).all(|(a, b)| (a - b).abs() <= 1e-14 * scale), "{name}");
            }
        }
    }
}

/// Names in the order in which they arrive.
struct Names(Vec<String>);

impl GradientSink for Names {
    fn insert(&mut self, name: &str, _: Tensor) -> Result<()> {
        self.0.push(name.to_owned());
        Ok(())
    }
}

#[test]
fn gradients_arrive_from_the_last_layer_to_the_first() {
    let mut names = Names(Vec::new());
    backward_into(0, &mut names).unwrap();
    let stage = |name: &String| name.find("layer").map_or(0, |at| name.as_bytes()[at + 5]);
    assert!(names.0.is_sorted_by_key(|name| std::cmp::Reverse(stage(name))), "{:?}", names.0);
    assert_eq!(names.0.last().unwrap(), "backbone.conv1.weight");
}

#[test]
fn one_process_hands_gradients_on_without_a_bucket() {
    let gradient = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
    let mut buckets = Buckets::with_limit(&SingleProcess, 1);
    buckets.insert("weight", gradient.clone()).unwrap();
    assert!(buckets.insert("weight", gradient.clone()).is_err(), "a second gradient of the same parameter");
    assert_eq!(buckets.finish().unwrap().get("weight").unwrap().id(), gradient.id());
}

/// The first of two processes with the same tensors; the other is lost after some operations.
#[derive(Default)]
struct Lossy {
    operations: AtomicUsize,
    lost_after: Option<usize>,
}

impl Lossy {
    fn count(&self, operation: &'static str) -> CollectiveResult<()> {
        match self.operations.fetch_add(1, Ordering::Relaxed) {
            number if Some(number) == self.lost_after => Err(CollectiveError::RankLost { rank: 1, operation }),
            _ => Ok(()),
        }
    }
}

impl Collective for Lossy {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        2
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn all_reduce(&self, tensors: &[Tensor], reduction: Reduction) -> CollectiveResult<Vec<Tensor>> {
        self.count("all-reduce")?;
        let twice = |tensor: &Tensor| if reduction == Reduction::Sum { tensor + tensor } else { Ok(tensor.clone()) };
        Ok(tensors.iter().map(twice).collect::<candle_core::Result<_>>()?)
    }

    fn all_gather(&self, tensor: &Tensor) -> CollectiveResult<Tensor> {
        self.count("all-gather")?;
        Ok(Tensor::cat(&[tensor, tensor], 0)?)
    }

    fn broadcast(&self, tensors: &[Tensor], _: usize) -> CollectiveResult<Vec<Tensor>> {
        self.count("broadcast")?;
        Ok(tensors.to_vec())
    }
}

fn step_with(collective: Arc<Lossy>) -> Result<()> {
    let equimod = r#"{"projection_head": "8-4 bn-", "parameter_head": "3 bn", "predictor": "4 bn-"}"#;
    let config: MethodConfig = serde_json::from_str(&format!(
        r#"{{"backbone": {{"width": 2}}, "objective": {{"kind": "simclr", "projection_head": "8-4 bn-"}},
            "equivariance": {{"equimod": {equimod}}}}}"#
    ))
    .unwrap();
    let (device, execution) = (&Device::Cpu, Execution::default());
    let placement = Placement { seed: 1, dtype: DType::F32, device, image_size: 8, collective, execution };
    let method = Method::new(&config, &Parameters::of_views(3), placement)?;
    let images = |seed: usize| {
        let wave = |i: usize| ((i + seed) as f32 * 0.71).sin();
        Tensor::from_vec((0..4 * 3 * 64).map(wave).collect::<Vec<_>>(), (4, 3, 8, 8), device).unwrap()
    };
    let params = Some(Tensor::ones((8, 3), DType::F32, device)?);
    let batch = StepBatch { clean: Some(images(1)), params, ..StepBatch::of_views([images(2), images(3)]) };
    method.step(&batch, Progress::ONLY).map(|_| ())
}

#[test]
fn a_lost_process_is_reported_from_every_place_of_a_step() {
    let whole = Arc::new(Lossy::default());
    step_with(whole.clone()).unwrap();
    let operations = whole.operations.load(Ordering::Relaxed);
    assert!(operations > 40, "batch norms, losses and gradients: {operations}");
    for number in 0..operations {
        let lossy = Lossy { lost_after: Some(number), ..Lossy::default() };
        let error = step_with(Arc::new(lossy)).unwrap_err();
        let lost = matches!(error, Error::Collective(CollectiveError::RankLost { rank: 1, .. }));
        assert!(lost, "operation {number} of {operations}: {error:?}");
    }
    let error = step_with(Arc::new(Lossy { lost_after: Some(0), ..Lossy::default() })).unwrap_err();
    assert_eq!(
        error.to_string(),
        "process 1 was lost during all-reduce; its own output may have the reason; resume from the newest checkpoint"
    );
}
