//! Tensors in, losses and gradients out: backbones, heads, objectives, equivariance modules and optimisers for
//! self-supervised learning on candle.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use equimod_core::{MethodConfig, Method, Progress, Parameters, Placement, SingleProcess, StepBatch};
//!
//! # fn main() -> equimod_core::Result<()> {
//! let config: MethodConfig = serde_json::from_str(
//!     r#"{"backbone": {"width": 4}, "objective": {"kind": "simclr", "projection_head": "16-8 bn-"}}"#,
//! ).expect("a method");
//! let device = Device::Cpu;
//! let (collective, execution) = (SingleProcess::shared(), Default::default());
//! let placement = Placement { seed: 0, dtype: DType::F32, device: &device, image_size: 16, collective, execution };
//! let method = Method::new(&config, &Parameters::default(), placement)?;
//! let view = Tensor::randn(0f32, 1.0, (4, 3, 16, 16), &device)?;
//! let step = method.step(&StepBatch::of_views([view.clone(), view]), Progress::ONLY)?;
//! assert!(step.loss.is_finite() && step.gradients.get("backbone.conv1.weight").is_some());
//! # Ok(())
//! # }
//! ```
//!
//! - [`params`]: named parameters and buffers; [`nn`], [`ops`], [`backend`]: layers, the operations that they call, and
//!   who computes them; [`tape`]: features and the backward pass
//! - [`backbone`], [`head`], [`objective`], [`equivariance`], [`ema`], [`method`](mod@method): what is trained;
//!   [`step`]: what passes between them
//! - [`execution`]: how the work is done; [`optim`]: optimisers and schedules; [`collective`]: processes that work
//!   together
//! - [`images`]: from pixels to tensors; [`checkpoint`], [`model`], [`torch_file`]: weights on disk
//!
//! It does not read pictures, draw augmentations, or run the training loop, and it never prints or opens the network.

pub mod backbone;
pub mod backend;
mod build;
pub mod checkpoint;
pub mod collective;
pub mod ema;
pub mod equivariance;
mod error;
pub mod execution;
pub mod head;
pub mod images;
mod load_report;
pub mod method;
pub mod model;
mod names;
pub mod nn;
pub mod objective;
pub mod ops;
pub mod optim;
mod other_files;
pub mod parameters;
pub mod params;
mod passes;
pub mod registry;
mod schema;
pub mod step;
pub mod tape;
pub mod torch_file;

pub use backbone::{
    Architecture, AutogradBackbone, Backbone, BackboneConfig, BackboneContext, BackboneSettings, CustomConfig,
    LibraryName, Network, ResNet, ResNetConfig, Stem,
};
pub use build::{BuildContext, Placement};
pub use collective::{Collective, SharedCollective, SingleProcess};
pub use ema::{TargetConfig, TargetNetwork};
pub use equivariance::{Equivariance, EquivarianceConfig, EquivarianceModule, NamedModule, Needs};
pub use error::{Error, Result};
pub use execution::{Execution, Precision};
pub use head::{Head, HeadSpec};
pub use images::{Normalisation, Preprocessing};
pub use method::{Extensions, Method, MethodConfig, StepOutcome};
pub use model::{Description, Model};
pub use nn::Mode;
pub use objective::ObjectiveConfig;
pub use optim::{Optimizer, OptimizerConfig, Progress};
pub use parameters::{PairValue, Parameters, ViewValue};
pub use params::ParamStore;
pub use registry::Entry;
pub use step::{StepBatch, StepContext, Term};
pub use tape::{Features, Tap};
