//! A frozen backbone in, numbers and figures out: features, downstream protocols, equivariance, reports.
//!
//! ```no_run
//! use std::sync::Arc;
//! use candle_core::Device;
//! use equimod_core::Model;
//! use equimod_data::{FolderDataset, Splits};
//! use equimod_eval::Evaluation;
//! use equimod_eval::results::plain;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Model::load("out/quick-1".as_ref(), &Device::Cpu)?;
//! // Images in a sub-folder for each class; a fifth of each class is held out to test on.
//! let splits = Splits::new("birds", Arc::new(FolderDataset::open("birds".as_ref())?));
//! let evaluation = Evaluation::new(&model, &splits).seed(1);
//! let mut rows = evaluation.knn()?.rows;
//! rows.extend(evaluation.logistic()?.rows);
//! println!("{}", plain(&rows, true));
//! # Ok(())
//! # }
//! ```
//!
//! - [`evaluation`]: protocols on the splits of a data set, and your own ([`Protocol`]); start here
//! - [`features`], [`input`]: pooled features of a data set, cached; how images are resized and cropped
//! - [`knn`], [`logistic`], [`few_shot`], [`linear`], [`finetune`], [`supervised`]: classifiers
//! - [`predictions`], [`metrics`], [`compare`]: metrics with intervals, paired comparison of two models
//! - [`equivariance`], [`predictor_retrieval`], [`predicted_views`](mod@predicted_views), [`parameter_probe`],
//!   [`ridge`]: augmentations in features and predictions
//! - [`health`], [`recall`], [`projection`], [`view_pairs`]: features without labels, retrieval, maps
//! - [`verdict`](mod@verdict): what results mean, in a few sentences
//! - [`suite`], [`results`], [`report`], [`shown`], [`embedding`]: transfer suites, rows of numbers, pages and their
//!   images, files of features
//! - [`study`]: many runs with several seeds, summarized with paired differences
//! - [`lbfgs`], [`stratified`]: the minimizer, random splits
//!
//! It does not train backbones, and never prints, reads the environment or opens the network.

pub mod compare;
mod copies;
pub mod embedding;
pub mod equivariance;
mod error;
pub mod evaluation;
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
pub mod predicted_views;
pub mod predictions;
pub mod predictor_retrieval;
pub mod projection;
pub mod recall;
pub mod references;
pub mod report;
pub mod results;
pub mod ridge;
pub mod shown;
pub mod stratified;
pub mod study;
pub mod suite;
pub mod supervised;
pub mod verdict;
pub mod view_pairs;
mod views;

pub use copies::Copies;
pub use error::{Error, Result};
pub use evaluation::{Evaluation, Observer, Protocol};
pub use features::{Extractor, Features, Labeled};
pub use input::{Crop, InputTransform};
pub use predictions::Predictions;
pub use results::ResultRow;
