//! Choice of the backbone.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{Backbone, BackboneBuilder, BackboneContext, BackboneSettings, CustomConfig, ResNetConfig};
use crate::params::Scope;
use crate::registry::Entry;
use crate::{Error, Result};

/// Kind of settings that do not name one, in files written before backbones had kinds.
const UNNAMED: &str = "resnet";

macro_rules! backbones {
    ($($kind:ident($settings:ty) $name:literal $title:literal $arxiv:literal $about:literal)*) => {
        /// Choice of the backbone, with its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
        #[serde(tag = "kind")]
        pub enum BackboneConfig {
            $(#[doc = $about] #[serde(rename = $name)] $kind($settings),)*
        }

        impl BackboneConfig {
            /// Table of all kinds of backbones.
            pub const LIST: &[Entry] =
                &[$(Entry { name: $name, title: $title, arxiv: $arxiv, about: $about }),*];

            /// Settings of the chosen kind.
            pub fn settings(&self) -> &dyn BackboneSettings {
                match self {
                    $(Self::$kind(settings) => settings,)*
                }
            }

            fn read(kind: &str, settings: Value) -> serde_json::Result<Self> {
                match kind {
                    $($name => serde_json::from_value(settings).map(Self::$kind),)*
                    _ => Err(serde_json::Error::unknown_variant(kind, &[$($name),*])),
                }
            }
        }
    };
}

backbones! {
    ResNet(ResNetConfig) "resnet" "ResNet" "1512.03385" "Residual network of torchvision's form."
    Custom(CustomConfig) "custom" "custom" "" "A backbone that a program brings along (examples/custom_backbone.rs)."
}

impl Default for BackboneConfig {
    fn default() -> Self {
        Self::ResNet(ResNetConfig::default())
    }
}

/// Settings without `kind` are those of a ResNet.
impl<'de> Deserialize<'de> for BackboneConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut settings = Map::<String, Value>::deserialize(deserializer)?;
        let kind = settings.remove("kind").unwrap_or_else(|| UNNAMED.into());
        let Value::String(kind) = kind else {
            return Err(D::Error::custom(format!("kind is {kind}, not a text such as \"{UNNAMED}\"")));
        };
        Self::read(&kind, settings.into()).map_err(D::Error::custom)
    }
}

impl BackboneConfig {
    /// One sentence for each invalid setting for images of `image_size` × `image_size` pixels; empty if all are valid.
    pub fn validate(&self, image_size: usize) -> Vec<String> {
        self.settings().problems(image_size)
    }

    /// Builds the backbone with its parameters under `scope`. `custom` is the builder for `kind = "custom"`.
    ///
    /// # Errors
    ///
    /// If the settings do not fit the context, a custom backbone comes without a builder, or a builder comes with
    /// another kind of backbone.
    pub fn build(
        &self,
        context: &BackboneContext,
        custom: Option<&BackboneBuilder>,
        scope: &mut Scope,
    ) -> Result<Box<dyn Backbone>> {
        match (self, custom) {
            (Self::Custom(_), Some(custom)) => custom(context, scope),
            (_, None) => self.settings().build(context, scope),
            (_, Some(_)) => Err(Error::setting(
                "backbone",
                self.settings().name(),
                "the program provides another one; write kind = \"custom\" and a name under [backbone]",
            )),
        }
    }
}
