//! From image files to batches: data sets, augmentations that return their parameters, parameter encodings, the loader.
//!
//! ```
//! use equimod_data::{Image, Policy, Size, view_rng};
//!
//! # fn main() -> equimod_data::Result<()> {
//! let policy = Policy::built_in("simclr-cifar10", 32)?;
//! let image = Image::new(Size { height: 40, width: 48 }, vec![127; 40 * 48 * 3])?;
//! let view = &policy.views[0];
//! let params = view.sample(image.size(), &mut view_rng(0, 0, 0, 0));
//! assert_eq!(view.apply(&image, &params).size(), Size::square(32));
//! for (name, value) in view.describe(&params) {
//!     println!("{name}: {value}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`image`], [`resample`], [`color`], [`blur`], [`rotate`]: images and image operations, bit for bit as in Pillow
//! - [`augment`], [`policy`], [`encoding`]: sampling, application and encoding of augmentation parameters
//! - [`plan`]: what makes a view out of an image, as data for a device
//! - [`dataset`], [`source`]: data sets, and opening a path as the splits of one
//! - [`reading`]: options for decoding
//! - [`sampler`], [`loader`]: the order of images, and batches of them
//!
//! The crate has no tensors and no networks. It does not print, and does not use the network.

pub mod augment;
pub mod blur;
pub mod color;
pub mod dataset;
mod decode;
pub mod encoding;
mod error;
pub mod formats;
mod guard;
mod hashed_file;
pub mod image;
pub mod loader;
mod mapped;
pub mod plan;
pub mod policy;
mod random;
pub mod reading;
pub mod rectangle;
pub mod resample;
pub mod rotate;
pub mod sampler;
mod simd;
pub mod source;
pub mod spelling;

pub use augment::{Augmentation, AugmentationConfig, Params, Rectangle};
pub use dataset::{
    CifarDataset, Concat, Dataset, FolderDataset, MemoryDataset, PackedDataset, ParquetDataset, ShardsDataset, Split,
    Stl10Dataset, Stl10Split, Subset, Task,
};
pub use encoding::{Encoding, LayoutConfig, ParamLayout, ParamValue, Statistics};
pub use error::{Error, Result};
pub use image::{Examined, Image, Size, Transparency};
pub use loader::{Batch, Batches, Deferred, Loader, LoaderConfig, Pixels, PlannedView, PlannedViews, Skipped};
pub use plan::{PixelOperation, ViewPlan};
pub use policy::{CleanView, Policy, ViewParams, ViewPolicy, clean_plan, clean_view};
pub use random::{Rng, view_rng};
pub use reading::{Background, ReadOptions};
pub use sampler::Sampler;
pub use source::{Designs, Splits, task_name};

/// Lower-case hexadecimal digits.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
