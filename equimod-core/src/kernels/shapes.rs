//! Sizes of convolutions and pools.

use std::ops::Range;

use candle_core::{Result, bail};

/// Window, step, zeros around, and channel groups of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dGeometry {
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Step between windows.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Number of channel groups.
    pub groups: usize,
    /// Whether [Winograd's algorithm](crate::Execution::winograd) may be used where it is the faster one.
    pub winograd: bool,
}

impl Conv2dGeometry {
    /// Height and width of the output for an input of `size`; an error where not one window fits.
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

/// All sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvShape {
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub in_size: (usize, usize),
    pub out_size: (usize, usize),
    pub kernel: (usize, usize),
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
    pub winograd: bool,
}

impl ConvShape {
    pub fn new(
        batch: usize,
        in_channels: usize,
        out_channels: usize,
        in_size: (usize, usize),
        g: &Conv2dGeometry,
    ) -> Result<Self> {
        let Conv2dGeometry { kernel, stride, padding, groups, winograd } = *g;
        if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            bail!("{in_channels} input and {out_channels} output channels do not divide into {groups} groups");
        }
        if batch * in_channels * out_channels * in_size.0 * in_size.1 == 0 {
            bail!(
                "a convolution needs pictures, channels and pixels, got {batch} × {in_channels} × {in_size:?} to {out_channels} channels"
            );
        }
        let out_size = g.out_size(in_size)?;
        Ok(Self { batch, in_channels, out_channels, in_size, out_size, kernel, stride, padding, groups, winograd })
    }

    /// Values of the output.
    pub fn outputs(&self) -> usize {
        self.batch * self.out_channels * self.out_size.0 * self.out_size.1
    }

    /// Values of the input.
    pub fn inputs(&self) -> usize {
        self.batch * self.in_channels * self.in_size.0 * self.in_size.1
    }
}

/// Window, stride, padding, and the sizes of input and output.
#[derive(Clone, Copy)]
pub(crate) struct PoolShape {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub in_size: (usize, usize),
    pub out_size: (usize, usize),
}

impl PoolShape {
    /// The lines of the input that a line of the output looks at.
    pub fn lines(&self, line: usize) -> Range<usize> {
        self.window(line, self.in_size.0)
    }

    /// The columns of the input that a column of the output looks at.
    pub fn columns(&self, column: usize) -> Range<usize> {
        self.window(column, self.in_size.1)
    }

    fn window(&self, place: usize, size: usize) -> Range<usize> {
        let start = place * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel).saturating_sub(self.padding).min(size)
    }
}
