//! One-hot rows, computed on the device.

use candle_core::{DType, Device, Result, Tensor};

/// One-hot matrix `[rows, width]`, with a 1 in column `columns[i]` of row i. Only `columns` and the column indices are
/// transferred to the device.
///
/// # Errors
///
/// If a tensor operation fails.
pub fn one_hot(columns: Vec<u32>, width: usize, device: &Device, dtype: DType) -> Result<Tensor> {
    let rows = columns.len();
    let all = Tensor::arange(0, width as u32, device)?.unsqueeze(0)?;
    Tensor::from_vec(columns, (rows, 1), device)?.broadcast_eq(&all)?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_its_one() {
        let rows = one_hot(vec![2, 0], 3, &Device::Cpu, DType::F32).unwrap();
        assert_eq!(rows.to_vec2::<f32>().unwrap(), [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]);
    }
}
