//! Backend for any device and element type, composed of candle's operations; it runs on CUDA and Metal.
//!
//! It does not use candle's autograd. Tests on the CPU compare it with the kernels. It reduces tensors of at most four
//! dimensions and uses none of candle's convolutions.

mod batch_norm;
mod convolution;
mod loss;
mod one_hot;
mod pooling;
mod unfold;

pub use one_hot::one_hot;

use crate::backend::contract::{ImageOps, MatrixOps, OptimizerOps};

/// Backend for all devices and element types that have no specialized one.
pub struct Composed;

impl MatrixOps for Composed {}

impl OptimizerOps for Composed {}

impl ImageOps for Composed {}
