//! Views as data: a resampled part of an image, and operations on its pixels.
//!
//! A plan says everything that makes a view out of an image, so that another device can make it. [`ViewPlan::make`]
//! makes it on the CPU, bit for bit like the augmentations that it was planned from.

use crate::blur::gaussian_blur;
use crate::color;
use crate::image::{Image, Size};
use crate::rectangle::Rectangle;
use crate::resample::{Filter, Weights, center_window, resize_window, shorter_side};

/// An operation on the pixels of a view, which keeps its size.
#[derive(Clone, Debug, PartialEq)]
pub enum PixelOperation {
    /// Mirrors left and right.
    HorizontalFlip,
    /// Mirrors top and bottom.
    VerticalFlip,
    /// Scales the brightness by a factor.
    Brightness(f32),
    /// Scales the contrast by a factor.
    Contrast(f32),
    /// Scales the saturation by a factor.
    Saturation(f32),
    /// Shifts the hue by a share of the full circle.
    Hue(f32),
    /// Replaces all channels by the luminance.
    Grayscale,
    /// Inverts values at or above a threshold.
    Solarize(u8),
    /// Keeps this number of upper bits of every value.
    Posterize(u8),
    /// Gaussian blur.
    Blur {
        /// Side of the kernel in pixels, odd.
        kernel: usize,
        /// Standard deviation in pixels.
        sigma: f32,
    },
    /// Fills a rectangle of the view.
    Fill {
        /// The rectangle.
        part: Rectangle,
        /// Red, green, blue.
        color: [u8; 3],
    },
}

impl PixelOperation {
    /// Applies the operation on the CPU.
    pub(crate) fn apply(&self, mut image: Image) -> Image {
        match *self {
            Self::HorizontalFlip => image.flip_horizontally(),
            Self::VerticalFlip => image.flip_vertically(),
            Self::Brightness(factor) => color::brightness(&mut image, factor),
            Self::Contrast(factor) => color::contrast(&mut image, factor),
            Self::Saturation(factor) => color::saturation(&mut image, factor),
            Self::Hue(shift) => color::hue(&mut image, shift),
            Self::Grayscale => color::grayscale(&mut image),
            Self::Solarize(threshold) => color::solarize(&mut image, threshold),
            Self::Posterize(bits) => color::posterize(&mut image, bits),
            Self::Blur { kernel, sigma } => return gaussian_blur(&image, kernel, sigma),
            Self::Fill { part, color } => color::fill(&mut image, part, color),
        }
        image
    }
}

/// How a view is made from an image: the rectangle `window` of the part `part` resized to `size`, then `operations`.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewPlan {
    /// Part of the image.
    pub part: Rectangle,
    /// Size to which the part is resized.
    pub size: Size,
    /// Rectangle of the resized part that becomes the view.
    pub window: Rectangle,
    /// Interpolation filter.
    pub filter: Filter,
    /// Operations on the pixels, in order.
    pub operations: Vec<PixelOperation>,
}

impl ViewPlan {
    /// Plan that leaves an image of `size` unchanged.
    pub fn unchanged(size: Size) -> Self {
        let whole = Rectangle::whole(size);
        Self { part: whole, size, window: whole, filter: Filter::Bilinear, operations: Vec::new() }
    }

    /// Plan that resizes the shorter side of an image of `size` to `side`, then crops the center square of `crop`;
    /// `None` if the square does not fit, and has to be padded.
    pub fn center_crop(size: Size, side: usize, crop: usize, filter: Filter) -> Option<Self> {
        let resized = shorter_side(size, side);
        let window = center_window(resized, crop)?;
        Some(Self { size: resized, window, filter, ..Self::unchanged(size) })
    }

    /// Plan that crops the rectangle `part` of an image of `size` and resizes it to `target`.
    pub fn crop(size: Size, part: Rectangle, target: Size, filter: Filter) -> Self {
        let window = Rectangle::whole(target);
        Self { part: part.within(size), size: target, window, filter, operations: Vec::new() }
    }

    /// Size of the view.
    pub fn output_size(&self) -> Size {
        self.window.size()
    }

    /// Resampling weights along the rows and along the columns of `part`: those of the view's columns, and those of its
    /// rows.
    pub fn weights(&self) -> (Weights, Weights) {
        let Rectangle { top, left, height, width } = self.window;
        let columns = Weights::new(self.part.width, self.size.width, left..left + width, self.filter);
        let rows = Weights::new(self.part.height, self.size.height, top..top + height, self.filter);
        (columns, rows)
    }

    /// Makes the view on the CPU. Rectangles are clipped to the image.
    pub fn make(&self, image: &Image) -> Image {
        let resized = resize_window(image, self.part.within(image.size()), self.size, self.window, self.filter);
        self.operations.iter().fold(resized, |view, operation| operation.apply(view))
    }
}
