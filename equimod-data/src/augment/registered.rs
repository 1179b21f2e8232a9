//! Augmentations of other crates, which policies can name once they are registered.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use schemars::Schema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{Augmentation, AugmentationConfig, Encoding, Field, Params};
use crate::image::{Image, Size};
use crate::random::Rng;
use crate::{Error, Result};

type Shared = Arc<dyn Augmentation>;

/// A kind of augmentation that is defined in another crate.
#[derive(Clone, Copy)]
pub struct AugmentationKind {
    name: &'static str,
    about: &'static str,
    read: fn(Value) -> serde_json::Result<(Value, Shared)>,
}

impl AugmentationKind {
    /// The kind whose settings and functions are those of `A`; policies name it `name`, and `about` describes it in one
    /// line.
    ///
    /// `A` is read from the policy, which may leave out settings that `A` has defaults for (`#[serde(default)]`).
    pub const fn new<A>(name: &'static str, about: &'static str) -> Self
    where
        A: Augmentation + Serialize + DeserializeOwned + 'static,
    {
        Self { name, about, read: read::<A> }
    }
}

fn read<A>(settings: Value) -> serde_json::Result<(Value, Shared)>
where
    A: Augmentation + Serialize + DeserializeOwned + 'static,
{
    let augmentation: A = serde_json::from_value(settings)?;
    Ok((serde_json::to_value(&augmentation)?, Arc::new(augmentation)))
}

static KINDS: RwLock<Vec<AugmentationKind>> = RwLock::new(Vec::new());

/// Makes kinds of augmentations known to policies and model files of this program, in addition to those of
/// [`AugmentationConfig::LIST`]. Call it before the first recipe is read.
///
/// # Errors
///
/// If a name is taken, or is not made of lower-case letters, digits and `-`.
pub fn register(kinds: &[AugmentationKind]) -> Result<()> {
    let mut known = KINDS.write().unwrap_or_else(PoisonError::into_inner);
    for kind in kinds {
        let name = kind.name;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(Error::Config(format!(
                "{name:?} cannot be the name of an augmentation; use lower-case letters, digits and -"
            )));
        }
        if AugmentationConfig::is_built_in(name) || known.iter().any(|other| other.name == name) {
            return Err(Error::Config(format!("there is an augmentation {name} already; choose another name")));
        }
        known.push(*kind);
    }
    Ok(())
}

/// Names and one-line descriptions of the registered kinds.
pub(super) fn registered() -> Vec<(&'static str, &'static str)> {
    KINDS.read().unwrap_or_else(PoisonError::into_inner).iter().map(|kind| (kind.name, kind.about)).collect()
}

/// Adds the registered kinds to the schema of the built-in ones. They check their settings when they read them.
pub(super) fn add_to_schema(schema: &mut Schema) {
    let Some(Value::Array(kinds)) = schema.get_mut("oneOf") else { return };
    kinds.extend(registered().into_iter().map(|(name, about)| {
        json!({
            "type": "object",
            "description": about,
            "properties": { "kind": { "type": "string", "const": name } },
            "required": ["kind"],
        })
    }));
}

fn kind(name: &str) -> Option<AugmentationKind> {
    KINDS.read().unwrap_or_else(PoisonError::into_inner).iter().find(|kind| kind.name == name).copied()
}

/// A registered augmentation with its settings.
///
/// One that this program does not know keeps its settings as they are written; it makes a policy invalid.
#[derive(Clone)]
pub struct RegisteredAugmentation {
    name: String,
    settings: Value,
    augmentation: Shared,
}

impl RegisteredAugmentation {
    fn read(name: String, settings: Map<String, Value>) -> serde_json::Result<Self> {
        let settings = Value::Object(settings);
        let (settings, augmentation) = match kind(&name) {
            Some(kind) => (kind.read)(settings)?,
            None => (settings, Arc::new(Unknown) as Shared),
        };
        Ok(Self { name, settings, augmentation })
    }

    /// Name in policies.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The augmentation as a trait object.
    pub(super) fn as_augmentation(&self) -> &dyn Augmentation {
        self.augmentation.as_ref()
    }
}

impl PartialEq for RegisteredAugmentation {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.settings) == (&other.name, &other.settings)
    }
}

impl fmt::Debug for RegisteredAugmentation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}", self.name, self.settings)
    }
}

/// An augmentation of a kind that this program does not know.
struct Unknown;

impl Augmentation for Unknown {
    fn sample(&self, _: Size, _: &mut Rng) -> Params {
        Params::Fixed
    }

    fn apply(&self, image: Image, _: &Params) -> Image {
        image
    }

    fn fields(&self, _: Encoding) -> &'static [Field] {
        &[]
    }

    fn encode(&self, _: &Params, _: Size, _: Encoding, _: &mut Vec<f32>) {}

    fn problems(&self) -> Vec<String> {
        let names: Vec<&str> = AugmentationConfig::list().into_iter().map(|(name, _)| name).collect();
        vec![format!("this program knows no such augmentation; it has {}", names.join(", "))]
    }
}

// The derived functions read and write the built-in kinds.
impl<'de> Deserialize<'de> for AugmentationConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut written = Map::<String, Value>::deserialize(deserializer)?;
        let read = match written.get("kind").and_then(Value::as_str).map(str::to_owned) {
            Some(name) if !Self::is_built_in(&name) => {
                written.remove("kind");
                RegisteredAugmentation::read(name, written).map(Self::Registered)
            }
            _ => Self::deserialize(Value::Object(written)),
        };
        read.map_err(serde::de::Error::custom)
    }
}

impl Serialize for AugmentationConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Self::Registered(augmentation) = self else { return Self::serialize(self, serializer) };
        let mut written = Map::from_iter([("kind".to_owned(), Value::from(augmentation.name()))]);
        written.extend(augmentation.settings.as_object().cloned().unwrap_or_default());
        written.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Darken {
        least: f32,
    }

    impl Default for Darken {
        fn default() -> Self {
            Self { least: 0.5 }
        }
    }

    impl Augmentation for Darken {
        fn sample(&self, _: Size, _: &mut Rng) -> Params {
            Params::Values(vec![self.least])
        }

        fn apply(&self, mut image: Image, params: &Params) -> Image {
            let Params::Values(values) = params else { return image };
            image.pixels_mut().iter_mut().for_each(|value| *value = (f32::from(*value) * values[0]) as u8);
            image
        }

        fn fields(&self, _: Encoding) -> &'static [Field] {
            &[Field { name: "darken", unit: "factor", axis: None }]
        }

        fn encode(&self, params: &Params, _: Size, _: Encoding, out: &mut Vec<f32>) {
            out.push(if let Params::Values(values) = params { values[0] } else { 1.0 });
        }
    }

    #[test]
    fn registered_augmentations_are_read_with_their_defaults_and_others_are_kept() {
        let about = "multiplies all values";
        register(&[AugmentationKind::new::<Darken>("darken", about)]).unwrap();
        for taken in ["darken", "solarize", "equalise", "No", ""] {
            assert!(register(&[AugmentationKind::new::<Darken>(taken, about)]).is_err(), "{taken}");
        }
        assert!(AugmentationConfig::list().contains(&("darken", about)));
        let read = |text: &str| serde_json::from_str::<AugmentationConfig>(text);
        let darken = read(r#"{"kind": "darken"}"#).unwrap();
        assert_eq!(darken.name(), "darken");
        assert_eq!(serde_json::to_string(&darken).unwrap(), r#"{"kind":"darken","least":0.5}"#);
        assert_eq!(read(&serde_json::to_string(&darken).unwrap()).unwrap(), darken);
        let image = Image::new(Size::square(1), vec![100, 50, 200]).unwrap();
        let augmentation = darken.as_augmentation();
        let params = augmentation.sample(image.size(), &mut crate::view_rng(0, 0, 0, 0));
        assert_eq!(augmentation.apply(image, &params).pixels(), [50, 25, 100]);
        assert!(read(r#"{"kind": "darken", "most": 3}"#).unwrap_err().to_string().contains("most"));
        assert!(read(r#"{"kind": "solarize", "most": 3}"#).unwrap_err().to_string().contains("most"));
        assert!(read("{}").unwrap_err().to_string().contains("kind"));
        let other = read(r#"{"kind": "of-another-program", "rate": [1, 2]}"#).unwrap();
        assert_eq!(serde_json::to_string(&other).unwrap(), r#"{"kind":"of-another-program","rate":[1,2]}"#);
        let problems = other.as_augmentation().problems();
        assert!(problems[0].contains("darken") && problems[0].contains("solarize"), "{problems:?}");
    }
}
