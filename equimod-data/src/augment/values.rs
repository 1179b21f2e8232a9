//! Values of parameter vectors: names, units, encodings and moments.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A value of a parameter vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name, the same in every checkpoint.
    pub name: &'static str,
    /// Unit, in words.
    pub unit: &'static str,
    /// Axis of a position. The difference from a mirrored view changes its sign along this axis.
    pub axis: Option<Axis>,
}

/// Axis of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Horizontal axis, left to right.
    X,
    /// Vertical axis, top to bottom.
    Y,
}

/// Unit of a flag.
pub const FLAG: &str = "0 or 1";

/// Creates a field in a constant table.
pub(super) const fn field(name: &'static str, unit: &'static str) -> Field {
    Field { name, unit, axis: None }
}

impl Field {
    /// The same field as a position along `axis`.
    pub(super) const fn along(self, axis: Axis) -> Self {
        Self { axis: Some(axis), ..self }
    }
}

/// Encoding of sampled parameters as the values of a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// The authors' encoding: crops in pixels of the image; one vector per view.
    #[default]
    Published,
    /// Crops as center and size, in shares of the image; one vector per view.
    #[serde(alias = "size-normalised")]
    SizeNormalized,
    /// Differences of the size-normalized values from view 1 to view 2, with centers mirrored if view 1 is; one
    /// vector per pair.
    Pairwise,
}

impl Encoding {
    /// Name and one-line description of every encoding.
    pub const LIST: [(&'static str, &'static str); 3] = [
        ("published", "the authors' encoding: crops in pixels of the image"),
        ("size-normalized", "crops as center and size, in shares of the image"),
        ("pairwise", "differences of the size-normalized values from view 1 to view 2"),
    ];
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Published => "published",
            Self::SizeNormalized => "size-normalized",
            Self::Pairwise => "pairwise",
        })
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Published, Self::SizeNormalized, Self::Pairwise]
            .into_iter()
            .find(|encoding| encoding.to_string() == text)
            .ok_or_else(|| {
                let names = Self::LIST.map(|(name, _)| name).join(", ");
                Error::Config(format!("there is no encoding {text:?}; there are {names}"))
            })
    }
}

/// Mean and mean square of a random value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Mean E\[x\].
    pub mean: f64,
    /// Mean square E\[x²\].
    pub square: f64,
}

impl Moments {
    /// Moments of a constant.
    pub fn constant(value: f64) -> Self {
        Self { mean: value, square: value * value }
    }

    /// Moments of a flag that is 1 with `probability` and 0 otherwise.
    pub fn flag(probability: f64) -> Self {
        Self { mean: probability, square: probability }
    }

    /// Moments of a uniform distribution over a range: E\[x²\] = (a² + ab + b²)/3.
    pub fn uniform((low, high): (f64, f64)) -> Self {
        Self { mean: (low + high) / 2.0, square: (low * low + low * high + high * high) / 3.0 }
    }

    /// Moments of a uniform distribution over 0 … count − 1.
    pub fn one_of(count: u32) -> Self {
        let n = f64::from(count);
        Self { mean: (n - 1.0) / 2.0, square: (n - 1.0) * (2.0 * n - 1.0) / 6.0 }
    }

    /// Moments of a mixture: `one` with `probability`, otherwise `other`.
    pub fn mix(probability: f64, one: Self, other: Self) -> Self {
        let mix = |a: f64, b: f64| probability * a + (1.0 - probability) * b;
        Self { mean: mix(one.mean, other.mean), square: mix(one.square, other.square) }
    }

    /// Moments of `other − self` for independent values.
    pub(crate) fn difference(self, other: Self) -> Self {
        let mean = other.mean - self.mean;
        Self { mean, square: self.square + other.square - 2.0 * self.mean * other.mean }
    }

    /// Standard deviation √(E\[x²\] − E\[x\]²).
    pub fn std(self) -> f64 {
        (self.square - self.mean * self.mean).max(0.0).sqrt()
    }
}
