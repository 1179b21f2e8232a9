//! Which test images a run predicts right, as short text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Which test images are predicted right, one bit an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// Index of the measure whose value is the share of right images.
    pub measure: usize,
    /// Number of images.
    pub images: usize,
    /// Bits in base64, the first image in the lowest bit of the first byte.
    pub bits: String,
}

impl Hits {
    /// Packs the bits of a measure.
    pub fn pack(measure: usize, right: &[bool]) -> Self {
        let byte = |chunk: &[bool]| chunk.iter().enumerate().fold(0u8, |byte, (i, &one)| byte | (u8::from(one) << i));
        let bytes: Vec<u8> = right.chunks(8).map(byte).collect();
        Self { measure, images: right.len(), bits: STANDARD.encode(bytes) }
    }

    /// 1 for each image that is predicted right, else 0; `None` if the text does not hold a bit for each image.
    pub fn unpack(&self) -> Option<Vec<f64>> {
        let bytes = STANDARD.decode(&self.bits).ok()?;
        let bit = |i: usize| Some(f64::from((bytes.get(i / 8)? >> (i % 8)) & 1));
        (0..self.images).map(bit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_in_order() {
        let right: Vec<bool> = (0..19).map(|i| i % 3 == 0).collect();
        let hits = Hits::pack(2, &right);
        let expected: Vec<f64> = right.iter().map(|&one| f64::from(u8::from(one))).collect();
        assert_eq!((hits.unpack().unwrap(), hits.bits.len()), (expected, 4));
        assert_eq!(Hits { images: 25, ..hits }.unpack(), None);
    }
}
