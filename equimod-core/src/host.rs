//! Transfers of scalars to the host, the only place where training waits for a device.
//!
//! Losses, norms and metrics stay on the device as scalars until [`read`] transfers many of them at once. `clippy.toml`
//! disallows candle's own transfers, such as `to_scalar`, in the rest of the crate.
#![allow(clippy::disallowed_methods)]

use std::cell::Cell;

use candle_core::{DType, Device, Tensor};

use crate::Result;

thread_local! {
    static READS: Cell<u64> = const { Cell::new(0) };
}

/// Values of scalars, `[]` or `[1]` each, of any element type, in one transfer from each device that holds some of
/// them.
///
/// # Errors
///
/// If a tensor holds more than one value, or the transfer fails.
pub fn read(scalars: &[&Tensor]) -> Result<Vec<f64>> {
    READS.set(READS.get() + 1);
    let mut values = vec![0.0; scalars.len()];
    let (near, mut far): (Vec<usize>, Vec<usize>) =
        (0..scalars.len()).partition(|&place| scalars[place].device().is_cpu());
    for place in near {
        values[place] = value(scalars[place])?;
    }
    while let Some(&first) = far.first() {
        let device = scalars[first].device();
        let (here, elsewhere): (Vec<usize>, Vec<usize>) =
            far.into_iter().partition(|&place| scalars[place].device().same_device(device));
        let widened = |&place: &usize| scalars[place].detach().reshape(())?.to_dtype(widest(device));
        let together = here.iter().map(widened).collect::<candle_core::Result<Vec<_>>>()?;
        let read = Tensor::stack(&together, 0)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        here.into_iter().zip(read).for_each(|(place, value)| values[place] = value);
        far = elsewhere;
    }
    Ok(values)
}

/// Value of a scalar in host memory; `None` for one that would have to be transferred.
///
/// # Errors
///
/// If the tensor holds more than one value.
pub fn at_hand(scalar: &Tensor) -> Result<Option<f64>> {
    if scalar.device().is_cpu() { value(scalar).map(Some) } else { Ok(None) }
}

/// The values of a tensor of bytes in host memory.
///
/// # Errors
///
/// If the tensor has another type.
pub(crate) fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    Ok(tensor.flatten_all()?.to_vec1::<u8>()?)
}

/// Widest float type of a device: f64, or f32 on Metal.
pub fn widest(device: &Device) -> DType {
    if device.is_metal() { DType::F32 } else { DType::F64 }
}

/// Number of calls of [`read`] by this thread so far.
pub fn reads() -> u64 {
    READS.get()
}

fn value(scalar: &Tensor) -> Result<f64> {
    Ok(scalar.detach().reshape(())?.to_dtype(DType::F64)?.to_scalar()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_of_every_type_are_read_at_once() {
        let before = reads();
        let scalars = [
            Tensor::new(0.5f64, &Device::Cpu).unwrap(),
            Tensor::new(&[0.25f32], &Device::Cpu).unwrap(),
            Tensor::new(7u8, &Device::Cpu).unwrap(),
            Tensor::new(f32::NAN, &Device::Cpu).unwrap(),
        ];
        let values = read(&scalars.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(values[..3], [0.5, 0.25, 7.0]);
        assert!(values[3].is_nan());
        assert_eq!(reads() - before, 1);
        assert_eq!(at_hand(&scalars[2]).unwrap(), Some(7.0));
        assert_eq!(reads() - before, 1);
        assert!(read(&[&Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap()]).is_err());
    }
}
