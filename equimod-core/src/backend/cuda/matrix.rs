//! Matrix products, by cuBLAS through candle.

use super::Cuda;
use crate::backend::contract::MatrixOps;

impl MatrixOps for Cuda {}
