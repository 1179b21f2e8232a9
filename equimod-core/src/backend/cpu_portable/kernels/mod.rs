//! Kernels over planes, in f32 and f64.

pub mod batch_norm;
pub mod im2col;
pub mod pooling;
