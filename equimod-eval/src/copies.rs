//! Batches that several copies of a network share, each on a device of its own.

use std::panic::resume_unwind;
use std::thread;

use equimod_core::Model;
use rayon::ThreadPoolBuilder;

use crate::Result;
use crate::error::refuse;

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
