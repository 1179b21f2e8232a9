//! Batch norm and ReLU.

use candle_core::{DType, Result, Tensor, bail};

use super::Cuda;
use super::launch::{Grid, Kernel, Module, launch, variant};
use super::memory::{
    address, address_or_null, channels_second, coefficients, count, device_of, rows, sizes, uninitialized,
};
use crate::backend::contract::{BatchNormOps, ChannelStatistics, RunningStatistics, ScaleShiftRelu};

/// Blocks of the kernels that stride over rows; enough to fill every GPU.
const ROW_BLOCKS: u32 = 1024;

/// Groups of rows with partial sums, at most.
const GROUPS: usize = 256;

/// Rows in a group, at least.
const GROUP_ROWS: usize = 64;

const fn kernel(name: &'static str, suffix: &'static str) -> Kernel {
    Kernel { module: Module::BatchNorm, name, suffix }
}

/// Blocks of 256 threads, (channels / pack, rows), with a power of two of rows.
fn tile(channels: u32, pack: usize) -> (u32, (u32, u32)) {
    let packs = channels.div_ceil(pack as u32).max(1);
    let across = packs.next_power_of_two().min(32);
    (packs.div_ceil(across), (across, 256 / across))
}

/// A grid whose blocks stride over rows.
pub(super) fn over_rows(rows: u32, channels: u32, pack: usize) -> Grid {
    let (across, threads) = tile(channels, pack);
    let down = rows.div_ceil(threads.1).clamp(1, ROW_BLOCKS.div_ceil(across));
    Grid { blocks: (across, down), threads }
}

/// A grid with a block for each group of `chunk` rows, and the number of rows of a group.
fn over_groups(rows: u32, channels: u32, pack: usize) -> (Grid, u32) {
    let (across, threads) = tile(channels, pack);
    let groups = (rows as usize).div_ceil(GROUP_ROWS).clamp(1, GROUPS) as u32;
    let chunk = rows.div_ceil(groups).max(1);
    (Grid { blocks: (across, rows.div_ceil(chunk).max(1)), threads }, chunk)
}

/// One thread for each channel.
fn over_channels(channels: u32) -> Grid {
    Grid { blocks: (channels.div_ceil(256).max(1), 1), threads: (256, 1) }
}

/// Gradient of a ReLU's input with the gradient of another path, `order`: none (0), added before the mask (1) or after
/// it (2). The result is in the memory of `dys`, which is contiguous, and of the layout of `ys`.
pub(super) fn through_relu(dys: &Tensor, more: Option<&Tensor>, ys: &Tensor, order: u32) -> Result<()> {
    let (dy, other, y) = (address(dys)?, address_or_null(more)?, address(ys)?);
    let values = dys.elem_count();
    let (suffix, pack) = variant(dys.dtype(), values, &[dy, other, y])?;
    let grid = Grid::strided(values.div_ceil(pack), 4 * ROW_BLOCKS);
    launch!(device_of(dys)?, kernel("relu_backward", suffix), grid, dy, other, y, dy, values, order)
}

/// The tensor's rows, copied if another tensor may share them.
pub(super) fn owned_rows(tensor: &Tensor) -> Result<Tensor> {
    rows(tensor)?.copy()
}

impl Cuda {
    fn apply(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
        in_place: bool,
    ) -> Result<Tensor> {
        let (xs, scale, shift) = (rows(xs)?, coefficients(scale)?, coefficients(shift)?);
        let residual = residual.map(rows).transpose()?;
        let ys = if in_place { xs.clone() } else { uninitialized(xs.dims(), xs.dtype(), xs.device())? };
        let (count, channels) = sizes(&xs)?;
        if count > 0 {
            let (x, y, more) = (address(&xs)?, address(&ys)?, address_or_null(residual.as_ref())?);
            let (suffix, pack) = variant(xs.dtype(), channels as usize, &[x, y, more])?;
            let (a, b, relu) = (address(&scale)?, address(&shift)?, u32::from(relu));
            let grid = over_rows(count, channels, pack);
            launch!(device_of(&xs)?, kernel("bn_apply", suffix), grid, x, a, b, more, y, count, channels, relu)?;
        }
        channels_second(&ys)
    }

    fn backward(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: &Tensor,
        terms: [&Tensor; 3],
        in_place: bool,
    ) -> Result<Tensor> {
        let (dys, xs) = (rows(dys)?, rows(xs)?);
        let dxs = if in_place { xs.clone() } else { uninitialized(xs.dims(), xs.dtype(), xs.device())? };
        let [scale, slope, offset] = terms.map(coefficients);
        let (scale, slope, offset) = (scale?, slope?, offset?);
        let mask = Mask::of(activation)?;
        let (count, channels) = sizes(&xs)?;
        if count > 0 {
            let (dy, x, dx) = (address(&dys)?, address(&xs)?, address(&dxs)?);
            let (suffix, pack) = variant(xs.dtype(), channels as usize, &[dy, x, dx])?;
            let (a, b, c) = (address(&scale)?, address(&slope)?, address(&offset)?);
            let (mask_scale, mask_shift) = mask.addresses()?;
            let (kernel, grid) = (kernel("bn_backward", suffix), over_rows(count, channels, pack));
            launch!(device_of(&xs)?, kernel, grid, dy, x, a, b, c, mask_scale, mask_shift, dx, count, channels)?;
        }
        channels_second(&dxs)
    }
}

/// An optional activation's coefficients.
struct Mask(Option<(Tensor, Tensor)>);

impl Mask {
    fn of(activation: Option<&ScaleShiftRelu>) -> Result<Self> {
        let of = |a: &ScaleShiftRelu| -> Result<_> { Ok((coefficients(&a.scale)?, coefficients(&a.shift)?)) };
        Ok(Self(activation.map(of).transpose()?))
    }

    /// Addresses of scale and shift, 0 for none.
    fn addresses(&self) -> Result<(u64, u64)> {
        match &self.0 {
            Some((scale, shift)) => Ok((address(scale)?, address(shift)?)),
            None => Ok((0, 0)),
        }
    }
}

impl BatchNormOps for Cuda {
    fn batch_norm_sums(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = rows(xs)?;
        let (count, channels) = sizes(&xs)?;
        let x = address(&xs)?;
        let (suffix, pack) = variant(xs.dtype(), channels as usize, &[x])?;
        let (grid, chunk) = over_groups(count, channels, pack);
        let groups = grid.blocks.1;
        let partials = uninitialized(&[groups as usize, 3, channels as usize], DType::F32, xs.device())?;
        let sums = uninitialized(&[2, channels as usize], DType::F64, xs.device())?;
        let (partial, sum, device) = (address(&partials)?, address(&sums)?, device_of(&xs)?);
        launch!(device, kernel("bn_sums", suffix), grid, x, partial, count, channels, chunk)?;
        let grid = Grid { blocks: (channels.div_ceil(32), 1), threads: (32, 8) };
        launch!(device, kernel("bn_sums_finish", ""), grid, partial, sum, count, channels, chunk, groups)?;
        Ok(sums)
    }

    fn batch_norm_apply(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        self.apply(xs, scale, shift, residual, relu, false)
    }

    fn batch_norm_apply_in_place(
        &self,
        xs: Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        self.apply(&xs, scale, shift, residual, relu, true)
    }

    fn batch_norm_backward_sums(
        &self,
        dys: &Tensor,
        xs: &Tensor,
        mean: &Tensor,
        inverse_std: &Tensor,
    ) -> Result<Tensor> {
        self.activated_backward_sums(dys, None, xs, mean, inverse_std)
    }

    fn activated_backward_sums(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: &Tensor,
        mean: &Tensor,
        inverse_std: &Tensor,
    ) -> Result<Tensor> {
        let (dys, xs, mask) = (rows(dys)?, rows(xs)?, Mask::of(activation)?);
        let (mean, inverse_std) = (coefficients(mean)?, coefficients(inverse_std)?);
        let (count, channels) = sizes(&xs)?;
        let (dy, x) = (address(&dys)?, address(&xs)?);
        let (suffix, pack) = variant(xs.dtype(), channels as usize, &[dy, x])?;
        let (grid, chunk) = over_groups(count, channels, pack);
        let (groups, values) = (grid.blocks.1, 2 * channels);
        let partials = uninitialized(&[groups as usize, values as usize], DType::F32, xs.device())?;
        let sums = uninitialized(&[2, channels as usize], DType::F64, xs.device())?;
        let (partial, sum, device) = (address(&partials)?, address(&sums)?, device_of(&xs)?);
        let (m, inverse, (scale, shift)) = (address(&mean)?, address(&inverse_std)?, mask.addresses()?);
        let name = kernel("bn_backward_sums", suffix);
        launch!(device, name, grid, dy, x, m, inverse, scale, shift, partial, count, channels, chunk)?;
        let grid = Grid { blocks: (values.div_ceil(32), 1), threads: (32, 8) };
        launch!(device, kernel("bn_backward_sums_finish", ""), grid, partial, sum, values, groups)?;
        Ok(sums)
    }

    fn batch_norm_backward(&self, dys: &Tensor, xs: &Tensor, coefficients: [&Tensor; 3]) -> Result<Tensor> {
        self.backward(dys, None, xs, coefficients, false)
    }

    fn activated_backward(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: &Tensor,
        coefficients: [&Tensor; 3],
    ) -> Result<Tensor> {
        self.backward(dys, activation, xs, coefficients, false)
    }

    fn activated_backward_in_place(
        &self,
        dys: &Tensor,
        activation: Option<&ScaleShiftRelu>,
        xs: Tensor,
        coefficients: [&Tensor; 3],
    ) -> Result<Tensor> {
        self.backward(dys, activation, &xs, coefficients, true)
    }

    fn relu_backward(&self, dys: &Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
        let dxs = owned_rows(dys)?;
        through_relu(&dxs, more.map(rows).transpose()?.as_ref(), &rows(ys)?, u32::from(more.is_some()))?;
        channels_second(&dxs)
    }

    fn relu_backward_in_place(&self, dys: Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
        let dxs = rows(&dys)?;
        through_relu(&dxs, more.map(rows).transpose()?.as_ref(), &rows(ys)?, u32::from(more.is_some()))?;
        channels_second(&dxs)
    }

    fn batch_norm_statistics(
        &self,
        sums: &Tensor,
        values: f64,
        epsilon: f64,
        running: Option<RunningStatistics>,
    ) -> Result<ChannelStatistics> {
        let sums = sums.detach().to_dtype(DType::F64)?.contiguous()?;
        let channels = sums.dim(1)?;
        let new = || uninitialized(&[channels], DType::F32, sums.device());
        let (mean, inverse_std) = (new()?, new()?);
        let (running_mean, running_variance, momentum) = match running {
            Some(RunningStatistics { mean, variance, momentum }) => {
                if mean.dtype() != DType::F32 || variance.dtype() != DType::F32 {
                    bail!("running statistics on a CUDA device are f32, not {:?}", mean.dtype());
                }
                (address(mean)?, address(variance)?, momentum)
            }
            None => (0, 0, 0.0),
        };
        let (sum, m, inverse, channels) = (address(&sums)?, address(&mean)?, address(&inverse_std)?, count(channels)?);
        let (kernel, grid) = (kernel("bn_statistics", ""), over_channels(channels));
        launch!(
            device_of(&sums)?,
            kernel,
            grid,
            sum,
            m,
            inverse,
            running_mean,
            running_variance,
            values,
            epsilon,
            momentum,
            channels
        )?;
        Ok(ChannelStatistics { mean, inverse_std })
    }

    fn batch_norm_affine(
        &self,
        statistics: &ChannelStatistics,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        _: DType,
    ) -> Result<ScaleShiftRelu> {
        let (mean, inverse_std) = (coefficients(&statistics.mean)?, coefficients(&statistics.inverse_std)?);
        let (weight, bias) = (weight.map(coefficients).transpose()?, bias.map(coefficients).transpose()?);
        let new = || uninitialized(mean.dims(), DType::F32, mean.device());
        let (scale, shift) = (new()?, new()?);
        let (m, inverse, channels) = (address(&mean)?, address(&inverse_std)?, count(mean.elem_count())?);
        let (w, b) = (address_or_null(weight.as_ref())?, address_or_null(bias.as_ref())?);
        let (a, c) = (address(&scale)?, address(&shift)?);
        let grid = over_channels(channels);
        launch!(device_of(&mean)?, kernel("bn_affine", ""), grid, m, inverse, w, b, a, c, channels)?;
        Ok(ScaleShiftRelu { scale, shift })
    }

    fn batch_norm_coefficients(
        &self,
        statistics: &ChannelStatistics,
        weight: Option<&Tensor>,
        sums: Option<(&Tensor, f64)>,
        _: DType,
    ) -> Result<[Tensor; 3]> {
        let (mean, inverse_std) = (coefficients(&statistics.mean)?, coefficients(&statistics.inverse_std)?);
        let weight = weight.map(coefficients).transpose()?;
        let of_all = sums.map(|(sums, _)| sums.detach().to_dtype(DType::F64)?.contiguous()).transpose()?;
        let values = sums.map_or(1.0, |(_, values)| values);
        let terms = uninitialized(&[3, mean.elem_count()], DType::F32, mean.device())?;
        let (sum, w) = (address_or_null(of_all.as_ref())?, address_or_null(weight.as_ref())?);
        let (m, inverse, channels) = (address(&mean)?, address(&inverse_std)?, count(mean.elem_count())?);
        let (out, grid) = (address(&terms)?, over_channels(channels));
        launch!(device_of(&mean)?, kernel("bn_coefficients", ""), grid, sum, m, inverse, w, out, values, channels)?;
        Ok([terms.get(0)?, terms.get(1)?, terms.get(2)?])
    }
}
