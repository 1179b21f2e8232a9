//! Ranks as threads: exchanges, their order, and failures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use equimod_core::{CollectiveError, FailureCause, RankFailure, RankThreads, Reduction, SharedCollective, run_ranks};

type Work<T> = Result<T, CollectiveError>;

fn group(ranks: usize, timeout: Duration) -> RankThreads {
    RankThreads { ranks, threads: 1, timeout }
}

fn run<T: Send + 'static>(ranks: usize, work: impl Fn(SharedCollective) -> Work<T> + Send + Sync + 'static) -> Vec<T> {
    run_ranks(group(ranks, Duration::from_secs(60)), work).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Values of a rank, many enough for several tasks.
fn values(rank: usize, seed: usize) -> Vec<f32> {
    (0..100_001).map(|i| ((i * (rank + 2) + seed * 31) as f32 * 0.37).sin() * 10f32.powi(rank as i32 * 3 - 3)).collect()
}

#[test]
fn sums_of_f32_are_rounded_once_and_equal_on_all_ranks() {
    let found = run(3, |ranks| {
        let own = Tensor::new(values(ranks.rank(), 1), &Device::Cpu)?;
        let sums = ranks.all_reduce(&[own.clone(), own.narrow(0, 7, 5)?], Reduction::Sum)?;
        let started = ranks.start_all_reduce(vec![own], Reduction::Sum)?.finish()?;
        assert_eq!(numbers(&started[0]), numbers(&sums[0]));
        Ok((sums[0].to_vec1::<f32>()?, sums[1].to_vec1::<f32>()?))
    });
    let of_ranks: Vec<Vec<f32>> = (0..3).map(|rank| values(rank, 1)).collect();
    let want: Vec<f32> =
        (0..of_ranks[0].len()).map(|i| of_ranks.iter().map(|v| f64::from(v[i])).sum::<f64>() as f32).collect();
    for (sums, part) in found {
        assert!(sums == want);
        assert_eq!(part, want[7..12]);
    }
}

#[test]
fn reductions_gathers_and_broadcasts_of_several_types() {
    let found = run(3, |ranks| {
        let rank = ranks.rank() as f64;
        let tensors = [
            Tensor::new(&[[rank as f32, -rank as f32]], &Device::Cpu)?,
            Tensor::new(rank + 1.0, &Device::Cpu)?,
            Tensor::new(u8::from(ranks.rank() > 0), &Device::Cpu)?,
            Tensor::new(rank as f32, &Device::Cpu)?.to_dtype(DType::BF16)?,
        ];
        let mut all = Vec::new();
        for reduction in [Reduction::Sum, Reduction::Max, Reduction::Min] {
            let reduced = ranks.all_reduce(&tensors, reduction)?;
            for (before, after) in tensors.iter().zip(&reduced) {
                assert_eq!((before.dims(), before.dtype()), (after.dims(), after.dtype()));
            }
            all.extend(reduced.iter().map(numbers));
        }
        all.push(numbers(&ranks.all_gather(&tensors[0])?));
        all.push(numbers(&ranks.broadcast(&tensors[1..2], 2)?[0]));
        Ok(all)
    });
    let want: Vec<Vec<f64>> = vec![
        vec![3.0, -3.0],
        vec![6.0],
        vec![2.0],
        vec![3.0],
        vec![2.0, 0.0],
        vec![3.0],
        vec![1.0],
        vec![2.0],
        vec![0.0, -2.0],
        vec![1.0],
        vec![0.0],
        vec![0.0],
        vec![0.0, 0.0, 1.0, -1.0, 2.0, -2.0],
        vec![3.0],
    ];
    assert_eq!(found, vec![want; 3]);
}

#[test]
fn exchanges_may_be_finished_in_another_order() {
    let found = run(2, |ranks| {
        let of = |value: f64| Tensor::new(value + ranks.rank() as f64, &Device::Cpu);
        let started = (1..=3).map(|i| ranks.start_all_reduce(vec![of(f64::from(i) * 10.0)?], Reduction::Sum));
        let mut started = started.collect::<Work<Vec<_>>>()?;
        let between = numbers(&ranks.all_reduce_sum(&of(1.0)?)?);
        started.reverse();
        let late = started.into_iter().map(|exchange| Ok(numbers(&exchange.finish()?[0])));
        Ok((between, late.collect::<Work<Vec<_>>>()?))
    });
    assert_eq!(found, vec![(vec![3.0], vec![vec![61.0], vec![41.0], vec![21.0]]); 2]);
}

#[test]
fn a_tensor_may_be_changed_in_place_after_an_exchange() {
    let found = run(2, |ranks| {
        let own = candle_core::Var::from_tensor(&Tensor::new(vec![1f32; 1 << 16], &Device::Cpu)?)?;
        let mut sums = Vec::new();
        for _ in 0..20 {
            let sum = ranks.all_reduce_sum(&own)?;
            own.set(&(sum * 0.5)?)?;
            sums.push(numbers(&own.sum_all()?)[0]);
        }
        Ok(sums)
    });
    assert_eq!(found, vec![vec![f64::from(1 << 16); 20]; 2]);
}

#[test]
fn ranks_that_disagree_are_named() {
    let failure = run_ranks(group(2, Duration::from_secs(60)), |ranks| -> Work<()> {
        let tensor = Tensor::zeros(2 + ranks.rank(), DType::F32, &Device::Cpu)?;
        ranks.all_reduce_sum(&tensor).map(|_| ())
    });
    let Err(RankFailure { cause: FailureCause::Error(error), .. }) = failure else { panic!("no error") };
    assert!(matches!(error, CollectiveError::Mismatch { operation: "all-reduce", .. }));
    assert!(error.to_string().contains("on process 1, AllReduce(Sum) of 1 tensors: [3] of f32"), "{error}");
}

#[test]
fn the_first_failure_is_reported_and_ends_the_others() {
    for panics in [false, true] {
        let ended = Arc::new(AtomicUsize::new(0));
        let (count, start) = (ended.clone(), Instant::now());
        let failure = run_ranks(group(3, Duration::from_secs(60)), move |ranks| -> Work<()> {
            let tensor = Tensor::new(1f32, &Device::Cpu)?;
            ranks.all_reduce_sum(&tensor)?;
            if ranks.rank() == 1 {
                assert!(!panics, "a deliberate failure");
                return Err(CollectiveError::Transport { operation: "test", reason: "deliberate".into() });
            }
            let error = ranks.all_reduce_sum(&tensor).unwrap_err();
            assert!(matches!(error, CollectiveError::RankLost { rank: 1, .. }), "{error}");
            count.fetch_add(1, Ordering::SeqCst);
            Err(error)
        });
        assert!(start.elapsed() < Duration::from_secs(30));
        assert_eq!(ended.load(Ordering::SeqCst), 2);
        match failure {
            Err(RankFailure { rank: 1, cause: FailureCause::Error(CollectiveError::Transport { .. }) }) => {
                assert!(!panics);
            }
            Err(RankFailure { rank: 1, cause: FailureCause::Crash(reason) }) => {
                assert!(panics);
                assert_eq!(reason, "it panicked: a deliberate failure");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stuck_rank_is_named_after_the_time_limit_and_not_waited_for() {
    let start = Instant::now();
    let failure = run_ranks(group(2, Duration::from_secs(1)), |ranks| -> Work<()> {
        if ranks.rank() == 1 {
            std::thread::sleep(Duration::from_secs(100));
        }
        ranks.all_reduce_sum(&Tensor::new(1f32, &Device::Cpu)?).map(|_| ())
    });
    assert!(start.elapsed() < Duration::from_secs(30));
    let Err(RankFailure { rank: 0, cause: FailureCause::Error(error) }) = failure else { panic!("{failure:?}") };
    assert_eq!(
        error.to_string(),
        "all-reduce between processes did not finish within 1 s: process 1 did not take part; look for a process that \
         is stuck or slow, or raise execution.timeout"
    );
}

#[test]
fn work_of_any_length_may_precede_the_wait_for_all() {
    let waited = run_ranks(group(2, Duration::from_millis(200)), |ranks| -> Work<f64> {
        if ranks.is_first() {
            std::thread::sleep(Duration::from_secs(1));
        }
        ranks.wait_for_all()?;
        Ok(numbers(&ranks.all_reduce_sum(&Tensor::new(1f32, &Device::Cpu)?)?)[0])
    });
    assert_eq!(waited.unwrap(), [2.0, 2.0]);
}

#[test]
fn every_rank_has_its_own_compute_threads() {
    let threads = RankThreads { threads: 3, ..group(2, Duration::from_secs(60)) };
    let found =
        run_ranks(threads, |ranks| -> Work<(usize, usize)> { Ok((ranks.rank(), rayon::current_num_threads())) });
    assert_eq!(found.unwrap(), [(0, 3), (1, 3)]);
}
