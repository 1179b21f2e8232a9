//! Training from a recipe to a run directory: the trainer, the run directory, metrics, the guard.
//!
//! ```
//! use equimod_train::{BuiltIn, resolve};
//!
//! # fn main() -> equimod_train::Result<()> {
//! let built_in = [BuiltIn { name: "small", text: "[backbone]\nwidth = 16" }];
//! let recipe = resolve(&built_in, "mine.toml", "base = \"small\"", &["schedule.epochs=20".to_owned()])?;
//! assert_eq!(recipe.backbone.settings().describe(), "resnet18, CIFAR stem, width 16");
//! assert_eq!(recipe.schedule.epochs, 20);
//! # Ok(())
//! # }
//! ```
//!
//! - [`recipe`], [`resolve`](mod@resolve): all settings, and their resolution from layers
//! - [`trainer`]: assembly of a run, and the training loop
//! - [`guard`]: checks before weights change; [`probe`]: evaluation during training
//! - [`replay`]: repetition of a diverged step; [`RateSearch`]: learning-rate range test
//! - [`changes`]: differences between recipes; [`recipe_schema`]: JSON Schema of recipes for editors
//! - [`run_dir`]: files of a run; [`metrics`]: sinks of metrics
//!
//! The crate does not evaluate or print, and does not read the environment or use the network.

mod changes;
mod error;
mod evidence;
mod find_rate;
pub mod guard;
mod listing;
mod log_recipe;
pub mod metrics;
mod pending;
mod policy_choice;
pub mod probe;
pub mod recipe;
pub mod replay;
pub mod resolve;
pub mod run_dir;
mod saved;
mod schedule;
mod schema;
mod similar;
mod speed;
mod tensors;
mod together;
pub mod trainer;
mod unknown;
mod unread;

pub use changes::{Change, affects_weights, changes, decisive, settings};
pub use error::{Error, Result};
pub use evidence::Evidence;
pub use find_rate::{RateSearch, RateStep};
pub use metrics::{Csv, JsonLines, ProbeReport, Sink, StepReport, TensorBoard, TextLog};
pub use policy_choice::PolicyChoice;
pub use probe::{Best, Probe};
pub use recipe::Recipe;
pub use replay::{Replay, ReplayOutcome};
pub use resolve::{BuiltIn, assemble, base_of, find, recorded, recorded_text, resolve, resolve_with};
pub use run_dir::{GitState, Origin, RunDirectory, RunInfo, Status};
pub use saved::InitialWeights;
pub use schema::recipe_schema;
pub use similar::nearest;
pub use speed::{Pace, Shares, Slowest, Spent};
pub use tensors::step_batch;
pub use trainer::{Ending, TrainContext, Trainer};
