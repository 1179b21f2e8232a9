//! Tensors as bytes of messages.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};

/// Shape and type of a tensor.
pub struct Form {
    pub dims: Vec<usize>,
    pub dtype: DType,
}

impl Form {
    /// The form of a tensor.
    pub fn of(tensor: &Tensor) -> Self {
        Self { dims: tensor.dims().to_vec(), dtype: tensor.dtype() }
    }

    /// Number of values.
    pub fn values(&self) -> usize {
        self.dims.iter().product()
    }

    /// The values that part `part` of `parts` equal parts holds.
    pub fn part(&self, part: usize, parts: usize) -> Range<usize> {
        let values = self.values();
        values * part / parts..values * (part + 1) / parts
    }
}

/// Appends the values in `range` of a contiguous tensor in host memory.
pub fn append(bytes: &mut Vec<u8>, tensor: &Tensor, range: Range<usize>) -> Result<()> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (storage.deref(), layout.contiguous_offsets()) else {
        bail!("a message needs contiguous tensors in host memory")
    };
    let range = start + range.start..(start + range.end).min(end);
    match storage {
        CpuStorage::U8(values) => bytes.extend_from_slice(&values[range]),
        CpuStorage::U32(values) => bytes.extend_from_slice(as_bytes(&values[range])),
        CpuStorage::I64(values) => bytes.extend_from_slice(as_bytes(&values[range])),
        CpuStorage::BF16(values) => bytes.extend_from_slice(as_bytes(&values[range])),
        CpuStorage::F16(values) => bytes.extend_from_slice(as_bytes(&values[range])),
        CpuStorage::F32(values) => bytes.extend_from_slice(as_bytes(&values[range])),
        CpuStorage::F64(values) => bytes.extend_from_slice(as_bytes(&values[range])),
        _ => bail!("tensors of {} cannot be sent", tensor.dtype().as_str()),
    }
    Ok(())
}

/// Tensors of the forms, each with the values of its range, from the bytes of a message.
pub fn tensors(mut bytes: &[u8], forms: &[Form], range: impl Fn(&Form) -> Range<usize>) -> Result<Vec<Tensor>> {
    let mut all = Vec::with_capacity(forms.len());
    for form in forms {
        let values = range(form).len();
        let Some((own, rest)) = bytes.split_at_checked(values * form.dtype.size_in_bytes()) else {
            bail!("a message is too short")
        };
        all.push(Tensor::from_raw_buffer(own, form.dtype, &[values], &Device::Cpu)?);
        bytes = rest;
    }
    Ok(all)
}

/// A message with a description in front of its content.
pub fn described(description: &str, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + description.len() + length);
    bytes.extend_from_slice(&(description.len() as u64).to_le_bytes());
    bytes.extend_from_slice(description.as_bytes());
    bytes
}

/// The description in front of a message, and the content.
pub fn split(message: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = message.split_first_chunk::<8>()?;
    let (description, content) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some((std::str::from_utf8(description).ok()?, content))
}

/// The bytes of numbers.
fn as_bytes<T: Copy>(values: &[T]) -> &[u8] {
    // SAFETY: the slice is valid for its size in bytes, and numbers have no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_tensors_survive_a_message() {
        let wide = Tensor::arange(0f64, 10.0, &Device::Cpu).unwrap().reshape((2, 5)).unwrap();
        let all = [wide.clone(), wide.to_dtype(DType::BF16).unwrap(), wide.to_dtype(DType::I64).unwrap()];
        let forms: Vec<Form> = all.iter().map(Form::of).collect();
        for parts in 1..4 {
            let mut found = vec![Vec::new(); all.len()];
            for part in 0..parts {
                let mut message = described("about", 0);
                for (tensor, form) in all.iter().zip(&forms) {
                    append(&mut message, tensor, form.part(part, parts)).unwrap();
                }
                let (description, content) = split(&message).unwrap();
                assert_eq!(description, "about");
                for (found, tensor) in found.iter_mut().zip(tensors(content, &forms, |f| f.part(part, parts)).unwrap())
                {
                    found.extend(tensor.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap());
                }
                assert!(tensors(&content[1..], &forms, |f| f.part(part, parts)).is_err());
            }
            assert_eq!(found, vec![(0..10).map(f64::from).collect::<Vec<_>>(); 3]);
        }
    }

    #[test]
    fn a_damaged_message_has_no_description() {
        for bytes in [&[][..], &[1, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 0xff], &[0xff; 9]] {
            assert!(split(bytes).is_none(), "{bytes:?}");
        }
    }
}
