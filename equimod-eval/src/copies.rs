//! Copies of a network on several devices, and batches that they share.

use std::ops::Deref;
use std::panic::resume_unwind;
use std::thread;

use candle_core::{DType, Device, Tensor};
use equimod_core::Model;
use rayon::ThreadPoolBuilder;

use crate::Result;
use crate::error::refuse;

/// Copies of a network, each on a device of its own.
///
/// They are made and dropped on other threads: memory of a CUDA device is freed in the context of its device, and the
/// calling thread keeps its own.
#[derive(Default)]
pub struct Copies(Vec<Model>);

impl Copies {
    /// Makes a copy for each of the devices.
    ///
    /// # Errors
    ///
    /// If a copy cannot be made.
    pub fn on(devices: &[Device], make: impl Fn(&Device) -> equimod_core::Result<Model> + Sync) -> Result<Self> {
        let make = &make;
        let made = thread::scope(|scope| {
            let started: Vec<_> = devices.iter().map(|device| scope.spawn(move || make(device))).collect();
            let ended = started.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            ended.collect::<equimod_core::Result<Vec<_>>>()
        });
        Ok(Self(made?))
    }

    /// The network of `model` before training, on the devices of its `copies`.
    ///
    /// # Errors
    ///
    /// If a copy cannot be made.
    pub fn untrained(model: &Model, copies: &[Model]) -> Result<Self> {
        let devices: Vec<Device> = copies.iter().map(|copy| copy.params().device().clone()).collect();
        Self::on(&devices, |device| model.untrained(device))
    }
}

impl Deref for Copies {
    type Target = [Model];

    fn deref(&self) -> &[Model] {
        &self.0
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        for model in self.0.drain(..).filter(|model| model.params().device().is_cuda()) {
            let free = move || {
                // The first use of a device makes its context that of the thread.
                let _used = Tensor::zeros(1, DType::U8, model.params().device());
                drop(model);
            };
            if let Ok(thread) = thread::Builder::new().spawn(free) {
                let _ = thread.join();
            }
        }
    }
}

/// The results of `work` on every batch, in order. With several models, each takes every n-th batch on a thread with its
/// part of the compute threads. A batch stays whole, so that its result does not depend on the number of models.
///
/// # Errors
///
/// If the threads cannot be started, or the work on a batch fails.
pub fn shared<B: Sync, R: Send>(
    models: &[&Model],
    batches: &[B],
    work: impl Fn(&Model, &B) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let Some(model) = models.first() else { return Ok(Vec::new()) };
    if models.len() == 1 || batches.len() < 2 {
        return batches.iter().map(|batch| work(model, batch)).collect();
    }
    let threads = (rayon::current_num_threads() / models.len()).max(1);
    let of_model = |number: usize| -> Result<Vec<R>> {
        let pool = match ThreadPoolBuilder::new().num_threads(threads).build() {
            Ok(pool) => pool,
            Err(error) => return refuse(format!("the threads of a device cannot be started: {error}")),
        };
        let own = batches.iter().skip(number).step_by(models.len());
        pool.install(|| own.map(|batch| work(models[number], batch)).collect())
    };
    let of_model = &of_model;
    let shares = thread::scope(|scope| {
        let running: Vec<_> = (0..models.len()).map(|number| scope.spawn(move || of_model(number))).collect();
        let ended = running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let mut shares: Vec<_> = shares.into_iter().map(Vec::into_iter).collect();
    Ok((0..batches.len()).filter_map(|batch| shares[batch % models.len()].next()).collect())
}
