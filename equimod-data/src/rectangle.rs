//! Rectangles in images.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::image::Size;

/// A rectangle in the pixels of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rectangle {
    /// Row of the upper edge.
    pub top: usize,
    /// Column of the left edge.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl fmt::Display for Rectangle {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { top, left, height, width } = self;
        write!(f, "h {height} w {width}, y {top} x {left}")
    }
}

impl Rectangle {
    /// All of an image.
    pub fn whole(size: Size) -> Self {
        Self { top: 0, left: 0, height: size.height, width: size.width }
    }

    /// Height and width.
    pub fn size(&self) -> Size {
        Size { height: self.height, width: self.width }
    }

    /// The part of it that lies in an image of `size`; at least one pixel.
    pub fn within(&self, size: Size) -> Self {
        let (top, left) = (self.top.min(size.height - 1), self.left.min(size.width - 1));
        let height = self.height.clamp(1, size.height - top);
        Self { top, left, height, width: self.width.clamp(1, size.width - left) }
    }
}
