//! A frozen backbone in, numbers and pictures out: features, nearest neighbours, logistic regression, equivariance,
//! reports.
//!
//! ```
//! use equimod_eval::{Features, Labelled, knn};
//!
//! # fn main() -> equimod_eval::Result<()> {
//! let features = Features::new(4, 2, vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 0.9])?;
//! let bank = Labelled::new(features.clone(), vec![0, 0, 1, 1], 2)?;
//! let votes = knn::vote(&bank, &features, &knn::KnnConfig { k: 2, temperature: 0.07 })?;
//! assert_eq!(votes[3].ranked[0], 1);
//! # Ok(())
//! # }
//! ```
//!
//! - [`features`]: what a backbone gives for a data set, cached
//! - [`knn`], [`logistic`], [`lbfgs`], [`equivariance`]: protocols; [`predictions`], [`metrics`]: their numbers with intervals
//! - [`few_shot`], [`ridge`]: episodes, probes of parameters; [`health`], [`projection`]: features without labels
//! - [`linear`], [`finetune`]: classifiers that are trained on pictures; [`supervised`]: what they have in common
//! - [`parameter_probe`], [`predictor_retrieval`]: what features and predictors know of augmentations
//! - [`results`], [`report`]: rows, tables, the page
//!
//! It does not train backbones, and never prints, reads the environment or opens the network.

pub mod compare;
pub mod embedding;
pub mod equivariance;
mod error;
pub mod features;
pub mod few_shot;
pub mod finetune;
pub mod health;
pub mod input;
pub mod knn;
pub mod lbfgs;
pub mod linear;
pub mod logistic;
mod matrix;
pub mod metrics;
pub mod parameter_probe;
pub mod predictions;
pub mod predictor_retrieval;
pub mod projection;
pub mod recall;
pub mod report;
pub mod results;
pub mod ridge;
pub mod suite;
pub mod supervised;
pub mod view_pairs;
mod views;

pub use error::{Error, Result};
pub use features::{Extractor, Features, Labelled};
pub use input::{Crop, Input};
pub use predictions::Predictions;
pub use results::ResultRow;
