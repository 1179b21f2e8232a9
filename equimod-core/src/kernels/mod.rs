//! What the layers call: forward and backward of convolution, batch norm and pooling, in f32 (fast) and f64 (portable,
//! for proofs).
//!
//! Tensors are contiguous, results are fresh, and no operation is tracked by candle's differentiation. On the CPU the
//! kernels of this folder run; on other devices [`composed`] does the same with candle's operations. Results do not
//! depend on the number of threads.

pub mod composed;
#[cfg(target_arch = "x86_64")]
mod direct;
mod element;
mod im2col;
mod matmul;
mod norm;
mod pool;
#[cfg(test)]
mod tests;
mod vectorise;

use candle_core::{DType, Device, Result, Tensor, bail};

pub use element::Element;
use element::Values;
use norm::{BackwardScales, Planes};
use pool::PoolShape;
pub(crate) use vectorise::vectorised;

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
struct ConvShape {
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    in_size: (usize, usize),
    out_size: (usize, usize),
    kernel: (usize, usize),
    stride: usize,
    padding: usize,
    groups: usize,
}

impl ConvShape {
    fn new(
        batch: usize,
        in_channels: usize,
        out_channels: usize,
        in_size: (usize, usize),
        g: &Conv2dGeometry,
    ) -> Result<Self> {
        let Conv2dGeometry { kernel, stride, padding, groups } = *g;
        if groups == 0 || !in_channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            bail!("{in_channels} input and {out_channels} output channels do not divide into {groups} groups");
        }
        let out_size = g.out_size(in_size)?;
        Ok(Self { batch, in_channels, out_channels, in_size, out_size, kernel, stride, padding, groups })
    }
}

/// Whether the CPU kernels take a tensor, and which.
enum Kernel {
    F32,
    F64,
    Composed,
}

fn kernel(tensor: &Tensor) -> Kernel {
    match (tensor.device(), tensor.dtype()) {
        (Device::Cpu, DType::F32) => Kernel::F32,
        (Device::Cpu, DType::F64) => Kernel::F64,
        _ => Kernel::Composed,
    }
}

/// Runs `$function::<element>($arguments)` for the element type of `$tensor`, or the composed form.
macro_rules! dispatch {
    ($tensor:expr, $cpu:ident($($argument:expr),*), $composed:expr) => {
        match kernel($tensor) {
            Kernel::F32 => $cpu::<f32>($($argument),*),
            Kernel::F64 => $cpu::<f64>($($argument),*),
            Kernel::Composed => $composed,
        }
    };
}

fn weight_fits(w: &Tensor, in_channels: usize, g: &Conv2dGeometry) -> Result<usize> {
    let (out, channels, kh, kw) = w.dims4()?;
    if channels * g.groups != in_channels || (kh, kw) != g.kernel {
        bail!(
            "a kernel of shape {:?} does not fit {in_channels} channels in {} groups with windows {:?}",
            w.shape(),
            g.groups,
            g.kernel
        );
    }
    Ok(out)
}

/// xs `[N, C, H, W]`, weight `[O, C/groups, kh, kw]` → `[N, O, H', W']`.
pub fn conv2d(xs: &Tensor, weight: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    let (batch, channels, height, width) = xs.dims4()?;
    let shape = ConvShape::new(batch, channels, weight_fits(weight, channels, g)?, (height, width), g)?;
    dispatch!(xs, conv2d_cpu(xs, weight, &shape), composed::conv2d(xs, weight, g))
}

fn conv2d_cpu<T: Element>(xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let (xs, weight) = (Values::of(xs)?, Values::of(weight)?);
    let mut out = vec![T::zero(); s.batch * s.out_channels * s.out_size.0 * s.out_size.1];
    match T::as_f32_mut(&mut out) {
        #[cfg(target_arch = "x86_64")]
        Some(out) if direct::takes(s) => direct::forward(xs.get()?, weight.get()?, s, out),
        _ => im2col::forward(xs.get::<T>()?, weight.get()?, s, &mut out),
    }
    Tensor::from_vec(out, (s.batch, s.out_channels, s.out_size.0, s.out_size.1), &Device::Cpu)
}

/// Gradient of a convolution's input: dys `[N, O, H', W']`, weight `[O, C/groups, kh, kw]` → `[N, C, H, W]`.
pub fn conv2d_backward_data(
    dys: &Tensor,
    weight: &Tensor,
    g: &Conv2dGeometry,
    in_size: (usize, usize),
) -> Result<Tensor> {
    let (batch, out_channels, ..) = dys.dims4()?;
    let channels = weight.dim(1)? * g.groups;
    let shape = ConvShape::new(batch, channels, weight_fits(weight, channels, g)?, in_size, g)?;
    gradient_fits(dys, out_channels, &shape)?;
    dispatch!(dys, backward_data_cpu(dys, weight, &shape), composed::conv2d_backward_data(dys, weight, g, in_size))
}

fn backward_data_cpu<T: Element>(dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let (dys, weight) = (Values::of(dys)?, Values::of(weight)?);
    let mut dxs = vec![T::zero(); s.batch * s.in_channels * s.in_size.0 * s.in_size.1];
    match T::as_f32_mut(&mut dxs) {
        #[cfg(target_arch = "x86_64")]
        Some(dxs) if direct::takes(s) => direct::backward_data(dys.get()?, weight.get()?, s, dxs),
        _ => im2col::backward_data(dys.get::<T>()?, weight.get()?, s, &mut dxs),
    }
    Tensor::from_vec(dxs, (s.batch, s.in_channels, s.in_size.0, s.in_size.1), &Device::Cpu)
}

/// Gradient of a convolution's weight: xs `[N, C, H, W]`, dys `[N, O, H', W']` → `[O, C/groups, kh, kw]`.
pub fn conv2d_backward_weight(xs: &Tensor, dys: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    let (batch, channels, height, width) = xs.dims4()?;
    let shape = ConvShape::new(batch, channels, dys.dim(1)?, (height, width), g)?;
    gradient_fits(dys, shape.out_channels, &shape)?;
    dispatch!(xs, backward_weight_cpu(xs, dys, &shape), composed::conv2d_backward_weight(xs, dys, g))
}

fn backward_weight_cpu<T: Element>(xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let (xs, dys) = (Values::of(xs)?, Values::of(dys)?);
    let shape = (s.out_channels, s.in_channels / s.groups, s.kernel.0, s.kernel.1);
    let mut dw = vec![T::zero(); shape.0 * shape.1 * shape.2 * shape.3];
    match T::as_f32_mut(&mut dw) {
        #[cfg(target_arch = "x86_64")]
        Some(dw) if direct::takes(s) => direct::backward_weight(xs.get()?, dys.get()?, s, dw),
        _ => im2col::backward_weight(xs.get::<T>()?, dys.get()?, s, &mut dw),
    }
    Tensor::from_vec(dw, shape, &Device::Cpu)
}

fn gradient_fits(dys: &Tensor, out_channels: usize, s: &ConvShape) -> Result<()> {
    let expected = [s.batch, s.out_channels, s.out_size.0, s.out_size.1];
    if dys.dims() != expected || out_channels != s.out_channels {
        bail!("a gradient of shape {:?} does not fit an output of shape {expected:?}", dys.dims());
    }
    Ok(())
}

/// Batch, channels and the rest of `[N, C, …]`.
fn planes(xs: &Tensor) -> Result<Planes> {
    match xs.dims() {
        [batch, channels, rest @ ..] => Ok(Planes { batch: *batch, channels: *channels, area: rest.iter().product() }),
        dims => bail!("batch norm needs a batch and channels, got {dims:?}"),
    }
}

fn per_channel(channels: usize, tensors: &[&Tensor]) -> Result<()> {
    match tensors.iter().find(|t| t.dims() != [channels]) {
        Some(t) => bail!("batch norm over {channels} channels got a tensor of shape {:?}", t.dims()),
        None => Ok(()),
    }
}

fn same_shape(xs: &Tensor, others: &[Option<&Tensor>]) -> Result<()> {
    match others.iter().flatten().find(|t| t.dims() != xs.dims()) {
        Some(t) => bail!("tensors of shapes {:?} and {:?} should have one shape", xs.dims(), t.dims()),
        None => Ok(()),
    }
}

fn optional(tensor: Option<&Tensor>) -> Result<Option<Values<'_>>> {
    tensor.map(Values::of).transpose()
}

/// xs `[N, C, …]` → `[2, C]`: Σx and Σx² per channel, added in 64 bits in a fixed order; f64 on the CPU.
pub fn batch_norm_sums(xs: &Tensor) -> Result<Tensor> {
    dispatch!(xs, sums_cpu(xs), composed::batch_norm_sums(xs))
}

fn sums_cpu<T: Element>(xs: &Tensor) -> Result<Tensor> {
    let p = planes(xs)?;
    Tensor::from_vec(norm::sums(Values::of(xs)?.get::<T>()?, p), (2, p.channels), &Device::Cpu)
}

/// `relu?(xs·scale + shift + residual?)` with scale and shift `[C]`, all else of the shape of `xs`.
pub fn batch_norm_apply(
    xs: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    per_channel(planes(xs)?.channels, &[scale, shift])?;
    same_shape(xs, &[residual])?;
    dispatch!(
        xs,
        apply_cpu(xs, scale, shift, residual, relu),
        composed::batch_norm_apply(xs, scale, shift, residual, relu)
    )
}

fn apply_cpu<T: Element>(
    xs: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let mut out = vec![T::zero(); xs.elem_count()];
    let (values, scale, shift, residual) =
        (Values::of(xs)?, Values::of(scale)?, Values::of(shift)?, optional(residual)?);
    let residual = residual.as_ref().map(Values::get).transpose()?;
    norm::apply(values.get::<T>()?, scale.get()?, shift.get()?, residual, relu, planes(xs)?, &mut out);
    Tensor::from_vec(out, xs.shape(), &Device::Cpu)
}

/// Σdy' and Σdy'·x̂ per channel, `[2, C]`, where dy' is dy, or 0 where the rectified output `ys` is not above 0;
/// f64 on the CPU.
pub fn batch_norm_backward_sums(
    dys: &Tensor,
    ys: Option<&Tensor>,
    xs: &Tensor,
    mean: &Tensor,
    inverse_deviation: &Tensor,
) -> Result<Tensor> {
    per_channel(planes(xs)?.channels, &[mean, inverse_deviation])?;
    same_shape(xs, &[Some(dys), ys])?;
    dispatch!(
        xs,
        backward_sums_cpu(dys, ys, xs, mean, inverse_deviation),
        composed::batch_norm_backward_sums(dys, ys, xs, mean, inverse_deviation)
    )
}

fn backward_sums_cpu<T: Element>(
    dys: &Tensor,
    ys: Option<&Tensor>,
    xs: &Tensor,
    mean: &Tensor,
    inverse_deviation: &Tensor,
) -> Result<Tensor> {
    let p = planes(xs)?;
    let (dys, ys, xs) = (Values::of(dys)?, optional(ys)?, Values::of(xs)?);
    let (mean, inverse_deviation) = (Values::of(mean)?, Values::of(inverse_deviation)?);
    let ys = ys.as_ref().map(Values::get).transpose()?;
    let sums = norm::backward_sums(dys.get::<T>()?, ys, xs.get()?, mean.get()?, inverse_deviation.get()?, p);
    Tensor::from_vec(sums, (2, p.channels), &Device::Cpu)
}

/// `dxs = weight·inverse_deviation·(dy' − mean_dy − x̂·mean_dy_xhat)` and, if asked for, dy' for a residual branch.
#[allow(clippy::too_many_arguments)] // One fused pass reads them all.
pub fn batch_norm_backward(
    dys: &Tensor,
    ys: Option<&Tensor>,
    xs: &Tensor,
    mean: &Tensor,
    inverse_deviation: &Tensor,
    weight: Option<&Tensor>,
    mean_dy: &Tensor,
    mean_dy_xhat: &Tensor,
    want_residual: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let channels = planes(xs)?.channels;
    per_channel(channels, &[mean, inverse_deviation, mean_dy, mean_dy_xhat, weight.unwrap_or(mean)])?;
    same_shape(xs, &[Some(dys), ys])?;
    let scales = [mean, inverse_deviation, mean_dy, mean_dy_xhat];
    let residual = match (want_residual, ys) {
        (false, _) => None,
        (true, None) => Some(dys.clone()),
        (true, Some(ys)) => Some(dispatch!(xs, masked_cpu(dys, ys), composed::masked(dys, ys))?),
    };
    let dxs = dispatch!(
        xs,
        backward_cpu(dys, ys, xs, scales, weight),
        composed::batch_norm_backward(dys, ys, xs, scales, weight)
    )?;
    Ok((dxs, residual))
}

fn masked_cpu<T: Element>(dys: &Tensor, ys: &Tensor) -> Result<Tensor> {
    let mut out = vec![T::zero(); dys.elem_count()];
    norm::masked(Values::of(dys)?.get::<T>()?, Values::of(ys)?.get()?, &mut out);
    Tensor::from_vec(out, dys.shape(), &Device::Cpu)
}

fn backward_cpu<T: Element>(
    dys: &Tensor,
    ys: Option<&Tensor>,
    xs: &Tensor,
    scales: [&Tensor; 4],
    weight: Option<&Tensor>,
) -> Result<Tensor> {
    let mut out = vec![T::zero(); xs.elem_count()];
    let (dys, ys, values, weight) = (Values::of(dys)?, optional(ys)?, Values::of(xs)?, optional(weight)?);
    let [mean, inverse_deviation, mean_dy, mean_dy_xhat] = scales;
    let (mean, inverse_deviation) = (Values::of(mean)?, Values::of(inverse_deviation)?);
    let (mean_dy, mean_dy_xhat) = (Values::of(mean_dy)?, Values::of(mean_dy_xhat)?);
    let scales = BackwardScales {
        mean: mean.get::<T>()?,
        inverse_deviation: inverse_deviation.get()?,
        weight: weight.as_ref().map(Values::get).transpose()?,
        mean_dy: mean_dy.get()?,
        mean_dy_xhat: mean_dy_xhat.get()?,
    };
    let ys = ys.as_ref().map(Values::get).transpose()?;
    norm::backward(dys.get()?, ys, values.get()?, &scales, planes(xs)?, &mut out);
    Tensor::from_vec(out, xs.shape(), &Device::Cpu)
}

/// xs `[N, C, H, W]` → the maximum of each window `[N, C, H', W']` and its index in the H × W plane (u32); of equal
/// values the first wins, as in PyTorch.
pub fn max_pool2d(xs: &Tensor, kernel_size: usize, stride: usize, padding: usize) -> Result<(Tensor, Tensor)> {
    let (_, _, height, width) = xs.dims4()?;
    if 2 * padding > kernel_size {
        bail!("max-pool pads by {padding}, more than half its window of {kernel_size}");
    }
    let geometry = Conv2dGeometry { kernel: (kernel_size, kernel_size), stride, padding, groups: 1 };
    let out_size = geometry.out_size((height, width))?;
    let shape = PoolShape { kernel: kernel_size, stride, padding, in_size: (height, width), out_size };
    dispatch!(xs, max_pool_cpu(xs, shape), composed::max_pool2d(xs, &geometry))
}

fn max_pool_cpu<T: Element>(xs: &Tensor, s: PoolShape) -> Result<(Tensor, Tensor)> {
    let (batch, channels, ..) = xs.dims4()?;
    let shape = (batch, channels, s.out_size.0, s.out_size.1);
    let count = batch * channels * s.out_size.0 * s.out_size.1;
    let (mut out, mut winners) = (vec![T::zero(); count], vec![0u32; count]);
    pool::maximum(Values::of(xs)?.get::<T>()?, s, &mut out, &mut winners);
    Ok((Tensor::from_vec(out, shape, &Device::Cpu)?, Tensor::from_vec(winners, shape, &Device::Cpu)?))
}

/// Gradient of a max-pool's input, from the winners of [`max_pool2d`].
pub fn max_pool2d_backward(dys: &Tensor, winners: &Tensor, in_size: (usize, usize)) -> Result<Tensor> {
    if dys.dims() != winners.dims() {
        bail!("a gradient of shape {:?} does not fit winners of shape {:?}", dys.dims(), winners.dims());
    }
    dispatch!(dys, max_pool_backward_cpu(dys, winners, in_size), composed::max_pool2d_backward(dys, winners, in_size))
}

fn max_pool_backward_cpu<T: Element>(
    dys: &Tensor,
    winners: &Tensor,
    (height, width): (usize, usize),
) -> Result<Tensor> {
    let (batch, channels, out_height, out_width) = dys.dims4()?;
    let mut dxs = vec![T::zero(); batch * channels * height * width];
    let winners = winners.flatten_all()?.to_vec1::<u32>()?;
    if winners.iter().any(|&w| w as usize >= height * width) {
        bail!("a max-pool's winners lie outside {height} × {width}");
    }
    pool::maximum_backward(Values::of(dys)?.get::<T>()?, &winners, height * width, out_height * out_width, &mut dxs);
    Tensor::from_vec(dxs, (batch, channels, height, width), &Device::Cpu)
}

/// xs `[N, C, H, W]` → the mean of each plane, `[N, C]`.
pub fn global_average_pool(xs: &Tensor) -> Result<Tensor> {
    dispatch!(xs, average_cpu(xs), xs.mean((2, 3)))
}

fn average_cpu<T: Element>(xs: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = xs.dims4()?;
    let mut out = vec![T::zero(); batch * channels];
    pool::average(Values::of(xs)?.get::<T>()?, height * width, &mut out);
    Tensor::from_vec(out, (batch, channels), &Device::Cpu)
}

/// Gradient of [`global_average_pool`]'s input of height and width `size`.
pub fn global_average_pool_backward(dys: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    dispatch!(dys, average_backward_cpu(dys, size), composed::global_average_pool_backward(dys, size))
}

fn average_backward_cpu<T: Element>(dys: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (batch, channels) = dys.dims2()?;
    let mut dxs = vec![T::zero(); batch * channels * height * width];
    pool::average_backward(Values::of(dys)?.get::<T>()?, height * width, &mut dxs);
    Tensor::from_vec(dxs, (batch, channels, height, width), &Device::Cpu)
}

/// a + b: the gradient at a fork.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_shape(a, &[Some(b)])?;
    dispatch!(a, add_cpu(a, b), a.detach() + b.detach())
}

fn add_cpu<T: Element>(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut out = vec![T::zero(); a.elem_count()];
    norm::add(Values::of(a)?.get::<T>()?, Values::of(b)?.get()?, &mut out);
    Tensor::from_vec(out, a.shape(), &Device::Cpu)
}
