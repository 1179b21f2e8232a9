//! bf16 by rounding: every operation computes in f32 on another backend and rounds its result to bf16.
//!
//! Except for the order of sums, this is the arithmetic of hardware with bf16 inputs and f32 accumulation, so that a
//! run on the CPU shows the effect of bf16 on training. Operations that a backend fuses are separate here, with
//! rounding between them.

use candle_core::{DType, Device, Result, Tensor};

use super::contract::{
    Backend, BatchNormOps, ConvShape, ConvolutionOps, ImageOps, LossOps, MatrixOps, OptimizerOps, PixelShape,
    PoolShape, PoolingOps, RowTargets,
};

/// A backend for bf16 tensors. Statistics, sums and gradients of weights are f32.
pub struct Rounded<B>(pub B);

fn wide(tensor: &Tensor) -> Result<Tensor> {
    tensor.detach().to_dtype(DType::F32)
}

/// A weight, which may be f32, rounded to bf16 and widened.
fn rounded_weight(weight: &Tensor) -> Result<Tensor> {
    wide(&weight.detach().to_dtype(DType::BF16)?)
}

fn rounded(tensor: Result<Tensor>) -> Result<Tensor> {
    tensor?.to_dtype(DType::BF16)
}

impl<B: Backend> BatchNormOps for Rounded<B> {
    fn batch_norm_sums(&self, xs: &Tensor) -> Result<Tensor> {
        self.0.batch_norm_sums(&wide(xs)?)
    }

    fn batch_norm_apply(
        &self,
        xs: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Tensor> {
        let residual = residual.map(wide).transpose()?;
        rounded(self.0.batch_norm_apply(&wide(xs)?, &wide(scale)?, &wide(shift)?, residual.as_ref(), relu))
    }

    fn batch_norm_backward_sums(
        &self,
        dys: &Tensor,
        xs: &Tensor,
        mean: &Tensor,
        inverse_std: &Tensor,
    ) -> Result<Tensor> {
        self.0.batch_norm_backward_sums(&wide(dys)?, &wide(xs)?, &wide(mean)?, &wide(inverse_std)?)
    }

    fn batch_norm_backward(&self, dys: &Tensor, xs: &Tensor, [scale, slope, offset]: [&Tensor; 3]) -> Result<Tensor> {
        let (scale, slope, offset) = (wide(scale)?, wide(slope)?, wide(offset)?);
        rounded(self.0.batch_norm_backward(&wide(dys)?, &wide(xs)?, [&scale, &slope, &offset]))
    }

    fn relu_backward(&self, dys: &Tensor, more: Option<&Tensor>, ys: &Tensor) -> Result<Tensor> {
        let more = more.map(wide).transpose()?;
        rounded(self.0.relu_backward(&wide(dys)?, more.as_ref(), &wide(ys)?))
    }
}

impl<B: Backend> ConvolutionOps for Rounded<B> {
    fn conv2d(&self, xs: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        rounded(self.0.conv2d(&wide(xs)?, &rounded_weight(weight)?, s))
    }

    fn conv2d_backward_data(&self, dys: &Tensor, weight: &Tensor, s: &ConvShape) -> Result<Tensor> {
        rounded(self.0.conv2d_backward_data(&wide(dys)?, &rounded_weight(weight)?, s))
    }

    fn conv2d_backward_weight(&self, xs: &Tensor, dys: &Tensor, s: &ConvShape) -> Result<Tensor> {
        self.0.conv2d_backward_weight(&wide(xs)?, &wide(dys)?, s)
    }

    fn prepared_weight(&self, weight: &Tensor, dtype: DType) -> Result<Tensor> {
        weight.detach().to_dtype(dtype)
    }
}

impl<B: Backend> PoolingOps for Rounded<B> {
    fn max_pool2d(&self, xs: &Tensor, s: &PoolShape) -> Result<(Tensor, Tensor)> {
        let (ys, winners) = self.0.max_pool2d(&wide(xs)?, s)?;
        Ok((rounded(Ok(ys))?, winners))
    }

    fn max_pool2d_backward(&self, dys: &Tensor, winners: &Tensor, s: &PoolShape) -> Result<Tensor> {
        rounded(self.0.max_pool2d_backward(&wide(dys)?, winners, s))
    }

    fn global_average_pool(&self, xs: &Tensor) -> Result<Tensor> {
        rounded(self.0.global_average_pool(&wide(xs)?))
    }

    fn global_average_pool_backward(&self, dys: &Tensor, in_size: (usize, usize)) -> Result<Tensor> {
        rounded(self.0.global_average_pool_backward(&wide(dys)?, in_size))
    }
}

impl<B: Backend> LossOps for Rounded<B> {
    fn cross_entropy_rows(&self, similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)> {
        let (losses, gradient) = self.0.cross_entropy_rows(wide(&similarities)?, targets)?;
        Ok((losses, rounded(Ok(gradient))?))
    }
}

impl<B: Backend> MatrixOps for Rounded<B> {
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        rounded(self.0.matmul(&wide(a)?, &wide(b)?))
    }

    fn matmul_nt(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        rounded(self.0.matmul_nt(&wide(a)?, &wide(b)?))
    }

    fn matmul_tn(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        rounded(self.0.matmul_tn(&wide(a)?, &wide(b)?))
    }
}

/// Parameters and optimizer buffers are f32 or f64 and use another backend; only norms of bf16 tensors are computed
/// here.
impl<B: Backend> OptimizerOps for Rounded<B> {
    fn squared_norm(&self, tensor: &Tensor) -> Result<Tensor> {
        self.0.squared_norm(&wide(tensor)?)
    }
}

impl<B: Backend> ImageOps for Rounded<B> {
    fn normalized(
        &self,
        pixels: &[u8],
        shape: PixelShape,
        mean_and_std: [[f32; 3]; 2],
        device: &Device,
        dtype: DType,
    ) -> Result<Tensor> {
        self.0.normalized(pixels, shape, mean_and_std, device, DType::F32)?.to_dtype(dtype)
    }
}
