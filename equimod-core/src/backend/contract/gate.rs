//! Updates that depend on a flag on the device.

use candle_core::{DType, Tensor, Var};

use crate::{Result, host};

/// Decision whether parameters are updated. On a device, it is a flag that the host does not read: the update is always
/// computed, and undone if the flag is 0.
#[derive(Clone, Debug, Default)]
pub enum Gate {
    /// Updates are applied.
    #[default]
    Open,
    /// Updates are not applied.
    Closed,
    /// Updates are applied if this scalar (u8) is not 0.
    Flag(Tensor),
}

impl Gate {
    /// Gate of a flag, a scalar `[]` that is 0 or 1.
    ///
    /// # Errors
    ///
    /// If the flag is no scalar.
    pub fn new(flag: &Tensor) -> Result<Self> {
        Ok(match host::at_hand(flag)? {
            Some(0.0) => Self::Closed,
            Some(_) => Self::Open,
            None => Self::Flag(flag.to_dtype(DType::U8)?),
        })
    }

    /// Runs `update`, which changes `vars` in place, unless the gate is closed.
    ///
    /// # Errors
    ///
    /// If `update` or a tensor operation fails.
    pub fn apply(&self, vars: &[&Var], update: impl FnOnce() -> candle_core::Result<()>) -> candle_core::Result<()> {
        match self {
            Self::Open => update(),
            Self::Closed => Ok(()),
            Self::Flag(flag) => {
                let before =
                    vars.iter().map(|var| var.as_detached_tensor().copy()).collect::<candle_core::Result<Vec<_>>>()?;
                update()?;
                for (var, before) in vars.iter().zip(before) {
                    let after = var.as_detached_tensor();
                    var.set(&flag.broadcast_as(after.shape())?.where_cond(&after, &before)?)?;
                }
                Ok(())
            }
        }
    }
}

/// Flag whether all `scalars`, `[]` each, are finite: a scalar (u8), 1 or 0, on the device of the first.
///
/// # Errors
///
/// If there is no scalar, or a tensor operation fails.
pub fn all_finite(scalars: &[&Tensor]) -> candle_core::Result<Tensor> {
    let mut flags = scalars.iter().map(|scalar| {
        let scalar = scalar.detach().reshape(())?;
        // 0 times infinity or NaN is NaN, which is not equal to 0.
        (scalar * 0.0)?.eq(0.0)
    });
    let Some(first) = flags.next() else { candle_core::bail!("there is no scalar to check") };
    let first = first?;
    flags.try_fold(first, |all, flag| &all * flag?.to_device(all.device())?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn scalar(value: f32) -> Tensor {
        Tensor::new(value, &Device::Cpu).unwrap()
    }

    #[test]
    fn one_value_that_is_not_finite_closes_the_gate() {
        for (values, open) in [
            ([1.0, -2.0], true),
            ([f32::MAX, 0.0], true),
            ([f32::NAN, 0.0], false),
            ([0.0, f32::INFINITY], false),
            ([f32::NEG_INFINITY, 0.0], false),
        ] {
            let values = values.map(scalar);
            let flag = all_finite(&[&values[0], &values[1]]).unwrap();
            assert_eq!(matches!(Gate::new(&flag).unwrap(), Gate::Open), open, "{values:?}");
        }
    }

    #[test]
    fn an_update_behind_a_closed_gate_leaves_no_trace() {
        let (one, zero) = (Tensor::new(1u8, &Device::Cpu).unwrap(), Tensor::new(0u8, &Device::Cpu).unwrap());
        for (gate, want) in [(Gate::Open, 5.0), (Gate::Closed, 1.0), (Gate::Flag(one), 5.0), (Gate::Flag(zero), 1.0)] {
            let var = Var::from_slice(&[1f32, 1.0], 2, &Device::Cpu).unwrap();
            let update = || var.set(&Tensor::new(&[5f32, 5.0], &Device::Cpu)?);
            gate.apply(&[&var], update).unwrap();
            assert_eq!(var.to_vec1::<f32>().unwrap(), [want; 2], "{gate:?}");
        }
    }
}
