//! Backbones: networks from images to features, with a tape of each forward pass for the backward pass.
//!
//! A new kind of backbone takes one file here and one line in the table of [`BackboneConfig`]. A backbone from another
//! crate is passed to [`Method::with_backbone`](crate::Method::with_backbone); its recipe has `kind = "custom"`.

mod autograd;
mod config;
mod custom;
mod resnet;

use std::sync::Arc;

use candle_core::Tensor;

pub use autograd::{AutogradBackbone, Network};
pub use config::BackboneConfig;
pub use custom::CustomConfig;
pub use resnet::{Architecture, ResNet, ResNetConfig, Stem};

use crate::Result;
use crate::collective::SharedCollective;
use crate::execution::Execution;
use crate::images::Preprocessing;
use crate::nn::Mode;
use crate::params::Scope;
use crate::tape::{Features, Tape};

/// A network from images to features.
pub trait Backbone: Send + Sync {
    /// Images `[batch, 3, height, width]` → features, `[batch, features]` pooled, and the tape of this pass.
    ///
    /// # Errors
    ///
    /// If the images do not fit the network, or a tensor operation fails.
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<(Features, Tape)>;

    /// Images `[batch, 3, height, width]` → features, without saving activations.
    ///
    /// # Errors
    ///
    /// Those of `forward`.
    fn infer(&self, images: &Tensor, mode: Mode) -> Result<Features>;

    /// Multiply-accumulate operations (MACs; FLOPs = 2 × MACs) of a forward pass over one square image of `side`
    /// pixels; `None` if the backbone does not count them.
    fn macs(&self, side: usize) -> Option<f64>;

    /// Width of the pooled features.
    fn features(&self) -> usize;

    /// Width of each stage's output: channels of feature maps, or width of tokens.
    fn stage_widths(&self) -> Vec<usize>;
}

/// Name of a backbone in other libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LibraryName {
    /// Name in timm, and in torchvision and candle-transformers if they have it.
    pub name: &'static str,
    /// Whether torchvision has it.
    pub torchvision: bool,
    /// Whether candle-transformers has it.
    pub candle: bool,
}

/// Context in which a backbone is built.
#[derive(Clone, Copy)]
pub struct BackboneContext<'a> {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Execution settings, which change memory and speed but not the architecture.
    pub execution: Execution,
    /// Collective of the processes that train together, over which batch norm is synchronized.
    pub collective: &'a SharedCollective,
}

/// Function that builds a backbone defined outside of this crate, with its parameters under the scope. It is called for
/// the online network and again for the target network, if there is one.
pub type BackboneBuilder = Arc<dyn Fn(&BackboneContext, &mut Scope) -> Result<Box<dyn Backbone>> + Send + Sync>;

/// Settings from which one kind of backbone is built.
pub trait BackboneSettings {
    /// One sentence for each invalid setting for images of `image_size` × `image_size` pixels; empty if all are valid.
    fn problems(&self, image_size: usize) -> Vec<String>;

    /// Name of the architecture, e.g. `resnet18`.
    fn name(&self) -> &str;

    /// Human-readable architecture and variant, e.g. `resnet18, CIFAR stem, width 64`.
    fn describe(&self) -> String;

    /// Name under which timm builds exactly this network; `None` if it has none.
    fn library_name(&self) -> Option<LibraryName>;

    /// Preprocessing of images for weights that come without one.
    fn default_preprocessing(&self) -> Preprocessing;

    /// Builds the backbone with its parameters under `scope`.
    ///
    /// # Errors
    ///
    /// If a setting is invalid or does not fit the context, or a parameter of the same name already exists.
    fn build(&self, context: &BackboneContext, scope: &mut Scope) -> Result<Box<dyn Backbone>>;
}
