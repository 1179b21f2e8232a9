//! Batch norm of tensors, and the additions around it.

use candle_core::{CpuStorage, Device, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail};
use pulp::Arch;

use super::composed;
use super::fast::norm as fast;
use super::portable::norm::{self as portable, Planes};
use super::values::{Kernels, Values, from_rows, planes, rows};

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

fn same_shape(xs: &Tensor, others: &[Option<&Tensor>]) -> Result<()> {
    match others.iter().flatten().find(|t| t.dims() != xs.dims()) {
        Some(t) => bail!("tensors of shapes {:?} and {:?} should have one shape", xs.dims(), t.dims()),
        None => Ok(()),
    }
}

/// Which values a ReLU behind a batch norm let pass, as the way back has to know.
#[derive(Clone, Debug)]
pub enum Passed {
    /// All: there was none.
    All,
    /// Those above 0 of its output, of the shape of the input.
    Output(Tensor),
    /// Those that `xs·scale + shift` (`[C]` each) lifts above 0, where nothing was added before the ReLU: its output need
    /// not be kept for this.
    Input {
        /// As for [`batch_norm_apply`].
        scale: Tensor,
        /// As for [`batch_norm_apply`].
        shift: Tensor,
    },
}

impl Passed {
    /// The ReLU's output, made anew if need be, for kernels that know nothing else.
    fn output(&self, xs: &Tensor) -> Result<Option<Tensor>> {
        match self {
            Self::All => Ok(None),
            Self::Output(ys) => Ok(Some(ys.clone())),
            Self::Input { scale, shift } => Ok(Some(batch_norm_apply(xs, scale, shift, None, true)?)),
        }
    }

    fn check(&self, xs: &Tensor) -> Result<()> {
        match self {
            Self::All => Ok(()),
            Self::Output(ys) => same_shape(xs, &[Some(ys)]),
            Self::Input { scale, shift } => per_channel(sizes(xs)?.channels, &[scale, shift]),
        }
    }

    /// Calls `f` with the same over rows.
    fn over_rows<T>(&self, f: impl FnOnce(fast::Passed) -> Result<T>) -> Result<T> {
        match self {
            Self::All => f(fast::Passed::All),
            Self::Output(ys) => f(fast::Passed::Output(Values::of(&rows(ys)?)?.get()?)),
            Self::Input { scale, shift } => {
                let (scale, shift) = (planes(scale)?, planes(shift)?);
                let (scale, shift) = (Values::of(&scale)?, Values::of(&shift)?);
                f(fast::Passed::Input { scale: scale.get()?, shift: shift.get()? })
            }
        }
    }
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

/// Σdy' and Σdy'·x̂ per channel, `[2, C]`, where dy' is dy where it passed, else 0; in f64 on the CPU.
pub fn batch_norm_backward_sums(
    dys: &Tensor,
    passed: &Passed,
    xs: &Tensor,
    mean: &Tensor,
    inverse_deviation: &Tensor,
) -> Result<Tensor> {
    let p = sizes(xs)?;
    per_channel(p.channels, &[mean, inverse_deviation])?;
    same_shape(xs, &[Some(dys)])?;
    passed.check(xs)?;
    let (mean, inverse_deviation) = (planes(mean)?, planes(inverse_deviation)?);
    let sums = match Kernels::of(xs) {
        Kernels::Fast => {
            let (dys, xs) = (rows(dys)?, rows(xs)?);
            let (dys, xs) = (Values::of(&dys)?, Values::of(&xs)?);
            let (mean, inverse) = (Values::of(&mean)?, Values::of(&inverse_deviation)?);
            let scales = (mean.get()?, inverse.get()?);
            passed.over_rows(|passed| Ok(fast::backward_sums(Arch::new(), dys.get()?, passed, xs.get()?, scales)))?
        }
        Kernels::Portable => {
            let ys = passed.output(xs)?.as_ref().map(planes).transpose()?;
            let (dys, xs) = (planes(dys)?, planes(xs)?);
            let (dys, ys, xs) = (Values::of(&dys)?, ys.as_ref().map(Values::of).transpose()?, Values::of(&xs)?);
            let ys = ys.as_ref().map(Values::get).transpose()?;
            let (mean, inverse) = (Values::of(&mean)?, Values::of(&inverse_deviation)?);
            portable::backward_sums::<f64>(dys.get()?, ys, xs.get()?, mean.get()?, inverse.get()?, p)
        }
        Kernels::Composed => {
            let ys = passed.output(xs)?;
            return composed::batch_norm_backward_sums(dys, ys.as_ref(), xs, &mean, &inverse_deviation);
        }
    };
    Tensor::from_vec(sums, (2, p.channels), &Device::Cpu)
}

/// `scale·dy' + slope·xs + offset` with `coefficients` = scale, slope and offset, `[C]` each: the gradient of a batch norm's
/// input.
pub fn batch_norm_backward(dys: &Tensor, passed: &Passed, xs: &Tensor, coefficients: [&Tensor; 3]) -> Result<Tensor> {
    let p = sizes(xs)?;
    per_channel(p.channels, &coefficients)?;
    same_shape(xs, &[Some(dys)])?;
    passed.check(xs)?;
    let [scale, slope, offset] = coefficients.map(planes);
    let (scale, slope, offset) = (scale?, slope?, offset?);
    match Kernels::of(xs) {
        Kernels::Fast => {
            let (dys, values) = (rows(dys)?, rows(xs)?);
            let (dys, values) = (Values::of(&dys)?, Values::of(&values)?);
            let (scale, slope, offset) = (Values::of(&scale)?, Values::of(&slope)?, Values::of(&offset)?);
            let coefficients = [scale.get()?, slope.get()?, offset.get()?];
            let back =
                |passed: fast::Passed| Ok(fast::backward(Arch::new(), dys.get()?, passed, values.get()?, coefficients));
            from_rows(passed.over_rows(back)?, xs.dims())
        }
        Kernels::Portable => {
            let ys = passed.output(xs)?.as_ref().map(planes).transpose()?;
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
            composed::batch_norm_backward(dys, passed.output(xs)?.as_ref(), xs, [&scale, &slope, &offset])
        }
    }
}

/// a + b where `passed` (of the same shape) is above 0, a elsewhere; a + b everywhere if nothing is said. The gradient at a
/// fork; the memory of `a` may be used for the result.
pub fn add(a: Tensor, b: &Tensor, passed: Option<&Tensor>) -> Result<Tensor> {
    same_shape(&a, &[Some(b), passed])?;
    match Kernels::of(&a) {
        Kernels::Fast => {
            let (target, b, passed) = (rows(&a)?, rows(b)?, passed.map(rows).transpose()?);
            match passed {
                None => target.inplace_op2(&b, &Add)?,
                Some(passed) => target.inplace_op3(&b, &passed, &Add)?,
            }
            let rank = a.rank();
            let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
            target.permute(order)
        }
        Kernels::Portable => {
            let (a, b, passed) = (planes(&a)?, planes(b)?, passed.map(planes).transpose()?);
            let (x, b, passed) = (Values::of(&a)?, Values::of(&b)?, passed.as_ref().map(Values::of).transpose()?);
            let passed = passed.as_ref().map(Values::get).transpose()?;
            let mut sum = vec![0f64; a.elem_count()];
            portable::add(x.get()?, b.get()?, passed, &mut sum);
            Tensor::from_vec(sum, a.shape(), &Device::Cpu)
        }
        Kernels::Composed => composed::add(&a, b, passed),
    }
}

/// Adds rows in place.
struct Add;

/// The values of contiguous f32 storage.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("rows are contiguous f32"),
    }
}

fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("rows are contiguous f32"),
    }
}

impl InplaceOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(&self, a: &mut CpuStorage, a_layout: &Layout, b: &CpuStorage, b_layout: &Layout) -> Result<()> {
        fast::add(Arch::new(), slice_mut(a, a_layout)?, slice(b, b_layout)?, None);
        Ok(())
    }
}

impl InplaceOp3 for Add {
    fn name(&self) -> &'static str {
        "add where passed"
    }

    fn cpu_fwd(
        &self,
        a: &mut CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        passed: &CpuStorage,
        passed_layout: &Layout,
    ) -> Result<()> {
        fast::add(Arch::new(), slice_mut(a, a_layout)?, slice(b, b_layout)?, Some(slice(passed, passed_layout)?));
        Ok(())
    }
}
