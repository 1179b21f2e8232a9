//! Convolution of tensors, forward and backward.

use candle_core::{Device, Result, Tensor, bail};
use pulp::Arch;

use super::element::Element;
use super::fast::{self, Algorithm, There};
use super::norm::Rectifier;
use super::portable::im2col;
use super::shapes::{Conv2dGeometry, ConvShape};
use super::values::{Kernels, Values, changed, from_rows, planes, rows};
use super::{composed, norm};

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

fn gradient_fits(dys: &Tensor, s: &ConvShape) -> Result<()> {
    let expected = [s.batch, s.out_channels, s.out_size.0, s.out_size.1];
    if dys.dims() != expected {
        bail!("a gradient of shape {:?} does not fit an output of shape {expected:?}", dys.dims());
    }
    Ok(())
}

impl ConvShape {
    /// Which kernels take it; those over rows know no groups.
    fn kernels(&self, tensor: &Tensor) -> Kernels {
        match Kernels::of(tensor) {
            Kernels::Fast if self.groups > 1 => Kernels::Portable,
            kernels => kernels,
        }
    }

    fn out_dims(&self) -> [usize; 4] {
        [self.batch, self.out_channels, self.out_size.0, self.out_size.1]
    }

    fn in_dims(&self) -> [usize; 4] {
        [self.batch, self.in_channels, self.in_size.0, self.in_size.1]
    }

    fn weight_dims(&self) -> [usize; 4] {
        [self.out_channels, self.in_channels / self.groups, self.kernel.0, self.kernel.1]
    }
}

/// What a convolution reads, `[N, C, H, W]`: a tensor, or what a batch norm and its ReLU make of it, which then need not be
/// held anywhere.
#[derive(Clone, Debug)]
pub struct Input {
    /// The tensor.
    pub values: Tensor,
    /// What it goes through first.
    pub rectifier: Option<Rectifier>,
}

impl From<Tensor> for Input {
    fn from(values: Tensor) -> Self {
        Self { values, rectifier: None }
    }
}

impl From<&Tensor> for Input {
    fn from(values: &Tensor) -> Self {
        values.clone().into()
    }
}

impl From<&Self> for Input {
    fn from(input: &Self) -> Self {
        input.clone()
    }
}

impl Input {
    /// What is read.
    pub fn made(&self) -> Result<Tensor> {
        self.rectifier.as_ref().map_or(Ok(self.values.clone()), |rectifier| rectifier.output(&self.values))
    }

    /// Batch, channels, height and width; an error if the rectifier is for other channels.
    fn dims4(&self) -> Result<(usize, usize, usize, usize)> {
        let dims = self.values.dims4()?;
        self.rectifier.as_ref().map_or(Ok(dims), |rectifier| rectifier.check(dims.1).map(|()| dims))
    }

    /// Calls `f` with the same over rows.
    fn over_rows<T>(&self, f: impl FnOnce(fast::Input) -> Result<T>) -> Result<T> {
        let values = rows(&self.values)?;
        let values = Values::of(&values)?;
        norm::over_rows(self.rectifier.as_ref(), |rectifier| f(fast::Input { values: values.get()?, rectifier }))
    }
}

/// xs `[N, C, H, W]`, weight `[O, C/groups, kh, kw]` → `[N, O, H', W']`.
pub fn conv2d(xs: impl Into<Input>, weight: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    Ok(convolve(&xs.into(), weight, g, false)?.0)
}

/// [`conv2d`] and [`batch_norm_sums`](super::batch_norm_sums) of its output, which cost little while it is being made.
pub fn conv2d_with_sums(xs: impl Into<Input>, weight: &Tensor, g: &Conv2dGeometry) -> Result<(Tensor, Tensor)> {
    let (ys, sums) = convolve(&xs.into(), weight, g, true)?;
    let sums = match sums {
        Some(sums) => Tensor::from_vec(sums, (2, ys.dim(1)?), &Device::Cpu)?,
        None => norm::batch_norm_sums(&ys)?,
    };
    Ok((ys, sums))
}

fn convolve(xs: &Input, weight: &Tensor, g: &Conv2dGeometry, sums: bool) -> Result<(Tensor, Option<Vec<f64>>)> {
    let (batch, channels, height, width) = xs.dims4()?;
    let s = ConvShape::new(batch, channels, weight_fits(weight, channels, g)?, (height, width), g)?;
    let kernels = s.kernels(&xs.values);
    if let Kernels::Fast = kernels {
        let weight = planes(weight)?;
        let weight = Values::of(&weight)?;
        let (ys, sums) =
            xs.over_rows(|xs| Ok(fast::conv2d(Arch::new(), Algorithm::of(&s), xs, weight.get()?, &s, sums)))?;
        return Ok((from_rows(ys, &s.out_dims())?, sums));
    }
    let xs = &xs.made()?;
    let ys = match kernels {
        Kernels::Composed => composed::conv2d(xs, weight, g)?,
        _ => {
            by_element(xs, |xs| portable_forward::<f32>(xs, weight, &s), |xs| portable_forward::<f64>(xs, weight, &s))?
        }
    };
    Ok((ys, None))
}

/// One of the two, by the element type.
fn by_element(
    tensor: &Tensor,
    f32: impl FnOnce(&Tensor) -> Result<Tensor>,
    f64: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if tensor.dtype() == candle_core::DType::F32 { f32(tensor) } else { f64(tensor) }
}

fn portable_forward<T: Element>(xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let (xs, weight) = (planes(xs)?, planes(weight)?);
    let mut ys = vec![T::zero(); s.outputs()];
    im2col::forward(Values::of(&xs)?.get::<T>()?, Values::of(&weight)?.get()?, s, &mut ys);
    Tensor::from_vec(ys, s.out_dims().as_slice(), &Device::Cpu)
}

/// Gradient of a convolution's input: dys `[N, O, H', W']`, weight `[O, C/groups, kh, kw]` → `[N, C, H, W]`.
pub fn conv2d_backward_data(
    dys: &Tensor,
    weight: &Tensor,
    g: &Conv2dGeometry,
    in_size: (usize, usize),
) -> Result<Tensor> {
    let channels = weight.dim(1)? * g.groups;
    let s = ConvShape::new(dys.dim(0)?, channels, weight_fits(weight, channels, g)?, in_size, g)?;
    gradient_fits(dys, &s)?;
    match s.kernels(dys) {
        Kernels::Fast => {
            let (dys, weight) = (rows(dys)?, planes(weight)?);
            let (dys, weight) = (Values::of(&dys)?, Values::of(&weight)?);
            let values = [dys.get()?, weight.get()?];
            let dxs = fast::conv2d_backward_data(Arch::new(), Algorithm::of(&s), values, &s, None);
            from_rows(dxs, &s.in_dims())
        }
        Kernels::Portable => {
            by_element(dys, |dys| portable_data::<f32>(dys, weight, &s), |dys| portable_data::<f64>(dys, weight, &s))
        }
        Kernels::Composed => composed::conv2d_backward_data(dys, weight, g, in_size),
    }
}

/// The gradient on the other way that the input of a convolution went, where it was made by a ReLU.
#[derive(Clone, Debug)]
pub enum Beside {
    /// It went no other way.
    Nothing,
    /// That of the ReLU's output.
    Behind(Tensor),
    /// That of the ReLU's input already, and so 0 where the ReLU's output is.
    Before(Tensor),
}

/// [`conv2d_backward_data`] and on through the ReLU that made the convolution's input `ys` `[N, C, H, W]`: where dx is the
/// gradient of `ys`,
///
/// - `dx·[ys > 0]` beside [nothing](Beside::Nothing),
/// - `(dx + more)·[ys > 0]` beside `more` [behind](Beside::Behind) the ReLU,
/// - `dx·[ys > 0] + more` beside `more` [before](Beside::Before) it.
///
/// The memory of `more` may be used for the result: no other tensor may share it, least of all another argument.
pub fn conv2d_backward_data_before_relu(
    dys: &Tensor,
    weight: &Tensor,
    g: &Conv2dGeometry,
    beside: Beside,
    ys: &Tensor,
) -> Result<Tensor> {
    let (batch, channels, height, width) = ys.dims4()?;
    let s = ConvShape::new(batch, channels, weight_fits(weight, channels, g)?, (height, width), g)?;
    gradient_fits(dys, &s)?;
    let more = match &beside {
        Beside::Nothing => None,
        Beside::Behind(more) | Beside::Before(more) => Some(more),
    };
    norm::same_shape(ys, &[more])?;
    let Kernels::Fast = s.kernels(dys) else {
        let dxs = conv2d_backward_data(dys, weight, g, s.in_size)?;
        return match beside {
            Beside::Nothing => norm::relu_backward(dxs, None, ys),
            Beside::Behind(more) => norm::relu_backward(dxs, Some(&more), ys),
            Beside::Before(more) => norm::relu_backward(dxs, None, ys)? + more,
        };
    };
    let (dys, weight, relu) = (rows(dys)?, planes(weight)?, rows(ys)?);
    let (dys, weight, relu) = (Values::of(&dys)?, Values::of(&weight)?, Values::of(&relu)?);
    let (arch, algorithm) = (Arch::new(), Algorithm::of(&s));
    let (values, relu) = ([dys.get()?, weight.get()?], Some(relu.get()?));
    let add = |there: There, dxs: &mut [f32]| {
        fast::conv2d_backward_data_beside(arch, algorithm, values, &s, relu, (there, dxs));
    };
    match beside {
        Beside::Nothing => from_rows(fast::conv2d_backward_data(arch, algorithm, values, &s, relu), &s.in_dims()),
        Beside::Behind(more) => changed(&more, |dxs| add(There::Behind, dxs)),
        Beside::Before(more) => changed(&more, |dxs| add(There::Before, dxs)),
    }
}

fn portable_data<T: Element>(dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let (dys, weight) = (planes(dys)?, planes(weight)?);
    let mut dxs = vec![T::zero(); s.inputs()];
    im2col::backward_data(Values::of(&dys)?.get::<T>()?, Values::of(&weight)?.get()?, s, &mut dxs);
    Tensor::from_vec(dxs, s.in_dims().as_slice(), &Device::Cpu)
}

/// Gradient of a convolution's weight: xs `[N, C, H, W]`, dys `[N, O, H', W']` → `[O, C/groups, kh, kw]`.
pub fn conv2d_backward_weight(xs: impl Into<Input>, dys: &Tensor, g: &Conv2dGeometry) -> Result<Tensor> {
    let xs: Input = xs.into();
    let (batch, channels, height, width) = xs.dims4()?;
    let s = ConvShape::new(batch, channels, dys.dim(1)?, (height, width), g)?;
    gradient_fits(dys, &s)?;
    let kernels = s.kernels(&xs.values);
    if let Kernels::Fast = kernels {
        let dys = rows(dys)?;
        let dys = Values::of(&dys)?;
        let run =
            |xs: fast::Input| Ok(fast::conv2d_backward_weight(Arch::new(), Algorithm::of(&s), xs, dys.get()?, &s));
        return Tensor::from_vec(xs.over_rows(run)?, s.weight_dims().as_slice(), &Device::Cpu);
    }
    let xs = &xs.made()?;
    match kernels {
        Kernels::Composed => composed::conv2d_backward_weight(xs, dys, g),
        _ => by_element(xs, |xs| portable_weight::<f32>(xs, dys, &s), |xs| portable_weight::<f64>(xs, dys, &s)),
    }
}

fn portable_weight<T: Element>(xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let (xs, dys) = (planes(xs)?, planes(dys)?);
    let dims = s.weight_dims();
    let mut dw = vec![T::zero(); dims.iter().product()];
    im2col::backward_weight(Values::of(&xs)?.get::<T>()?, Values::of(&dys)?.get()?, s, &mut dw);
    Tensor::from_vec(dw, dims.as_slice(), &Device::Cpu)
}
