//! Shapes of convolutions and pools.

use std::ops::Range;

use candle_core::{Result, bail};

/// Algorithms that a convolution may use. They differ in speed and rounding; each device knows some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvAlgorithms {
    /// Whether [Winograd's algorithm](crate::Execution::winograd) may be used on the CPU.
    pub winograd: bool,
    /// Whether factors may be rounded to TF32 on a CUDA device ([`Precision::Tf32`](crate::Precision::Tf32)).
    pub tf32: bool,
    /// Whether algorithms on a CUDA device are [chosen by their time](crate::Execution::autotune).
    pub autotune: bool,
    /// Whether convolutions on a CUDA device are [fused](crate::Execution::fused) with the operations around them.
    pub fused: bool,
}

impl Default for ConvAlgorithms {
    fn default() -> Self {
        Self { winograd: true, tf32: false, autotune: false, fused: true }
    }
}

impl ConvAlgorithms {
    /// The direct algorithm, without Winograd's.
    pub const DIRECT: Self = Self { winograd: false, tf32: false, autotune: false, fused: false };
}

/// Kernel, stride, padding and channel groups of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dGeometry {
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Stride along height and width.
    pub stride: usize,
    /// Zero padding on each side.
    pub padding: usize,
    /// Number of channel groups.
    pub groups: usize,
    /// Algorithms that may be used when they are faster.
    pub algorithms: ConvAlgorithms,
}

impl Conv2dGeometry {
    /// Height and width of the output for an input of `size` (height, width).
    ///
    /// # Errors
    ///
    /// If no window fits.
    pub fn out_size(&self, size: (usize, usize)) -> Result<(usize, usize)> {
        let along = |size: usize, kernel: usize| match (size + 2 * self.padding).checked_sub(kernel) {
            Some(rest) if self.stride > 0 && kernel > 0 => Ok(rest / self.stride + 1),
            _ => bail!(
                "a window of {kernel} with stride {} does not fit {size} pixels padded by {}",
                self.stride,
                self.padding
            ),
        };
        Ok((along(size.0, self.kernel.0)?, along(size.1, self.kernel.1)?))
    }
}

/// All dimensions of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Number of images N.
    pub batch: usize,
    /// Number of input channels C.
    pub in_channels: usize,
    /// Number of output channels O.
    pub out_channels: usize,
    /// Height and width of the input.
    pub in_size: (usize, usize),
    /// Height and width of the output.
    pub out_size: (usize, usize),
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Stride along height and width.
    pub stride: usize,
    /// Zero padding on each side.
    pub padding: usize,
    /// Number of channel groups.
    pub groups: usize,
    /// Algorithms that may be used.
    pub algorithms: ConvAlgorithms,
}

impl ConvShape {
    /// Dimensions of a convolution over images of `in_size` (height, width).
    ///
    /// # Errors
    ///
    /// If channels do not divide into the groups, a dimension is 0, or no window fits.
    pub fn new(
        batch: usize,
        in_channels: usize,
        out_channels: usize,
        in_size: (usize, usize),
        geometry: &Conv2dGeometry,
    ) -> Result<Self> {
        let Conv2dGeometry { kernel, stride, padding, groups, algorithms } = *geometry;
        if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            bail!("{in_channels} input and {out_channels} output channels do not divide into {groups} groups");
        }
        if batch * in_channels * out_channels * in_size.0 * in_size.1 == 0 {
            bail!(
                "a convolution needs images, channels and pixels, got {batch} × {in_channels} × {in_size:?} to \
                 {out_channels} channels"
            );
        }
        let out_size = geometry.out_size(in_size)?;
        Ok(Self { batch, in_channels, out_channels, in_size, out_size, kernel, stride, padding, groups, algorithms })
    }

    /// Shape of the input, `[N, C, H, W]`.
    pub fn in_dims(&self) -> [usize; 4] {
        [self.batch, self.in_channels, self.in_size.0, self.in_size.1]
    }

    /// Shape of the output, `[N, O, H', W']`.
    pub fn out_dims(&self) -> [usize; 4] {
        [self.batch, self.out_channels, self.out_size.0, self.out_size.1]
    }

    /// Shape of the weight, `[O, C/groups, kh, kw]`.
    pub fn weight_dims(&self) -> [usize; 4] {
        [self.out_channels, self.in_channels / self.groups, self.kernel.0, self.kernel.1]
    }

    /// Number of values of the input.
    pub fn inputs(&self) -> usize {
        self.in_dims().iter().product()
    }

    /// Number of values of the output.
    pub fn outputs(&self) -> usize {
        self.out_dims().iter().product()
    }
}

/// All dimensions of one pool over windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Side of the window.
    pub kernel: usize,
    /// Stride along height and width.
    pub stride: usize,
    /// Padding on each side, in pixels, which are never the maximum.
    pub padding: usize,
    /// Height and width of the input.
    pub in_size: (usize, usize),
    /// Height and width of the output.
    pub out_size: (usize, usize),
}

impl PoolShape {
    /// Rows of the input in the windows of output row `row`.
    pub fn rows(&self, row: usize) -> Range<usize> {
        self.window(row, self.in_size.0)
    }

    /// Columns of the input in the windows of output column `column`.
    pub fn columns(&self, column: usize) -> Range<usize> {
        self.window(column, self.in_size.1)
    }

    /// Geometry of a convolution with the same window and stride.
    pub fn geometry(&self) -> Conv2dGeometry {
        let Self { kernel, stride, padding, .. } = *self;
        Conv2dGeometry { kernel: (kernel, kernel), stride, padding, groups: 1, algorithms: ConvAlgorithms::default() }
    }

    fn window(&self, place: usize, size: usize) -> Range<usize> {
        let start = place * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel).saturating_sub(self.padding).min(size)
    }
}
