//! Forward and backward pass of convolutions. The weight is `[O, C/groups, kh, kw]` in all functions; with bf16
//! activations, it may be f32.

use candle_core::{DType, Result, Tensor, bail};

use super::batch_norm::{fits_activation, same_shape};
use crate::backend;
use crate::backend::contract::{Accumulate, Conv2dGeometry, ConvInput, ConvShape};

/// Number of output channels of a weight; an error unless it fits `in_channels` and the geometry.
fn out_channels(weight: &Tensor, in_channels: usize, g: &Conv2dGeometry) -> Result<usize> {
    let (out_channels, channels, kh, kw) = weight.dims4()?;
    if channels * g.groups != in_channels || (kh, kw) != g.kernel {
        bail!(
            "a kernel of shape {:?} does not fit {in_channels} channels in {} groups with windows {:?}",
            weight.shape(),
            g.groups,
            g.kernel
        );
    }
    Ok(out_channels)
}

fn fits_output(dys: &Tensor, s: &ConvShape) -> Result<()> {
    match dys.dims() == s.out_dims() {
        true => Ok(()),
        false => bail!("a gradient of shape {:?} does not fit an output of shape {:?}", dys.dims(), s.out_dims()),
    }
}

/// Batch size, channels, and height and width of an input; an error unless its activation fits.
fn sizes(xs: &ConvInput) -> Result<(usize, usize, (usize, usize))> {
    let (batch, channels, height, width) = xs.values.dims4()?;
    fits_activation(xs.activation.as_ref(), channels)?;
    Ok((batch, channels, (height, width)))
}

fn shape_of(xs: &ConvInput, weight: &Tensor, g: &Conv2dGeometry) -> Result<ConvShape> {
    let (batch, channels, size) = sizes(xs)?;
    ConvShape::new(batch, channels, out_channels(weight, channels, g)?, size, g)
}

/// A weight as convolutions of images of type `dtype` read it with the least work: of the same shape, and the same
/// values after the rounding to their type. All other functions take either. Later changes of the weight may or may not
/// show in the result.
///
/// # Errors
///
/// If it is no weight `[O, C/groups, kh, kw]`, or a tensor operation fails.
pub fn prepared_weight(weight: &Tensor, dtype: DType) -> Result<Tensor> {
    weight.dims4()?;
    backend::on(weight.device(), dtype).prepared_weight(weight, dtype)
}

/// The tensor that a convolution reads, `[N, C, H, W]`: the input's values, with its activation applied if it has one.
///
/// # Errors
///
/// If the activation does not fit the input, or a tensor operation fails.
pub fn materialize(xs: &ConvInput) -> Result<Tensor> {
    sizes(xs)?;
    backend::of(&xs.values).materialize(xs)
}

/// Convolution of xs `[N, C, H, W]` → `[N, O, H', W']`.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn conv2d(xs: impl Into<ConvInput>, weight: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    let xs = xs.into();
    let s = shape_of(&xs, weight, g)?;
    backend::of(&xs.values).conv2d_of_activated(&xs, weight, &s)
}

/// [`conv2d`] together with the [`batch_norm_sums`](super::batch_norm_sums) of its output, `[2, O]`, which are cheap to
/// compute along with it.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn conv2d_with_sums(xs: impl Into<ConvInput>, weight: &Tensor, g: &Conv2dGeometry) -> Result<(Tensor, Tensor)> {
    let xs = xs.into();
    let s = shape_of(&xs, weight, g)?;
    backend::of(&xs.values).conv2d_with_sums(&xs, weight, &s)
}

/// Gradient of a convolution's input: dys `[N, O, H', W']` → `[N, C, H, W]`, with (H, W) = `in_size`.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn conv2d_backward_data(
    dys: &Tensor,
    weight: &Tensor,
    g: &Conv2dGeometry,
    in_size: (usize, usize),
) -> Result<Tensor> {
    let channels = weight.dim(1)? * g.groups;
    let s = ConvShape::new(dys.dim(0)?, channels, out_channels(weight, channels, g)?, in_size, g)?;
    fits_output(dys, &s)?;
    backend::of(dys).conv2d_backward_data(dys, weight, &s)
}

/// [`conv2d_backward_data`] followed by the backward pass of the ReLU whose output `relu_output` `[N, C, H, W]` was the
/// convolution's input. With dx the gradient of that output and mask `[relu_output > 0]`, the result `[N, C, H, W]` is
///
/// - `dx·mask` with [`Overwrite`](Accumulate::Overwrite),
/// - `(dx + other)·mask` with [`AddThenMask`](Accumulate::AddThenMask),
/// - `dx·mask + other` with [`MaskThenAdd`](Accumulate::MaskThenAdd).
///
/// The result may overwrite the memory of `other`, which no other tensor may share, in particular no other argument.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn conv2d_backward_data_relu(
    dys: &Tensor,
    weight: &Tensor,
    g: &Conv2dGeometry,
    relu_output: &Tensor,
    accumulate: Accumulate,
) -> Result<Tensor> {
    let (batch, channels, height, width) = relu_output.dims4()?;
    let s = ConvShape::new(batch, channels, out_channels(weight, channels, g)?, (height, width), g)?;
    fits_output(dys, &s)?;
    same_shape(relu_output, &[accumulate.existing()])?;
    backend::of(dys).conv2d_backward_data_relu(dys, weight, &s, relu_output, accumulate)
}

/// Gradient of a convolution's weight: xs `[N, C, H, W]`, dys `[N, O, H', W']` → `[O, C/groups, kh, kw]`.
///
/// # Errors
///
/// If the shapes do not fit, or a tensor operation fails.
pub fn conv2d_backward_weight(xs: impl Into<ConvInput>, dys: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    let xs = xs.into();
    let (batch, channels, size) = sizes(&xs)?;
    let s = ConvShape::new(batch, channels, dys.dim(1)?, size, g)?;
    fits_output(dys, &s)?;
    backend::of(&xs.values).conv2d_backward_weight_of_activated(&xs, dys, &s)
}

/// Batches of images `[Nᵢ, C, H, W]` one after the other, `[ΣNᵢ, C, H, W]`. If the memory of all is channels-last, so is
/// that of the result.
///
/// # Errors
///
/// If there are no images, their shapes do not fit, or a tensor operation fails.
pub fn join_images(images: &[&Tensor]) -> Result<Tensor> {
    let views = images.iter().map(|images| images.permute((0, 2, 3, 1))).collect::<Result<Vec<_>>>()?;
    match views.iter().all(Tensor::is_contiguous) {
        true => Tensor::cat(&views, 0)?.permute((0, 3, 1, 2)),
        false => Tensor::cat(images, 0),
    }
}
