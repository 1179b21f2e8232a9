//! A rank alone, and ranks as threads with a GPU each, where there are two GPUs.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::{DType, Device, Tensor};

use super::{connect, connect_alone, new_id};
use crate::backend::cuda::open;
use crate::collective::{CollectiveResult, Reduction, SharedCollective};
use crate::{Error, FailureCause, RankFailure, RankThreads, Result, run_ranks};

const TIMEOUT: Duration = Duration::from_secs(60);

/// One test at a time, because devices are waited for as a whole when a rank connects.
static DEVICES: Mutex<()> = Mutex::new(());

/// Results of `work` on two ranks; `None` where there are not two GPUs.
fn on_two<T: Send + 'static>(
    work: impl Fn(SharedCollective, &Device) -> Result<T> + Send + Sync + 'static,
) -> Option<std::result::Result<Vec<T>, RankFailure<Error>>> {
    if CudaContext::device_count().unwrap() < 2 {
        eprintln!("skipped: there are not two GPUs");
        return None;
    }
    let _alone = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let group = RankThreads { ranks: 2, threads: 1, timeout: TIMEOUT };
    Some(run_ranks(group, move |ranks| {
        let device = open(ranks.rank())?;
        work(ranks, &device)
    }))
}

fn numbers(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    // candle's kernels do not take empty tensors.
    if tensor.elem_count() == 0 {
        return Ok(Vec::new());
    }
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1()
}

/// Tensors of a rank: of several types, one that is not contiguous, an empty one, one in host memory.
fn tensors(rank: usize, device: &Device) -> candle_core::Result<Vec<Tensor>> {
    let values: Vec<f32> =
        (0..700).map(|i| ((i * (rank + 2)) as f32 * 0.37).sin() * 10f32.powi((i % 7) as i32)).collect();
    let wide = Tensor::from_vec(values, (7, 100), device)?;
    Ok(vec![
        wide.clone(),
        wide.t()?.narrow(1, 2, 3)?,
        wide.to_dtype(DType::F64)?,
        wide.to_dtype(DType::BF16)?,
        Tensor::new(&[rank as u32, 7], device)?,
        Tensor::zeros((0, 5), DType::F32, device)?,
        Tensor::new(rank as f64 - 0.5, &Device::Cpu)?,
    ])
}

/// Everything that a collective exchanges, as numbers.
fn exchanged(ranks: &SharedCollective, device: &Device) -> CollectiveResult<Vec<Vec<f64>>> {
    let own = tensors(ranks.rank(), device)?;
    let mut found = Vec::new();
    for reduction in [Reduction::Sum, Reduction::Max, Reduction::Min] {
        found.push(ranks.all_reduce(&own, reduction)?);
    }
    let started = [ranks.start_all_reduce(own[..3].to_vec(), Reduction::Sum)?];
    let second = ranks.start_all_reduce(vec![own[3].clone()], Reduction::Max)?;
    let length = Tensor::new(&[7 + ranks.rank() as i64], device)?;
    found.push(ranks.broadcast(&own, 1)?);
    found.push(vec![
        ranks.all_gather(&own[0])?,
        ranks.all_gather(&own[1])?,
        ranks.all_gather(&own[4])?,
        ranks.all_gather(&length)?,
    ]);
    for started in started {
        found.push(started.finish()?);
    }
    found.push(second.finish()?);
    ranks.wait_for_all()?;
    let alike = |(result, tensor): (&Tensor, &Tensor)| {
        assert_eq!((result.dims(), result.dtype()), (tensor.dims(), tensor.dtype()));
        assert!(result.device().same_device(tensor.device()));
    };
    found[..4].iter().filter(|results| results.len() == own.len()).for_each(|r| r.iter().zip(&own).for_each(alike));
    Ok(found.iter().flatten().map(numbers).collect::<candle_core::Result<_>>()?)
}

/// NCCL's own calls, also where there is a single GPU.
#[test]
fn a_rank_alone_gets_back_what_it_gives() {
    let _alone = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let device = open(0).unwrap();
    let ranks = connect_alone(&new_id().unwrap(), 0, 1, &device, TIMEOUT).unwrap();
    let own = tensors(0, &device).unwrap();
    let of = |tensors: &[Tensor]| tensors.iter().map(numbers).collect::<candle_core::Result<Vec<_>>>().unwrap();
    for reduction in [Reduction::Sum, Reduction::Max, Reduction::Min] {
        assert_eq!(of(&ranks.all_reduce(&own, reduction).unwrap()), of(&own), "{reduction:?}");
    }
    assert_eq!(of(&ranks.broadcast(&own, 0).unwrap()), of(&own));
    assert_eq!(of(&[ranks.all_gather(&own[1]).unwrap()]), of(&own[1..2]));
    ranks.wait_for_all().unwrap();
}

#[test]
fn exchanges_are_those_through_the_host() {
    let Some(found) = on_two(|ranks, device| {
        let through_host = exchanged(&ranks, device)?;
        let through_nccl = exchanged(&connect(ranks.clone(), device, TIMEOUT)?, device)?;
        // Without another collective, tensors in host memory take the way through the GPU.
        let own = if ranks.is_first() { new_id()? } else { [0; super::ID_BYTES] };
        let id = ranks.broadcast(&[Tensor::new(&own[..], &Device::Cpu)?], 0)?[0].to_vec1::<u8>()?;
        let id = id.try_into().map_err(|_| Error::internal("another length"))?;
        let alone = exchanged(&connect_alone(&id, ranks.rank(), ranks.size(), device, TIMEOUT)?, device)?;
        Ok([through_host, through_nccl, alone])
    }) else {
        return;
    };
    let found = found.unwrap();
    // The sum of two numbers in f32 is that in f64, rounded.
    for [through_host, through_nccl, alone] in &found {
        assert_eq!(through_host, through_nccl);
        assert_eq!(through_host, alone);
    }
    assert_eq!(found[0], found[1]);
}

#[test]
fn a_rank_that_fails_is_named_and_ends_the_exchange_of_the_other() {
    let start = Instant::now();
    let Some(found) = on_two(|ranks, device| {
        let ranks = connect(ranks, device, TIMEOUT)?;
        match ranks.rank() {
            0 => {
                std::thread::sleep(Duration::from_millis(300));
                Err(Error::internal("this rank fails"))
            }
            // The other one already waits on its GPU.
            _ => Ok(ranks.all_reduce(&[Tensor::ones(5, DType::F32, device)?], Reduction::Sum).map(|_| ())?),
        }
    }) else {
        return;
    };
    // Well before the time limit: the watch has seen the failure.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let failure = found.unwrap_err();
    assert!(matches!(&failure.cause, FailureCause::Error(error) if error.to_string().contains("this rank fails")));
    assert_eq!(failure.rank, 0);
}

#[test]
fn a_rank_that_does_not_come_is_not_awaited_for_ever() {
    let start = Instant::now();
    let Some(found) = on_two(|ranks, device| {
        if !ranks.is_first() {
            return Ok(String::new());
        }
        let connected = connect_alone(&new_id()?, 0, 2, device, Duration::from_secs(1));
        Ok(connected.err().map(|error| error.to_string()).unwrap_or_default())
    }) else {
        return;
    };
    let errors = found.unwrap();
    assert!(errors[0].contains("connection between processes did not finish within 1 s"), "{errors:?}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// On the stand-in in its lazy mode, a stream does its work when somebody waits for it: here, nobody does in time.
#[test]
fn an_exchange_that_takes_too_long_is_given_up() {
    if std::env::var_os("STANDIN_LAZY").is_none() {
        eprintln!("skipped: exchanges are done at once");
        return;
    }
    let Some(found) = on_two(|ranks, device| {
        // Each look of the watch lets the stand-in do a part of the work.
        let connected = connect(ranks.clone(), device, Duration::from_millis(150))?;
        let started = connected.start_all_reduce(vec![Tensor::ones(5, DType::F32, device)?], Reduction::Sum)?;
        std::thread::sleep(Duration::from_secs(1));
        let (finished, next) = (started.finish(), connected.all_gather(&Tensor::ones(5, DType::F32, device)?));
        ranks.wait_for_all()?;
        assert!(next.is_err());
        Ok(finished.err().map(|error| error.to_string()).unwrap_or_default())
    }) else {
        return;
    };
    let errors = found.unwrap();
    assert!(errors.iter().all(|error| !error.is_empty()), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("did not finish within")), "{errors:?}");
}
