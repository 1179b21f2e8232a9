//! Augmentation policy of a recipe: the name of a built-in policy, or an explicit policy.

use std::fmt;

use equimod_data::Policy;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// An augmentation policy, by name or explicit.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum PolicyChoice {
    /// Name of a built-in policy.
    #[schemars(extend("enum" = Policy::LIST.map(|(name, _)| name)))]
    Named(String),
    /// Explicit policy with `name`, `views` and `clean`.
    Written(Policy),
}

impl PolicyChoice {
    /// The policy; a built-in one has views of `size` pixels.
    ///
    /// # Errors
    ///
    /// If there is no built-in policy of that name, or the written one contradicts itself.
    pub fn policy(&self, size: usize) -> equimod_data::Result<Policy> {
        match self {
            Self::Named(name) => Policy::built_in(name, size),
            Self::Written(policy) => policy.check().map(|()| policy.clone()),
        }
    }
}

// Implemented by hand, so that messages name the problem inside the table.
impl<'de> Deserialize<'de> for PolicyChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = PolicyChoice;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a policy, or a table with name, views and clean")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<PolicyChoice, E> {
                Ok(PolicyChoice::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PolicyChoice, A::Error> {
                Policy::deserialize(MapAccessDeserializer::new(map)).map(PolicyChoice::Written)
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}
