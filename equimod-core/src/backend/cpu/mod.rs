//! Shared parts of the two CPU backends: tensors as slices, single-threaded matrix products, loops compiled for the
//! instruction sets found at run time, and computations that are the same in f32 and f64.

mod average;
mod backend;
mod cross_entropy;
mod element;
mod gemm;
mod norms;
mod optimizer;
mod pixels;
mod slices;
mod vectorize;

pub use backend::CpuBackend;
pub use element::Element;
pub use gemm::{Matrix, gemm};
pub use pixels::planes_of;
pub use slices::{Values, plain, winners_of};
pub use vectorize::{vectorized, vectorized_for};
