//! Self-supervised representations that keep what augmentations would erase: EquiMod (arXiv 2211.01244) on candle.
//!
//! This crate re-exports the four libraries and adds the bundled data and recipes; its binary is the command `equimod`.
//!
//! ```no_run
//! use candle_core::Device;
//! use equimod::eval::{Evaluation, results::plain};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = equimod::core::Model::load("out/quick-1".as_ref(), &Device::Cpu)?;
//! let splits = equimod::bundled::emoji()?;
//! println!("{}", plain(&Evaluation::new(&model, &splits).knn()?.rows, true));
//! # Ok(())
//! # }
//! ```
//!
//! - [`data`]: images in, batches out
//! - [`core`]: tensors in, losses and gradients out
//! - [`train`]: a recipe in, a run directory out
//! - [`eval`]: a frozen backbone in, numbers and figures out
//! - [`bundled`]: emoji images, recipes, suites and studies that are compiled in; [`recipes`]: recipes by name
//! - `mpi`: runs of several processes (feature `mpi`)

pub mod bundled;
#[cfg(feature = "mpi")]
pub mod mpi;
pub mod recipes;

pub use {equimod_core as core, equimod_data as data, equimod_eval as eval, equimod_train as train};

/// The example of the README, which compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The module of the book's page on extensions, which compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/extending.md")]
struct Extending;
