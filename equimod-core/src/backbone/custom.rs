//! Settings of a backbone that is defined outside of this crate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Backbone, BackboneContext, BackboneSettings, LibraryName};
use crate::images::{Normalization, Preprocessing};
use crate::params::Scope;
use crate::{Error, Result};

/// Settings of a backbone that is defined outside of this crate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CustomConfig {
    /// Name of the architecture, for reports and for loading the weights elsewhere.
    pub name: String,
}

impl Default for CustomConfig {
    fn default() -> Self {
        Self { name: "custom".into() }
    }
}

impl BackboneSettings for CustomConfig {
    fn problems(&self, _image_size: usize) -> Vec<String> {
        match self.name.trim() {
            "" => vec!["the backbone's name is empty; give the name of the architecture".into()],
            _ => Vec::new(),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> String {
        format!("{}, a custom backbone", self.name)
    }

    fn library_name(&self) -> Option<LibraryName> {
        None
    }

    fn default_preprocessing(&self) -> Preprocessing {
        Preprocessing { size: 224, normalization: Normalization::IMAGENET }
    }

    /// Always an error: only the program that defines the backbone can build it.
    fn build(&self, _context: &BackboneContext, _scope: &mut Scope) -> Result<Box<dyn Backbone>> {
        Err(Error::setting(
            "backbone.name",
            format!("{:?}", self.name),
            "only the program that defines this custom backbone can build it; use that program \
             (Trainer::with_backbone, Model::load_with_backbone), or another kind of backbone",
        ))
    }
}
