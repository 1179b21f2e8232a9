//! The values of augmentations' parameter vectors, by name.

use serde::{Deserialize, Serialize};

use crate::spelling;

/// The values of parameter vectors, as they come in a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Parameters {
    /// The values of the vector of a view; empty if there is none.
    pub view: Vec<ViewValue>,
    /// The values of the vector from one view to the other; empty if there is none.
    pub pair: Vec<PairValue>,
}

/// A parameter of a view, as it comes in a batch: `(value − mean)/std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewValue {
    /// Its name, e.g. `crop_top`.
    #[serde(deserialize_with = "spelling::deserialize")]
    pub name: String,
    /// The augmentation it belongs to, e.g. `random-resized-crop`.
    #[serde(deserialize_with = "spelling::deserialize")]
    pub augmentation: String,
    /// Mean that was subtracted.
    pub mean: f32,
    /// Standard deviation that it was divided by.
    pub std: f32,
    /// Whether it is a flag: 0 or 1.
    pub flag: bool,
}

/// A difference between the parameters of two views, as it comes in a batch: `(difference − mean)/std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairValue {
    /// Its name.
    #[serde(deserialize_with = "spelling::deserialize")]
    pub name: String,
    /// The augmentation it belongs to.
    #[serde(deserialize_with = "spelling::deserialize")]
    pub augmentation: String,
    /// Mean that was subtracted.
    pub mean: f32,
    /// Standard deviation that it was divided by.
    pub std: f32,
    /// The largest difference there can be.
    pub reach: f32,
    /// Whether it is the difference of two flags: −1, 0 or 1.
    pub flag: bool,
}

impl Parameters {
    /// Parameters of views alone: `width` values without a name.
    pub fn of_views(width: usize) -> Self {
        let value = |number: usize| ViewValue {
            name: format!("parameter_{number}"),
            augmentation: String::new(),
            mean: 0.0,
            std: 1.0,
            flag: false,
        };
        Self { view: (0..width).map(value).collect(), pair: Vec::new() }
    }
}

/// As it is written: files from before values of views had names hold their number alone.
#[derive(Serialize, Deserialize)]
struct Written {
    view: usize,
    #[serde(default)]
    values: Vec<ViewValue>,
    pair: Vec<PairValue>,
}

impl From<Written> for Parameters {
    fn from(Written { view, values, pair }: Written) -> Self {
        match values.len() == view {
            true => Self { view: values, pair },
            false => Self { pair, ..Self::of_views(view) },
        }
    }
}

impl From<Parameters> for Written {
    fn from(Parameters { view, pair }: Parameters) -> Self {
        Self { view: view.len(), values: view, pair }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_have_a_number_and_new_ones_names() {
        let old: Parameters = serde_json::from_str(r#"{"view": 2, "pair": []}"#).unwrap();
        assert_eq!(old, Parameters::of_views(2));
        let mut named = old;
        named.view[1].name = "hue".into();
        let text = serde_json::to_string(&named).unwrap();
        assert!(text.starts_with(r#"{"view":2,"values":["#), "{text}");
        assert_eq!(serde_json::from_str::<Parameters>(&text).unwrap(), named);
    }
}
