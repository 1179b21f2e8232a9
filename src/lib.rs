//! Self-supervised representations that keep what augmentations would erase: EquiMod (arXiv 2211.01244) on candle.
//!
//! This crate re-exports the four libraries; its binary is the command `equimod`.
//!
//! ```
//! use equimod::data::{Policy, Size, view_rng};
//!
//! # fn main() -> equimod::data::Result<()> {
//! let policy = Policy::built_in("simclr-cifar10", 32)?;
//! let params = policy.views[0].sample(Size::square(32), &mut view_rng(0, 0, 0, 0));
//! assert_eq!(params.0.len(), 4);
//! # Ok(())
//! # }
//! ```
//!
//! - [`data`]: images in, batches out
//! - [`core`]: tensors in, losses and gradients out
//! - [`train`]: a recipe in, a run directory out
//! - [`eval`]: a frozen backbone in, numbers and pictures out

pub use {equimod_core as core, equimod_data as data, equimod_eval as eval, equimod_train as train};
