//! ResNet as a kind of backbone.

use super::library::library_name;
use super::{ResNet, ResNetConfig, Stem};
use crate::Result;
use crate::backbone::{Backbone, BackboneContext, BackboneSettings, LibraryName};
use crate::images::{Normalization, Preprocessing};
use crate::params::Scope;

impl BackboneSettings for ResNetConfig {
    fn problems(&self, _image_size: usize) -> Vec<String> {
        self.validate()
    }

    fn name(&self) -> &str {
        self.architecture.name()
    }

    fn describe(&self) -> String {
        self.to_string()
    }

    fn library_name(&self) -> Option<LibraryName> {
        library_name(self)
    }

    fn default_preprocessing(&self) -> Preprocessing {
        match self.stem {
            Stem::Cifar => Preprocessing { size: 32, normalization: Normalization::CIFAR10 },
            Stem::ImageNet | Stem::Deep => Preprocessing { size: 224, normalization: Normalization::IMAGENET },
        }
    }

    fn build(&self, context: &BackboneContext, scope: &mut Scope) -> Result<Box<dyn Backbone>> {
        Ok(Box::new(ResNet::new(self, context.execution, context.collective, scope)?))
    }
}
