//! Plain kernels of the CPU over planes (`[N, C, H, W]`), for f32 and f64: in f64 they are what the fast ones are held
//! against, and they take what those do not.

pub mod im2col;
pub mod norm;
pub mod pool;
