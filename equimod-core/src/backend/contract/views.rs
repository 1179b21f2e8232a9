//! Views that a device makes from original images.

/// Weights that resample one axis, in fixed point with 22 fractional bits.
#[derive(Clone, Copy, Debug)]
pub struct Resampling<'a> {
    /// First input pixel and number of weights, for each output pixel.
    pub bounds: &'a [(usize, usize)],
    /// Weights, `slots` for each output pixel; empty if every output pixel is its first input pixel.
    pub weights: &'a [i32],
    /// Slots of each output pixel.
    pub slots: usize,
}

/// An operation on the 8-bit pixels of a view.
#[derive(Clone, Debug, PartialEq)]
pub enum PixelOperation {
    /// Mirrors left and right.
    HorizontalFlip,
    /// Mirrors top and bottom.
    VerticalFlip,
    /// Blends black with the view by a factor.
    Brightness(f32),
    /// Blends the mean luminance with the view by a factor.
    Contrast(f32),
    /// Blends the luminance of each pixel with the view by a factor.
    Saturation(f32),
    /// Adds steps of 1/255 of the circle to the hue.
    Hue(u8),
    /// Replaces all channels by the luminance.
    Grayscale,
    /// Inverts values at or above a threshold.
    Solarize(u8),
    /// Keeps the bits of every value that a mask has.
    Mask(u8),
    /// Convolves rows, then columns, with these weights, whose number is odd; edges are reflected.
    Blur(Vec<f32>),
    /// Fills the rectangle at (top, left) of (height, width) with red, green and blue.
    Fill {
        /// Row of the upper edge and column of the left edge.
        corner: (usize, usize),
        /// Rows and columns.
        size: (usize, usize),
        /// Red, green, blue.
        color: [u8; 3],
    },
}

/// A view: a part of an original, resampled along its rows and then along its columns, with operations on the result.
#[derive(Clone, Debug)]
pub struct ViewProgram<'a> {
    /// Place of the part's first byte among the bytes of all originals.
    pub start: usize,
    /// Bytes from a row of the original to the next.
    pub stride: usize,
    /// Resampling to the columns of the view.
    pub columns: Resampling<'a>,
    /// Resampling to the rows of the view.
    pub rows: Resampling<'a>,
    /// Operations, in order.
    pub operations: Vec<PixelOperation>,
}

/// Views of one size.
#[derive(Clone, Debug)]
pub struct ViewPrograms<'a> {
    /// Height and width, in pixels.
    pub size: (usize, usize),
    /// The views, in order.
    pub views: Vec<ViewProgram<'a>>,
}

impl ViewProgram<'_> {
    /// Whether a view of `size` reads and writes within `bytes` originals.
    pub fn fits(&self, (height, width): (usize, usize), bytes: usize) -> bool {
        let ((_, last_row), (_, last_column)) = (self.rows.reach(), self.columns.reach());
        let inside = last_row > 0 && self.start + (last_row - 1) * self.stride + last_column * 3 <= bytes;
        inside
            && last_column * 3 <= self.stride
            && self.rows.is_sound(height)
            && self.columns.is_sound(width)
            && self.operations.iter().all(|operation| operation.fits((height, width)))
    }
}

impl Resampling<'_> {
    /// Range of the input pixels that are read: the lowest, and one after the highest.
    pub fn reach(&self) -> (usize, usize) {
        let first = self.bounds.iter().map(|bounds| bounds.0).min();
        (first.unwrap_or(0), self.bounds.iter().map(|bounds| bounds.0 + bounds.1).max().unwrap_or(0))
    }

    fn is_sound(&self, outputs: usize) -> bool {
        let counts = self.bounds.iter().all(|&(_, count)| (1..=self.slots.max(1)).contains(&count));
        self.bounds.len() == outputs && self.weights.len() == outputs * self.slots && counts
    }
}

impl PixelOperation {
    fn fits(&self, (height, width): (usize, usize)) -> bool {
        match self {
            Self::Blur(weights) => weights.len() % 2 == 1,
            Self::Fill { corner, size, .. } => corner.0 + size.0 <= height && corner.1 + size.1 <= width,
            _ => true,
        }
    }
}
