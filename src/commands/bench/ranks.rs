//! Measurements on several ranks.

use std::time::Duration;

use candle_core::Device;
use equimod_core::{RankThreads, SharedCollective, SingleProcess, run_ranks};

use crate::process::between_gpus::between_gpus;
use crate::process::failure::InWords;
use crate::process::launch::Launch;

/// Longest time that ranks wait for each other.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The result of `work` on the first of the ranks on `devices`, or of those of all processes; `None` if this process does
/// not have the first rank.
///
/// # Errors
///
/// The failure of the rank that failed first.
pub fn of_first<T: Send + 'static>(
    launch: &Launch,
    devices: Vec<Device>,
    work: impl Fn(&Device, SharedCollective) -> anyhow::Result<T> + Send + Sync + 'static,
) -> anyhow::Result<Option<T>> {
    if let Some(collective) = launch.collective(&devices[0], TIMEOUT)? {
        let first = collective.is_first();
        return Ok(Some(work(&devices[0], collective)?).filter(|_| first));
    }
    if let [device] = devices.as_slice() {
        return work(device, SingleProcess::shared()).map(Some);
    }
    let ranks = devices.len();
    let group = RankThreads { ranks, threads: rayon::current_num_threads() / ranks, timeout: TIMEOUT };
    let measured = run_ranks(group, move |collective| {
        let device = &devices[collective.rank()];
        work(device, between_gpus(collective, device, TIMEOUT)?)
    });
    Ok(measured.map_err(|failure| failure.in_words(ranks))?.into_iter().next())
}
