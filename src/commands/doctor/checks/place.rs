//! Devices and element types in which a check computes, with the same inputs in all of them.

use candle_core::{DType, Device, Result, Tensor};

/// A device and an element type.
pub struct Place<'a> {
    /// Device of the tensors.
    pub device: &'a Device,
    /// Element type of the tensors.
    pub dtype: DType,
    /// Element type to which inputs are rounded first, so that a reference in f64 gets the same values.
    pub inputs: DType,
}

impl Place<'_> {
    /// Irregular values in ±1.
    pub fn values(&self, shape: &[usize], seed: u64) -> Result<Tensor> {
        self.put(&values(shape, seed)?)
    }

    /// A tensor of the CPU in f64, rounded and moved here.
    pub fn put(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.to_dtype(self.inputs)?.to_dtype(self.dtype)?.to_device(self.device)
    }

    /// Coefficients of batch norm, which are f32 for inputs in bf16.
    pub fn put_coefficients(&self, tensor: &Tensor) -> Result<Tensor> {
        let dtype = if self.dtype == DType::BF16 { DType::F32 } else { self.dtype };
        tensor.to_dtype(DType::F32)?.to_dtype(dtype)?.to_device(self.device)
    }

    /// As [`put`](Self::put), but on the CPU in f64: the values from which every place starts.
    pub fn rounded(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.to_dtype(self.inputs)?.to_dtype(DType::F64)
    }
}

/// Irregular values in ±1 that depend on nothing but the shape and the seed, on the CPU in f64.
pub fn values(shape: &[usize], seed: u64) -> Result<Tensor> {
    let value = |i: usize| {
        // SplitMix64 (Steele et al., 2014).
        let mut z = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed.wrapping_mul(0xD129_0D3C_5B5B_7F1D);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    Tensor::from_vec((0..shape.iter().product()).map(value).collect::<Vec<f64>>(), shape, &Device::Cpu)
}

/// All values of a tensor, in f64 on the host.
pub fn vector(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// ‖got − want‖ / ‖want‖, or ‖got‖ if all wanted values are 0; infinite if the numbers of values differ.
pub fn distance(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let (off, size) = (norm(&mut got.iter().zip(want).map(|(a, b)| a - b)), norm(&mut want.iter().copied()));
    if size > 0.0 { off / size } else { off }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_relative_and_never_hide_a_value() {
        assert_eq!(distance(&[3.0, 4.5], &[3.0, 4.0]), 0.1);
        assert_eq!(distance(&[0.5], &[0.0]), 0.5);
        assert_eq!(distance(&[1.0], &[1.0, 1.0]), f64::INFINITY);
        assert!(distance(&[f64::NAN], &[1.0]).is_nan());
    }

    #[test]
    fn places_start_from_the_same_values() {
        let device = Device::Cpu;
        for inputs in [DType::F32, DType::BF16] {
            let here = Place { device: &device, dtype: inputs, inputs };
            let exact = Place { dtype: DType::F64, ..here };
            let of = |place: &Place| vector(&place.values(&[5, 7], 3).unwrap()).unwrap();
            assert_eq!(of(&here), of(&exact));
            assert!(of(&here).iter().all(|value| value.abs() <= 1.0));
        }
    }
}
