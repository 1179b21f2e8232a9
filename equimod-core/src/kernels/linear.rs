//! The products of fully connected layers.

use candle_core::{Device, Result, Tensor, bail};
use pulp::Arch;

use super::fast::layout::transposed;
use super::fast::matrix::product;
use super::values::{Kernels, Values, planes};

/// A matrix's sides.
fn sides(tensor: &Tensor) -> Result<(usize, usize)> {
    match tensor.dims() {
        &[rows, columns] => Ok((rows, columns)),
        dims => bail!("a linear layer needs matrices, got {dims:?}"),
    }
}

/// `of(first, second)` over the values of two matrices in f32 on the CPU, `[rows, columns]`; candle's elsewhere.
fn either(
    (first, second): (&Tensor, &Tensor),
    (rows, columns): (usize, usize),
    of: impl Fn(&[f32], &[f32]) -> Vec<f32>,
    candle: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (first, second) = (planes(first)?, planes(second)?);
    match Kernels::of(&first) {
        Kernels::Fast => {
            let values = of(Values::of(&first)?.get()?, Values::of(&second)?.get()?);
            Tensor::from_vec(values, (rows, columns), &Device::Cpu)
        }
        Kernels::Portable | Kernels::Composed => candle(&first, &second),
    }
}

fn one_width(a: usize, b: usize) -> Result<()> {
    if a != b {
        bail!("matrices of a linear layer meet with {a} and {b} values");
    }
    Ok(())
}

/// xs `[N, I]`, weight `[O, I]` → xs · weightᵀ `[N, O]`.
pub fn linear(xs: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((batch, inputs), (outputs, width)) = (sides(xs)?, sides(weight)?);
    one_width(inputs, width)?;
    // The larger matrix is walked along its rows: (weight · xsᵀ)ᵀ.
    let of = |xs: &[f32], weight: &[f32]| {
        let turned = product(Arch::new(), weight, &transposed(xs, 1, batch, inputs), (outputs, inputs, batch));
        transposed(&turned, 1, outputs, batch)
    };
    either((xs, weight), (batch, outputs), of, |xs, weight| xs.matmul(&weight.t()?))
}

/// dys `[N, O]`, weight `[O, I]` → dys · weight `[N, I]`.
pub fn linear_backward_data(dys: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((batch, outputs), (rows, inputs)) = (sides(dys)?, sides(weight)?);
    one_width(outputs, rows)?;
    let of = |dys: &[f32], weight: &[f32]| product(Arch::new(), dys, weight, (batch, outputs, inputs));
    either((dys, weight), (batch, inputs), of, |dys, weight| dys.matmul(weight))
}

/// xs `[N, I]`, dys `[N, O]` → dysᵀ · xs `[O, I]`.
pub fn linear_backward_weight(xs: &Tensor, dys: &Tensor) -> Result<Tensor> {
    let ((batch, inputs), (rows, outputs)) = (sides(xs)?, sides(dys)?);
    one_width(batch, rows)?;
    let of = |xs: &[f32], dys: &[f32]| {
        product(Arch::new(), &transposed(dys, 1, batch, outputs), xs, (outputs, batch, inputs))
    };
    either((xs, dys), (outputs, inputs), of, |xs, dys| dys.t()?.matmul(xs))
}
