//! Variable-length numbers, which Thrift's compact protocol and Parquet's delta encoding share.

/// Bytes that are consumed from the front; methods return `None` if there are too few.
pub(super) struct Wire<'a>(pub &'a [u8]);

impl Wire<'_> {
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    /// Unsigned number: seven bits per byte, lowest first; the highest bit of the last byte is 0.
    pub fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Signed number: like [`unsigned`](Self::unsigned), with the sign in the lowest bit (zigzag encoding).
    pub fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn count(&mut self) -> Option<usize> {
        usize::try_from(self.unsigned()?).ok()
    }
}
