//! Batch norm of tensors, and the additions around it.

use candle_core::{Device, Result, Tensor, bail};
use pulp::Arch;

use super::composed;
use super::fast::norm as fast;
use super::portable::norm::{self as portable, Planes};
use super::values::{Kernels, Values, changed, from_rows, planes, rows};

/// Batch, channels and the rest of `[N, C, …]`.
fn sizes(xs: &Tensor) -> Result<Planes> {
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

/// That all have the shape of `xs`.
pub fn same_shape(xs: &Tensor, others: &[Option<&Tensor>]) -> Result<()> {
    match others.iter().flatten().find(|t| t.dims() != xs.dims()) {
        Some(t) => bail!("tensors of shapes {:?} and {:?} should have one shape", xs.dims(), t.dims()),
        None => Ok(()),
    }
}

/// A batch norm and the ReLU behind it: `relu(xs·scale + shift)`, with scale and shift `[C]`. The ReLU lets those gradients
/// pass whose inputs are lifted above 0: its output need not be kept.
#[derive(Clone, Debug)]
pub struct Rectifier {
    /// As for [`batch_norm_apply`].
    pub scale: Tensor,
    /// As for [`batch_norm_apply`].
    pub shift: Tensor,
}

impl Rectifier {
    /// Its output for the input `xs`.
    pub fn output(&self, xs: &Tensor) -> Result<Tensor> {
        batch_norm_apply(xs, &self.scale, &self.shift, None, true)
    }

    /// That it is for so many channels.
    pub fn check(&self, channels: usize) -> Result<()> {
        per_channel(channels, &[&self.scale, &self.shift])
    }
}

/// Calls `f` with the same over rows.
pub fn over_rows<T>(rectifier: Option<&Rectifier>, f: impl FnOnce(Option<fast::Rectifier>) -> Result<T>) -> Result<T> {
    let Some(Rectifier { scale, shift }) = rectifier else { return f(None) };
    let (scale, shift) = (planes(scale)?, planes(shift)?);
    let (scale, shift) = (Values::of(&scale)?, Values::of(&shift)?);
    f(Some(fast::Rectifier { scale: scale.get()?, shift: shift.get()? }))
}

fn output(rectifier: Option<&Rectifier>, xs: &Tensor) -> Result<Option<Tensor>> {
    rectifier.map(|rectifier| rectifier.output(xs)).transpose()
}

fn check(rectifier: Option<&Rectifier>, channels: usize) -> Result<()> {
    rectifier.map_or(Ok(()), |rectifier| rectifier.check(channels))
}

/// xs `[N, C, …]` → `[2, C]`: Σx and Σx² per channel, in a fixed order; in f64 on the CPU.
pub fn batch_norm_sums(xs: &Tensor) -> Result<Tensor> {
    let p = sizes(xs)?;
    let sums = match Kernels::of(xs) {
        Kernels::Fast => fast::sums(Arch::new(), Values::of(&rows(xs)?)?.get()?, p.channels),
        Kernels::Portable => portable::sums::<f64>(Values::of(&planes(xs)?)?.get()?, p),
        Kernels::Composed => return composed::batch_norm_sums(xs),
    };
    Tensor::from_vec(sums, (2, p.channels), &Device::Cpu)
}

/// `relu?(xs·scale + shift + residual?)` with scale and shift `[C]`, all else of the shape of `xs`.
pub fn batch_norm_apply(
    xs: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let p = sizes(xs)?;
    per_channel(p.channels, &[scale, shift])?;
    same_shape(xs, &[residual])?;
    let (scale, shift) = (planes(scale)?, planes(shift)?);
    match Kernels::of(xs) {
        Kernels::Fast => {
            let (values, residual) = (rows(xs)?, residual.map(rows).transpose()?);
            let (values, residual) = (Values::of(&values)?, residual.as_ref().map(Values::of).transpose()?);
            let residual = residual.as_ref().map(Values::get).transpose()?;
            let (scale, shift) = (Values::of(&scale)?, Values::of(&shift)?);
            let ys = fast::apply(Arch::new(), values.get()?, scale.get()?, shift.get()?, residual, relu);
            from_rows(ys, xs.dims())
        }
        Kernels::Portable => {
            let (values, residual) = (planes(xs)?, residual.map(planes).transpose()?);
            let (values, residual) = (Values::of(&values)?, residual.as_ref().map(Values::of).transpose()?);
            let residual = residual.as_ref().map(Values::get).transpose()?;
            let (scale, shift) = (Values::of(&scale)?, Values::of(&shift)?);
            let mut ys = vec![0f64; xs.elem_count()];
            portable::apply(values.get()?, scale.get()?, shift.get()?, residual, relu, p, &mut ys);
            Tensor::from_vec(ys, xs.shape(), &Device::Cpu)
        }
        Kernels::Composed => composed::batch_norm_apply(xs, &scale, &shift, residual, relu),
    }
}

/// Σdy' and Σdy'·x̂ per channel, `[2, C]`, where dy' is what the rectifier, if there is one, lets pass of dy; in f64 on the CPU.
pub fn batch_norm_backward_sums(
    dys: &Tensor,
    rectifier: Option<&Rectifier>,
    xs: &Tensor,
    mean: &Tensor,
    inverse_deviation: &Tensor,
) -> Result<Tensor> {
    let p = sizes(xs)?;
    per_channel(p.channels, &[mean, inverse_deviation])?;
    same_shape(xs, &[Some(dys)])?;
    check(rectifier, p.channels)?;
    let (mean, inverse_deviation) = (planes(mean)?, planes(inverse_deviation)?);
    let sums = match Kernels::of(xs) {
        Kernels::Fast => {
            let (dys, xs) = (rows(dys)?, rows(xs)?);
            let (dys, xs) = (Values::of(&dys)?, Values::of(&xs)?);
            let (mean, inverse) = (Values::of(&mean)?, Values::of(&inverse_deviation)?);
            let scales = (mean.get()?, inverse.get()?);
            over_rows(rectifier, |r| Ok(fast::backward_sums(Arch::new(), dys.get()?, r, xs.get()?, scales)))?
        }
        Kernels::Portable => {
            let ys = output(rectifier, xs)?.as_ref().map(planes).transpose()?;
            let (dys, xs) = (planes(dys)?, planes(xs)?);
            let (dys, ys, xs) = (Values::of(&dys)?, ys.as_ref().map(Values::of).transpose()?, Values::of(&xs)?);
            let ys = ys.as_ref().map(Values::get).transpose()?;
            let (mean, inverse) = (Values::of(&mean)?, Values::of(&inverse_deviation)?);
            portable::backward_sums::<f64>(dys.get()?, ys, xs.get()?, mean.get()?, inverse.get()?, p)
        }
        Kernels::Composed => {
            let ys = output(rectifier, xs)?;
            return composed::batch_norm_backward_sums(dys, ys.as_ref(), xs, &mean, &inverse_deviation);
        }
    };
    Tensor::from_vec(sums, (2, p.channels), &Device::Cpu)
}

/// `scale·dy' + slope·xs + offset` with `coefficients` = scale, slope and offset, `[C]` each: the gradient of a batch norm's
/// input.
pub fn batch_norm_backward(
    dys: &Tensor,
    rectifier: Option<&Rectifier>,
    xs: &Tensor,
    coefficients: [&Tensor; 3],
) -> Result<Tensor> {
    let p = sizes(xs)?;
    per_channel(p.channels, &coefficients)?;
    same_shape(xs, &[Some(dys)])?;
    check(rectifier, p.channels)?;
    let [scale, slope, offset] = coefficients.map(planes);
    let (scale, slope, offset) = (scale?, slope?, offset?);
    match Kernels::of(xs) {
        Kernels::Fast => {
            let (dys, values) = (rows(dys)?, rows(xs)?);
            let (dys, values) = (Values::of(&dys)?, Values::of(&values)?);
            let (scale, slope, offset) = (Values::of(&scale)?, Values::of(&slope)?, Values::of(&offset)?);
            let coefficients = [scale.get()?, slope.get()?, offset.get()?];
            let back = |r: Option<fast::Rectifier>| {
                Ok(fast::backward(Arch::new(), dys.get()?, r, values.get()?, coefficients))
            };
            from_rows(over_rows(rectifier, back)?, xs.dims())
        }
        Kernels::Portable => {
            let ys = output(rectifier, xs)?.as_ref().map(planes).transpose()?;
            let (dys, values) = (planes(dys)?, planes(xs)?);
            let (dys, ys, values) = (Values::of(&dys)?, ys.as_ref().map(Values::of).transpose()?, Values::of(&values)?);
            let ys = ys.as_ref().map(Values::get).transpose()?;
            let (scale, slope, offset) = (Values::of(&scale)?, Values::of(&slope)?, Values::of(&offset)?);
            let coefficients = [scale.get()?, slope.get()?, offset.get()?];
            let mut dxs = vec![0f64; xs.elem_count()];
            portable::backward(dys.get()?, ys, values.get()?, coefficients, p, &mut dxs);
            Tensor::from_vec(dxs, xs.shape(), &Device::Cpu)
        }
        Kernels::Composed => {
            composed::batch_norm_backward(dys, output(rectifier, xs)?.as_ref(), xs, [&scale, &slope, &offset])
        }
    }
}

/// [`batch_norm_apply`], for which the memory of `xs` may be used: no other tensor may share it, least of all another argument.
pub fn batch_norm_apply_in_place(
    xs: Tensor,
    scale: &Tensor,
    shift: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let Kernels::Fast = Kernels::of(&xs) else { return batch_norm_apply(&xs, scale, shift, residual, relu) };
    per_channel(sizes(&xs)?.channels, &[scale, shift])?;
    same_shape(&xs, &[residual])?;
    let (scale, shift, residual) = (planes(scale)?, planes(shift)?, residual.map(rows).transpose()?);
    let (scale, shift) = (Values::of(&scale)?, Values::of(&shift)?);
    let residual = residual.as_ref().map(Values::of).transpose()?;
    let (scale, shift, residual) = (scale.get()?, shift.get()?, residual.as_ref().map(Values::get).transpose()?);
    changed(&xs, |xs| fast::apply_in_place(Arch::new(), xs, scale, shift, residual, relu))
}

/// [`batch_norm_backward`], for which the memory of `xs` may be used: no other tensor may share it, least of all another argument.
pub fn batch_norm_backward_in_place(
    dys: &Tensor,
    rectifier: Option<&Rectifier>,
    xs: Tensor,
    coefficients: [&Tensor; 3],
) -> Result<Tensor> {
    let Kernels::Fast = Kernels::of(&xs) else { return batch_norm_backward(dys, rectifier, &xs, coefficients) };
    let p = sizes(&xs)?;
    per_channel(p.channels, &coefficients)?;
    same_shape(&xs, &[Some(dys)])?;
    check(rectifier, p.channels)?;
    let ([scale, slope, offset], dys) = (coefficients.map(planes), rows(dys)?);
    let (scale, slope, offset) = (scale?, slope?, offset?);
    let (scale, slope, offset) = (Values::of(&scale)?, Values::of(&slope)?, Values::of(&offset)?);
    let (coefficients, dys) = ([scale.get()?, slope.get()?, offset.get()?], Values::of(&dys)?);
    let dys = dys.get()?;
    over_rows(rectifier, |r| changed(&xs, |xs| fast::backward_in_place(Arch::new(), dys, r, xs, coefficients)))
}

/// `(dys + more?)·[ys > 0]`: the gradient of what a ReLU made `ys` of, all of one shape. Where `ys` went two ways, `more` is
/// what came back on the other. The memory of `dys` may be used for the result: no other tensor may share it.
pub fn relu_backward(dys: Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
    same_shape(&dys, &[more, Some(ys)])?;
    match Kernels::of(&dys) {
        Kernels::Fast => {
            let (more, ys) = (more.map(rows).transpose()?, rows(ys)?);
            let (more, ys) = (more.as_ref().map(Values::of).transpose()?, Values::of(&ys)?);
            let (more, ys) = (more.as_ref().map(Values::get).transpose()?, ys.get()?);
            changed(&dys, |dys| fast::relu_backward(Arch::new(), dys, more, ys))
        }
        Kernels::Portable => {
            let (values, more, ys) = (planes(&dys)?, more.map(planes).transpose()?, planes(ys)?);
            let (values, more) = (Values::of(&values)?, more.as_ref().map(Values::of).transpose()?);
            let (more, ys) = (more.as_ref().map(Values::get).transpose()?, Values::of(&ys)?);
            let mut sum = vec![0f64; dys.elem_count()];
            portable::relu_backward(values.get()?, more, ys.get()?, &mut sum);
            Tensor::from_vec(sum, dys.shape(), &Device::Cpu)
        }
        Kernels::Composed => composed::relu_backward(&dys, more, ys),
    }
}
