//! Decisions of a training loop that all processes must take alike.

use candle_core::{Device, Tensor};

use crate::collective::{Collective, Reduction, check_number};
use crate::{Result, host};

/// State of the training loop on one process, or, after [`reach`](Self::reach), on all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Whether the run has to stop: on all processes as soon as on one.
    pub stop: bool,
    /// Whether there is another batch: only if every process has one.
    pub has_batch: bool,
}

impl Agreement {
    /// The state on which all processes agree, through one all-reduce of scalars on `device` and one read from it.
    /// With one process nothing is exchanged.
    ///
    /// # Errors
    ///
    /// If communication or the transfer from the device fails.
    pub fn reach(self, collective: &dyn Collective, device: &Device) -> Result<Self> {
        if collective.size() == 1 {
            return Ok(self);
        }
        // The minimum of "has a batch" is the maximum of "has none".
        let flags = [self.stop, !self.has_batch];
        let flags =
            flags.iter().map(|&flag| Tensor::new(u8::from(flag), device)).collect::<candle_core::Result<Vec<_>>>()?;
        let reduced = collective.all_reduce(&flags, Reduction::Max)?;
        check_number(&reduced, flags.len())?;
        let values = host::read(&reduced.iter().collect::<Vec<_>>())?;
        Ok(Self { stop: values[0] != 0.0, has_batch: values[1] == 0.0 })
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
