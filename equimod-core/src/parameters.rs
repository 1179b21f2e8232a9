//! Names and statistics of the values in augmentation parameter vectors.

use serde::{Deserialize, Serialize};

use crate::spelling;

/// Values of the augmentation parameter vectors of a batch, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Parameters {
    /// Values of the vector of a view; empty if there is none.
    pub view: Vec<ViewValue>,
    /// Values of the vector from one view to the other; empty if there is none.
    pub pair: Vec<PairValue>,
}

/// A parameter of a view, normalized in a batch as `(value − mean)/std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewValue {
    /// Name, e.g. `crop_top`.
    #[serde(deserialize_with = "spelling::deserialize")]
    pub name: String,
    /// Augmentation to which the parameter belongs, e.g. `random-resized-crop`.
    #[serde(deserialize_with = "spelling::deserialize")]
    pub augmentation: String,
    /// Mean that is subtracted.
    pub mean: f32,
    /// Standard deviation by which the difference is divided.
    pub std: f32,
    /// Whether the parameter is a flag, 0 or 1.
    pub flag: bool,
}

/// A difference between the parameters of two views, normalized in a batch as `(difference − mean)/std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairValue {
    /// Name of the parameter.
    #[serde(deserialize_with = "spelling::deserialize")]
    pub name: String,
    /// Augmentation to which the parameter belongs.
    #[serde(deserialize_with = "spelling::deserialize")]
    pub augmentation: String,
    /// Mean that is subtracted.
    pub mean: f32,
    /// Standard deviation by which the result is divided.
    pub std: f32,
    /// Largest possible absolute difference; of an unbounded parameter, a value that nearly all stay below.
    pub reach: f32,
    /// Whether this is the difference of two flags: −1, 0 or 1.
    pub flag: bool,
}

impl Parameters {
    /// `width` unnamed parameters of views, and none from view to view.
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

/// Serialized form. Older files, written before the parameters of views had names, hold only their number.
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
