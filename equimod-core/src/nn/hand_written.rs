//! Operations with a custom backward pass in candle's autograd (as `torch.autograd.Function`), on any device.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, MetalStorage, Shape, Storage, Tensor,
};

type Backward = Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync>;
type Pair = (Option<Tensor>, Option<Tensor>);
type PairBackward = Box<dyn Fn(&Tensor) -> candle_core::Result<Pair> + Send + Sync>;
type Three = (Option<Tensor>, Option<Tensor>, Option<Tensor>);
type ThreeBackward = Box<dyn Fn(&Tensor) -> candle_core::Result<Three> + Send + Sync>;

/// Registers `output`, computed in any way from the values of `input`, as a function of `input` in candle's autograd.
/// Both may have any shape. `backward` maps the gradient of the output (shape of `output`) to that of the input (shape
/// of `input`).
///
/// `output` is copied once. `backward` runs only if `input` depends on a variable.
///
/// # Errors
///
/// If `input` and `output` are on different devices, or the copy fails.
pub fn hand_written(
    input: &Tensor,
    output: &Tensor,
    backward: impl Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'static,
) -> candle_core::Result<Tensor> {
    let output = whole(output)?;
    input.apply_op1(HandWritten::<Backward> { output, backward: Box::new(backward) })
}

/// `tensor`, detached and contiguous from the start of its storage, so that the storage can be passed on.
fn whole(tensor: &Tensor) -> candle_core::Result<Tensor> {
    let tensor = tensor.detach();
    match tensor.is_contiguous() && tensor.layout().start_offset() == 0 {
        true => Ok(tensor),
        false => tensor.force_contiguous(),
    }
}

/// [`hand_written`] with two inputs. `backward` returns the gradient of each input, or `None` for an input without one.
///
/// # Errors
///
/// Those of `hand_written`.
pub fn hand_written_pair(
    first: &Tensor,
    second: &Tensor,
    output: &Tensor,
    backward: impl Fn(&Tensor) -> candle_core::Result<Pair> + Send + Sync + 'static,
) -> candle_core::Result<Tensor> {
    first.apply_op2(second, HandWritten::<PairBackward> { output: whole(output)?, backward: Box::new(backward) })
}

/// [`hand_written`] with three inputs. `backward` returns the gradient of each input, or `None` for an input without
/// one.
///
/// # Errors
///
/// Those of `hand_written`.
pub fn hand_written_of_three(
    [first, second, third]: [&Tensor; 3],
    output: &Tensor,
    backward: impl Fn(&Tensor) -> candle_core::Result<Three> + Send + Sync + 'static,
) -> candle_core::Result<Tensor> {
    let operation = HandWritten::<ThreeBackward> { output: whole(output)?, backward: Box::new(backward) };
    first.apply_op3(second, third, operation)
}

struct HandWritten<B> {
    output: Tensor,
    backward: B,
}

fn elsewhere<T>() -> candle_core::Result<T> {
    candle_core::bail!("the output of a hand-written operation lies on another device than its input")
}

fn on_cpu(output: &Tensor) -> candle_core::Result<(CpuStorage, Shape)> {
    let (storage, layout) = output.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok((storage.try_clone(layout)?, output.shape().clone())),
        _ => elsewhere(),
    }
}

fn on_cuda(output: &Tensor) -> candle_core::Result<(CudaStorage, Shape)> {
    let (storage, layout) = output.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, output.shape().clone())),
        _ => elsewhere(),
    }
}

fn on_metal(output: &Tensor) -> candle_core::Result<(MetalStorage, Shape)> {
    let (storage, layout) = output.storage_and_layout();
    match &*storage {
        Storage::Metal(storage) => Ok((storage.try_clone(layout)?, output.shape().clone())),
        _ => elsewhere(),
    }
}

impl CustomOp1 for HandWritten<Backward> {
    fn name(&self) -> &'static str {
        "hand-written"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        on_cpu(&self.output)
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        on_cuda(&self.output)
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
        on_metal(&self.output)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        (self.backward)(&gradient.contiguous()?).map(Some)
    }
}

impl CustomOp2 for HandWritten<PairBackward> {
    fn name(&self) -> &'static str {
        "hand-written"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        on_cpu(&self.output)
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        on_cuda(&self.output)
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        on_metal(&self.output)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Pair> {
        (self.backward)(&gradient.contiguous()?)
    }
}

impl CustomOp3 for HandWritten<ThreeBackward> {
    fn name(&self) -> &'static str {
        "hand-written"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        on_cpu(&self.output)
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        on_cuda(&self.output)
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        on_metal(&self.output)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Three> {
        (self.backward)(&gradient.contiguous()?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn each_of_a_pair_gets_its_own_gradient() {
        // For y = a·b, the gradients are b and a.
        let a = Var::from_slice(&[1.0f64, -2.0], 2, &Device::Cpu).unwrap();
        let b = Var::from_slice(&[3.0f64, 0.5], 2, &Device::Cpu).unwrap();
        let (x, y) = (a.as_detached_tensor(), b.as_detached_tensor());
        let product = (&x * &y).unwrap();
        let product = hand_written_pair(&a, &b, &product, move |g| Ok((Some((g * &y)?), Some((g * &x)?)))).unwrap();
        let gradients = product.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&a).unwrap().to_vec1::<f64>().unwrap(), [3.0, 0.5]);
        assert_eq!(gradients.get(&b).unwrap().to_vec1::<f64>().unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn the_given_gradient_is_used_and_chained() {
        // For y = x² by hand and the loss 3·y, the gradient is 6·x for any layout of the input.
        let x = Var::from_slice(&[1.0f64, -2.0, 0.5, 4.0], (2, 2), &Device::Cpu).unwrap();
        let input = x.t().unwrap();
        let held = input.detach();
        let y = hand_written(&input, &held.sqr().unwrap(), move |g| g * (&held * 2.0)?).unwrap();
        let loss = (y * 3.0).unwrap().sum_all().unwrap();
        let gradient = loss.backward().unwrap().get(&x).unwrap().to_vec2::<f64>().unwrap();
        assert_eq!(gradient, vec![vec![6.0, -12.0], vec![3.0, 24.0]]);
        assert_eq!(loss.to_scalar::<f64>().unwrap(), 3.0 * (1.0 + 4.0 + 0.25 + 16.0));
    }
}
