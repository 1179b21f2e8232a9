//! Any device and element type, composed of candle's operations: what runs on CUDA and Metal.
//!
//! No backward of candle is used. Tests on the CPU hold it against the kernels.

mod batch_norm;
mod convolution;
mod loss;
mod one_hot;
mod pooling;
mod unfold;

pub use one_hot::one_hot;

use crate::backend::contract::{ImageOps, MatrixOps, OptimizerOps};

/// The backend of every device and element type that has no own one.
pub struct Composed;

impl MatrixOps for Composed {}

impl OptimizerOps for Composed {}

impl ImageOps for Composed {}
