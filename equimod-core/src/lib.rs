//! Backbones, heads, objectives, equivariance modules and optimizers for self-supervised learning on candle: from
//! tensors to losses and gradients.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use equimod_core::optim::SgdConfig;
//! use equimod_core::{
//!     Method, MethodConfig, OptimizerConfig, Parameters, Placement, Progress, SingleProcess, StepBatch,
//! };
//!
//! # fn main() -> equimod_core::Result<()> {
//! let config: MethodConfig = serde_json::from_str(
//!     r#"{"backbone": {"width": 4}, "objective": {"kind": "simclr", "projection_head": "16-8 bn-"}}"#,
//! ).expect("a method");
//! let device = Device::Cpu;
//! let (collective, execution) = (SingleProcess::shared(), Default::default());
//! let placement = Placement { seed: 0, dtype: DType::F32, device: &device, image_size: 16, collective, execution };
//! let method = Method::new(&config, &Parameters::default(), placement)?;
//! let mut optimizer = OptimizerConfig::Sgd(SgdConfig::default()).build();
//! let (total, mut losses) = (5, Vec::new());
//! let view = Tensor::randn(0f32, 1.0, (4, 3, 16, 16), &device)?;
//! for step in 0..total {
//!     let noise = Tensor::randn(0f32, 0.1, (4, 3, 16, 16), &device)?;
//!     let batch = StepBatch::of_views([view.clone(), (&view + noise)?]);
//!     let mut outcome = method.step(&batch, Progress { step, total })?;
//!     optimizer.step(method.params(), &mut outcome.gradients, 0.01)?;
//!     losses.push(outcome.loss); // stays on the device
//! }
//! let losses = equimod_core::host::read(&losses.iter().collect::<Vec<_>>())?; // one transfer
//! assert!(losses.iter().all(|loss| loss.is_finite()));
//! # Ok(())
//! # }
//! ```
//!
//! - [`params`]: named parameters and buffers; [`nn`], [`ops`], [`backend`]: layers, tensor operations, and their
//!   implementations; [`tape`]: features and the backward pass
//! - [`backbone`], [`head`], [`objective`], [`equivariance`], [`ema`], [`method`](mod@method): the trainable parts;
//!   [`step`]: the data that passes between them
//! - [`execution`]: execution settings; [`optim`]: optimizers and schedules; [`collective`]: communication between
//!   processes; [`thread_group`]: ranks as threads of one process; [`request`], [`reduce`](mod@reduce): for
//!   other collectives
//! - [`images`]: conversion of pixels to tensors; [`checkpoint`], [`model`], [`torch_file`]: weights on disk
//!
//! This crate does not decode images, draw augmentations or run the training loop. It never prints, and never accesses
//! the internet. Loss and metrics of a step stay on the device until [`host::read`] transfers them.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod agreement;
pub mod backbone;
pub mod backend;
pub mod buckets;
mod build;
pub mod checkpoint;
pub mod collective;
pub mod device;
pub mod ema;
pub mod equivariance;
mod error;
pub mod execution;
pub mod head;
pub mod host;
pub mod images;
mod load_report;
pub mod method;
pub mod model;
mod names;
#[cfg(feature = "nccl")]
pub mod nccl;
pub mod nn;
pub mod objective;
pub mod ops;
pub mod optim;
mod other_files;
pub mod parameters;
pub mod params;
mod passes;
pub mod reduce;
pub mod registry;
pub mod request;
mod schema;
mod spelling;
pub mod step;
pub mod tape;
pub mod thread_group;
pub mod torch_file;

pub use agreement::Agreement;
pub use backbone::{
    Architecture, AutogradBackbone, Backbone, BackboneConfig, BackboneContext, BackboneSettings, CustomConfig,
    LibraryName, Network, ResNet, ResNetConfig, Stem,
};
pub use buckets::Buckets;
pub use build::{BuildContext, Placement};
pub use collective::{
    Collective, CollectiveError, CollectiveResult, Exchange, Reduction, SharedCollective, SingleProcess,
};
pub use ema::{TargetConfig, TargetNetwork};
pub use equivariance::{Equivariance, EquivarianceConfig, EquivarianceModule, NamedModule, Needs};
pub use error::{Error, Result};
pub use execution::{Execution, Precision};
pub use head::{Head, HeadSpec};
pub use images::{Normalization, Preprocessing};
pub use method::{Extensions, Method, MethodConfig, StepOutcome, StepValues};
pub use model::{Description, Model};
pub use nn::Mode;
pub use objective::ObjectiveConfig;
pub use optim::{Optimizer, OptimizerConfig, Progress};
pub use parameters::{PairValue, Parameters, ViewValue};
pub use params::ParamStore;
pub use registry::Entry;
pub use step::{StepBatch, StepContext, Term};
pub use tape::{Features, Tap};
pub use thread_group::{FailureCause, RankFailure, RankThreads, run_ranks};
