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
//! - [`run_with`]: the whole command with modules of your own

mod artifact;
pub mod bundled;
mod card;
mod choice;
mod cli;
mod commands;
mod export;
mod hub;
mod inputs;
#[cfg(feature = "mpi")]
pub mod mpi;
mod outputs;
mod process;
pub mod recipes;
mod reference;
mod run;
mod run_state;

use std::process::ExitCode;

use clap::Parser;
use equimod_core::equivariance::{ModuleKind, register};

pub use {equimod_core as core, equimod_data as data, equimod_eval as eval, equimod_train as train};

pub use process::allocator::Allocator;
use process::{allocator, exit};

/// The command `equimod` with the arguments of this process, for a program's `main`; recipes may name `modules` in
/// addition to the built-in ones. Augmentations of your own are registered before, with [`data::augment::register`].
///
/// The program should also use [`Allocator`] as its global allocator, which reports and steadies the memory in use:
///
/// ```no_run
/// #[global_allocator]
/// static ALLOCATOR: equimod::Allocator = equimod::Allocator;
///
/// fn main() -> std::process::ExitCode {
///     equimod::run_with(&[])
/// }
/// ```
#[must_use]
pub fn run_with(modules: &[ModuleKind]) -> ExitCode {
    allocator::keep_memory();
    exit::keep_panics();
    std::panic::catch_unwind(|| run(modules)).unwrap_or_else(|_| exit::of_panic())
}

fn run(modules: &[ModuleKind]) -> ExitCode {
    if let Err(error) = register(modules) {
        return exit::of_error(&error.into(), false);
    }
    let arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::of_usage(error),
    };
    let verbose = arguments.verbose;
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => exit::of_error(&error, verbose),
    }
}

/// The example of the README, which compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The module of the book's page on extensions, which compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/extending.md")]
struct Extending;
