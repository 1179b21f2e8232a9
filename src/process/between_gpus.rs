//! Exchanges between the GPUs of a run: through NCCL, if the build has it.

use std::time::Duration;

use candle_core::Device;
#[cfg(feature = "nccl")]
use candle_core::Tensor;
use equimod_core::SharedCollective;
#[cfg(feature = "nccl")]
use equimod_core::{Reduction, nccl};

/// The collective through which a rank exchanges tensors of its device. Every rank has to call this.
///
/// # Errors
///
/// If NCCL cannot connect the ranks, or one is lost.
#[cfg(feature = "nccl")]
pub fn between_gpus(
    collective: SharedCollective,
    device: &Device,
    timeout: Duration,
) -> anyhow::Result<SharedCollective> {
    if collective.size() == 1 {
        return Ok(collective);
    }
    // All ranks have to do the same.
    let is_gpu = Tensor::new(&[u32::from(device.is_cuda())], &Device::Cpu)?;
    let all_are = collective.all_reduce(&[is_gpu], Reduction::Min)?;
    let all_are = all_are.iter().all(|all| all.to_vec1::<u32>().is_ok_and(|all| all == [1]));
    Ok(if all_are { nccl::connect(collective, device, timeout)? } else { collective })
}

/// The collective through which a rank exchanges tensors of its device.
///
/// # Errors
///
/// None.
#[cfg(not(feature = "nccl"))]
pub fn between_gpus(collective: SharedCollective, _: &Device, _: Duration) -> anyhow::Result<SharedCollective> {
    Ok(collective)
}
