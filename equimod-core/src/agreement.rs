//! Decisions that all processes of a run take alike, and facts that they share, through exchanges of host memory.

use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};

use crate::collective::{Collective, CollectiveError, Reduction, check_number};
use crate::{Result, host};

/// State of the training loop on one process, or, after [`reach`](Self::reach), on all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Whether the run has to stop: on all processes as soon as on one.
    pub stop: bool,
    /// Whether there is another batch: only if every process has one.
    pub has_batch: bool,
    /// Whether a process has something to report to the others.
    pub news: bool,
}

impl Agreement {
    /// The state on which all processes agree, through one all-reduce of scalars in host memory. With one process
    /// nothing is exchanged.
    ///
    /// # Errors
    ///
    /// If communication fails.
    pub fn reach(self, collective: &dyn Collective) -> Result<Self> {
        if collective.size() == 1 {
            return Ok(self);
        }
        // The minimum of "has a batch" is the maximum of "has none".
        let flags = [self.stop, !self.has_batch, self.news].map(u8::from);
        let flags =
            flags.iter().map(|&flag| Tensor::new(flag, &Device::Cpu)).collect::<candle_core::Result<Vec<_>>>()?;
        let reduced = collective.all_reduce(&flags, Reduction::Max)?;
        check_number(&reduced, flags.len())?;
        let values = host::read(&reduced.iter().collect::<Vec<_>>())?;
        let [stop, has_none, news] = [0, 1, 2].map(|place| values[place] != 0.0);
        Ok(Self { stop, has_batch: !has_none, news })
    }
}

/// The flag of numbers that are finite on every process: the minimum of `flag`, a scalar that is 0 or 1, over all
/// processes. It stays on its device. With one process it is `flag` itself.
///
/// # Errors
///
/// If communication fails.
pub fn finite_on_all(flag: Tensor, collective: &dyn Collective) -> Result<Tensor> {
    if collective.size() == 1 {
        return Ok(flag);
    }
    let mut reduced = collective.all_reduce(&[flag], Reduction::Min)?;
    check_number(&reduced, 1)?;
    Ok(reduced.swap_remove(0))
}

/// The bytes of every process, in the order of ranks; their numbers may differ.
///
/// # Errors
///
/// If communication fails.
pub fn gather_bytes(bytes: &[u8], collective: &dyn Collective) -> Result<Vec<Vec<u8>>> {
    if collective.size() == 1 {
        return Ok(vec![bytes.to_vec()]);
    }
    let length = Tensor::new(bytes.len() as i64, &Device::Cpu)?;
    let lengths = collective.all_gather(&length.reshape(1)?)?;
    let lengths: Vec<usize> = (0..collective.size())
        .map(|rank| Ok(host::read(&[&lengths.get(rank)?])?[0] as usize))
        .collect::<Result<_>>()?;
    // Tensors have the same shape on all ranks, and at least one value.
    let mut padded = bytes.to_vec();
    padded.resize(lengths.iter().copied().max().unwrap_or(0).max(1), 0);
    let all = host::bytes(&collective.all_gather(&Tensor::new(padded.as_slice(), &Device::Cpu)?)?)?;
    Ok(all.chunks(padded.len()).zip(lengths).map(|(bytes, length)| bytes[..length.min(bytes.len())].to_vec()).collect())
}

/// Checks that each fact, a name and a value, is the same on all processes, by comparing hashes.
///
/// # Errors
///
/// If one differs, or communication fails.
pub fn same_on_all(facts: &[(&str, &str)], collective: &dyn Collective) -> Result<()> {
    let hashes: Vec<u8> = facts.iter().flat_map(|(_, value)| Sha256::digest(value.as_bytes())).collect();
    let all = gather_bytes(&hashes, collective)?;
    let length = hashes.len() / facts.len().max(1);
    for (place, (name, _)) in facts.iter().enumerate() {
        let of_rank = |hashes: &Vec<u8>| hashes.get(place * length..(place + 1) * length).map(<[u8]>::to_vec);
        if let Some(rank) = all.iter().position(|hashes| of_rank(hashes) != all.first().and_then(of_rank)) {
            let what = format!("the {name} of process {rank} is not that of process 0");
            return Err(CollectiveError::Mismatch { operation: "the start of the run", what }.into());
        }
    }
    Ok(())
}
