//! Matrix products of tensors.

use candle_core::{Device, Result, Tensor};
use pulp::Arch;

use super::CpuFast;
use super::kernels::{matmul, transposed};
use crate::backend::contract::MatrixOps;
use crate::backend::cpu::{Values, plain};

/// The matrix `[rows, columns]` that `product` computes from the values of two others.
fn multiply(
    [a, b]: [&Tensor; 2],
    shape: (usize, usize),
    product: impl Fn(&[f32], &[f32]) -> Vec<f32>,
) -> Result<Tensor> {
    let (a, b) = (plain(a)?, plain(b)?);
    let values = product(Values::of(&a)?.get()?, Values::of(&b)?.get()?);
    Tensor::from_vec(values, shape, &Device::Cpu)
}

impl MatrixOps for CpuFast {
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let ((rows, depth), columns) = (a.dims2()?, b.dim(1)?);
        multiply([a, b], (rows, columns), |a, b| matmul(Arch::new(), a, b, (rows, depth, columns)))
    }

    fn matmul_nt(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let ((rows, depth), columns) = (a.dims2()?, b.dim(0)?);
        // Transposes either b, or a and the result of (b·aᵀ)ᵀ, whichever has fewer values.
        multiply([a, b], (rows, columns), |a, b| match b.len() <= a.len() + rows * columns {
            true => matmul(Arch::new(), a, &transposed(b, 1, columns, depth), (rows, depth, columns)),
            false => {
                let product = matmul(Arch::new(), b, &transposed(a, 1, rows, depth), (columns, depth, rows));
                transposed(&product, 1, columns, rows)
            }
        })
    }

    fn matmul_tn(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let ((depth, rows), columns) = (a.dims2()?, b.dim(1)?);
        // Transposes either a, or b and the result of (bᵀ·a)ᵀ, whichever has fewer values.
        multiply([a, b], (rows, columns), |a, b| match a.len() <= b.len() + rows * columns {
            true => matmul(Arch::new(), &transposed(a, 1, depth, rows), b, (rows, depth, columns)),
            false => {
                let product = matmul(Arch::new(), &transposed(b, 1, depth, columns), a, (columns, depth, rows));
                transposed(&product, 1, columns, rows)
            }
        })
    }
}
