//! Convolutions as matrix products with unfolded windows, a few images at a time. A 1×1 convolution of stride 1 is a
//! product without unfolding.

use candle_core::{D, DType, Result, Tensor};

use super::kernel;
use crate::backend::contract::ConvShape;
use crate::backend::cuda::launch::{Grid, launch, variant};
use crate::backend::cuda::memory::{address, count, device_of, uninitialized};

/// Memory for unfolded windows, in bytes, at most (but the windows of one image). In tests, batches do not fit.
const WORKSPACE: usize = if cfg!(test) { 8 << 10 } else { 256 << 20 };

/// Blocks of the kernels that unfold and fold, at most.
const BLOCKS: u32 = 8192;

/// Sizes of a convolution of one group over some images, as the kernels take them.
#[derive(Clone, Copy)]
#[repr(C)]
struct Shape {
    images: u32,
    channels: u32,
    first_channel: u32,
    group_channels: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride: u32,
    padding: u32,
}

impl Shape {
    fn new(s: &ConvShape, images: usize, group: usize) -> Result<Self> {
        let of_group = s.in_channels / s.groups;
        Ok(Self {
            images: count(images)?,
            channels: count(s.in_channels)?,
            first_channel: count(group * of_group)?,
            group_channels: count(of_group)?,
            height: count(s.in_size.0)?,
            width: count(s.in_size.1)?,
            out_height: count(s.out_size.0)?,
            out_width: count(s.out_size.1)?,
            kernel_height: count(s.kernel.0)?,
            kernel_width: count(s.kernel.1)?,
            stride: count(s.stride)?,
            padding: count(s.padding)?,
        })
    }
}

/// A convolution by matrix products.
struct Products<'a> {
    s: &'a ConvShape,
    dtype: DType,
}

impl Products<'_> {
    /// Whether windows are the pixels themselves.
    fn is_product(&self) -> bool {
        let s = self.s;
        s.kernel == (1, 1) && s.stride == 1 && s.padding == 0 && s.groups == 1
    }

    fn area(&self) -> usize {
        self.s.out_size.0 * self.s.out_size.1
    }

    /// Values of a window of one group.
    fn window(&self) -> usize {
        self.s.kernel.0 * self.s.kernel.1 * self.s.in_channels / self.s.groups
    }

    /// Images whose windows fit the workspace, at least one.
    fn images_at_once(&self) -> usize {
        let image = self.area() * self.window() * self.dtype.size_in_bytes();
        (WORKSPACE / image.max(1)).clamp(1, self.s.batch)
    }

    /// First images and numbers of images of all chunks of the batch.
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (step, batch) = (self.images_at_once(), self.s.batch);
        (0..batch).step_by(step).map(move |first| (first, step.min(batch - first)))
    }

    /// Windows of a group over `xs` `[images, H, W, C]`: `[images·H'·W', window]`.
    fn unfold(&self, xs: &Tensor, group: usize) -> Result<Tensor> {
        let shape = Shape::new(self.s, xs.dim(0)?, group)?;
        let columns = uninitialized(&[xs.dim(0)? * self.area(), self.window()], self.dtype, xs.device())?;
        let (x, column) = (address(xs)?, address(&columns)?);
        // Groups begin at multiples of their size.
        let (suffix, pack) = variant(self.dtype, shape.group_channels as usize, &[x, column])?;
        let grid = Grid::strided(columns.elem_count() / pack, BLOCKS);
        launch!(device_of(xs)?, kernel("unfold", suffix), grid, x, column, shape)?;
        Ok(columns)
    }

    /// Adjoint of [`unfold`](Self::unfold) into the group's channels of `dxs`.
    fn fold(&self, columns: &Tensor, dxs: &Tensor, group: usize) -> Result<()> {
        let shape = Shape::new(self.s, dxs.dim(0)?, group)?;
        let (column, dx) = (address(columns)?, address(dxs)?);
        // Groups begin at multiples of their size.
        let (suffix, pack) = variant(self.dtype, shape.group_channels as usize, &[column, dx])?;
        let pixels = dxs.dim(0)? * self.s.in_size.0 * self.s.in_size.1;
        let grid = Grid::strided(pixels * shape.group_channels as usize / pack, BLOCKS);
        launch!(device_of(dxs)?, kernel("fold", suffix), grid, column, dx, shape)
    }

    /// The weight of a group, `[O/groups, window]`, from `[O, kh·kw, C/groups]`.
    fn weight_of(&self, weight: &Tensor, group: usize) -> Result<Tensor> {
        let outputs = self.s.out_channels / self.s.groups;
        weight.narrow(0, group * outputs, outputs)?.reshape((outputs, self.window()))
    }

    /// Output channels of a group, `[images·H'·W', O/groups]`, contiguous.
    fn outputs_of(&self, dys: &Tensor, group: usize) -> Result<Tensor> {
        let outputs = self.s.out_channels / self.s.groups;
        let rows = dys.reshape((dys.dim(0)? * self.area(), self.s.out_channels))?;
        rows.narrow(1, group * outputs, outputs)?.contiguous()
    }
}

/// Output `[N, H', W', O]` from xs `[N, H, W, C]` and a weight `[O, kh·kw, C/groups]`.
///
/// # Errors
///
/// If there is not enough memory, or a kernel fails.
pub fn forward(xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let products = Products { s, dtype: xs.dtype() };
    let dims = [s.batch, s.out_size.0, s.out_size.1, s.out_channels];
    if products.is_product() {
        let weight = products.weight_of(weight, 0)?;
        let ys = xs.reshape((s.batch * products.area(), s.in_channels))?.matmul(&weight.t()?)?;
        return ys.reshape(dims.as_slice());
    }
    let mut parts = Vec::new();
    for (first, images) in products.chunks() {
        let xs = xs.narrow(0, first, images)?;
        let group = |group| products.unfold(&xs, group)?.matmul(&products.weight_of(weight, group)?.t()?);
        let groups = (0..s.groups).map(group).collect::<Result<Vec<_>>>()?;
        parts.push(joined(groups, D::Minus1)?);
    }
    joined(parts, 0)?.reshape(dims.as_slice())
}

/// Gradient of the input, `[N, H, W, C]`, from dys `[N, H', W', O]` and a weight `[O, kh·kw, C/groups]`.
///
/// # Errors
///
/// If there is not enough memory, or a kernel fails.
pub fn backward_data(dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let products = Products { s, dtype: dys.dtype() };
    let dims = [s.batch, s.in_size.0, s.in_size.1, s.in_channels];
    if products.is_product() {
        return products.outputs_of(dys, 0)?.matmul(&products.weight_of(weight, 0)?)?.reshape(dims.as_slice());
    }
    let dxs = uninitialized(&dims, dys.dtype(), dys.device())?;
    for (first, images) in products.chunks() {
        let (dys, dxs) = (dys.narrow(0, first, images)?, dxs.narrow(0, first, images)?);
        for group in 0..s.groups {
            let columns = products.outputs_of(&dys, group)?.matmul(&products.weight_of(weight, group)?)?;
            products.fold(&columns, &dxs, group)?;
        }
    }
    Ok(dxs)
}

/// Gradient of the weight, `[O, kh·kw, C/groups]`, from xs `[N, H, W, C]` and dys `[N, H', W', O]`, f32.
///
/// # Errors
///
/// If there is not enough memory, or a kernel fails.
pub fn backward_weight(xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let products = Products { s, dtype: xs.dtype() };
    let dims = (s.out_channels, s.kernel.0 * s.kernel.1, s.in_channels / s.groups);
    let mut groups = Vec::new();
    for group in 0..s.groups {
        let mut sum: Option<Tensor> = None;
        for (first, images) in products.chunks() {
            let (xs, dys) = (xs.narrow(0, first, images)?, dys.narrow(0, first, images)?);
            let columns = match products.is_product() {
                true => xs.reshape((images * products.area(), s.in_channels))?,
                false => products.unfold(&xs, group)?,
            };
            let part = products.outputs_of(&dys, group)?.t()?.matmul(&columns)?.to_dtype(DType::F32)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        groups.extend(sum);
    }
    joined(groups, 0)?.reshape(dims)
}

/// Tensors side by side along `dim`, at least one.
fn joined(mut tensors: Vec<Tensor>, dim: impl candle_core::shape::Dim) -> Result<Tensor> {
    match tensors.len() {
        1 => Ok(tensors.remove(0)),
        _ => Tensor::cat(&tensors, dim),
    }
}
