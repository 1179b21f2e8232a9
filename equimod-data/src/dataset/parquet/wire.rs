//! Numbers of variable length, which Thrift's compact protocol and Parquet's delta encoding share.

/// Bytes that are read from the front; `None` where they end too early.
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

    /// Seven bits in each byte, the lowest first; the last byte's highest bit is 0.
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

    /// As [`unsigned`](Self::unsigned), the sign in the lowest bit.
    pub fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn count(&mut self) -> Option<usize> {
        usize::try_from(self.unsigned()?).ok()
    }
}
