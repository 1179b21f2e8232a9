//! Backbones: images in, features out, and a record of the pass for the backward pass.
//!
//! A new kind of backbone is one file here and one line in the table of [`BackboneConfig`]. A backbone that lives outside
//! of this crate is given to [`Method::with_backbone`](crate::Method::with_backbone); its recipe says `kind = "custom"`.

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
    /// images `[batch, 3, height, width]` → features and the record for [`Tape::backward`].
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<(Features, Tape)>;

    /// images `[batch, 3, height, width]` → features; no activations are saved.
    fn infer(&self, images: &Tensor, mode: Mode) -> Result<Features>;

    /// Multiply-accumulate operations (MACs; FLOPs = 2 × MACs) of a forward pass over one square image of `side` pixels;
    /// `None` if the backbone does not count them.
    fn macs(&self, side: usize) -> Option<f64>;

    /// Width of the pooled features.
    fn features(&self) -> usize;

    /// Width of each stage's output: channels of maps, or width of tokens.
    fn stage_widths(&self) -> Vec<usize>;
}

/// Name of a backbone in libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LibraryName {
    /// The name in timm, and in torchvision and candle where they have it.
    pub name: &'static str,
    /// Whether torchvision has it.
    pub torchvision: bool,
    /// Whether candle-transformers has it.
    pub candle: bool,
}

/// What a backbone is built for.
#[derive(Clone, Copy)]
pub struct BackboneContext<'a> {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// How the work is done.
    pub execution: Execution,
    /// The processes that train together; batch norm shares its statistics over them.
    pub collective: &'a SharedCollective,
}

/// Builds a backbone that lives outside of this crate, its tensors under the scope. It is called for the trained network
/// and once more for the target network, if there is one.
pub type BackboneBuilder = Arc<dyn Fn(&BackboneContext, &mut Scope) -> Result<Box<dyn Backbone>> + Send + Sync>;

/// Settings of one kind of backbone.
pub trait BackboneSettings {
    /// Every problem of the settings for images of `image_size` × `image_size` pixels.
    fn problems(&self, image_size: usize) -> Vec<String>;

    /// The name of the architecture, e.g. `resnet18`.
    fn name(&self) -> &str;

    /// Architecture and variant for people, e.g. `resnet18, CIFAR stem, width 64`.
    fn describe(&self) -> String;

    /// The name under which timm builds exactly this network, if it does.
    fn library_name(&self) -> Option<LibraryName>;

    /// How images enter the network where nothing beside the weights says it.
    fn default_preprocessing(&self) -> Preprocessing;

    /// Builds the backbone, its tensors under `scope`. Errors where the settings are not sound for the context.
    fn build(&self, context: &BackboneContext, scope: &mut Scope) -> Result<Box<dyn Backbone>>;
}
