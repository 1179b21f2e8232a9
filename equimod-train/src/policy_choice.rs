//! The augmentation policy of a recipe: a built-in one by name, or one written out.

use std::fmt;

use equimod_data::Policy;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A policy by name, or as data.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum PolicyChoice {
    /// A built-in policy.
    #[schemars(extend("enum" = Policy::LIST.map(|(name, _)| name)))]
    Named(String),
    /// A policy that the recipe writes out: name, views, clean.
    Written(Policy),
}

impl PolicyChoice {
    /// The policy, with views of `size` pixels where it is a built-in one.
    pub fn policy(&self, size: usize) -> equimod_data::Result<Policy> {
        match self {
            Self::Named(name) => Policy::built_in(name, size),
            Self::Written(policy) => policy.check().map(|()| policy.clone()),
        }
    }
}

// By hand, for messages that say what is wrong inside the table.
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
