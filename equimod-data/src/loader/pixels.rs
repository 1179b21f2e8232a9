//! Images of one size as bytes.

use crate::image::{Image, Size};
use crate::{Error, Result};

/// Images of one size: `count` × height × width × 3 bytes, contiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Number of images.
    pub count: usize,
    /// Size of each image, in pixels.
    pub size: Size,
    /// Bytes of the images, row by row, in the order red, green, blue.
    pub bytes: Vec<u8>,
}

impl Pixels {
    pub(super) fn empty(size: Size, capacity: usize) -> Self {
        Self { count: 0, size, bytes: Vec::with_capacity(capacity * size.area() * 3) }
    }

    pub(super) fn push(&mut self, image: &Image) -> Result<()> {
        if image.size() != self.size {
            return Err(Self::of_another_size(image.size(), self.size));
        }
        self.bytes.extend_from_slice(image.pixels());
        self.count += 1;
        Ok(())
    }

    /// Error of a view of `size` among views of the size `wanted`.
    pub(super) fn of_another_size(size: Size, wanted: Size) -> Error {
        Error::Config(format!("a view is {size} instead of {wanted}; end the policy with one size"))
    }
}
