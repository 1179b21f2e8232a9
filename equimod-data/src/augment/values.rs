//! The values of a parameter vector: their names, how they are made, and their first two moments.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spelling::modern;
use crate::{Error, Result};

/// A value of a parameter vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, the same in every checkpoint.
    pub name: &'static str,
    /// What it is measured in.
    pub unit: &'static str,
    /// The axis along which it is a position: from a mirrored view, its difference has the opposite sign.
    pub axis: Option<Axis>,
}

/// An axis of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Left to right.
    X,
    /// Top to bottom.
    Y,
}

/// The unit of a value that is only on or off.
pub const FLAG: &str = "0 or 1";

/// A field, for tables of them.
pub(super) const fn field(name: &'static str, unit: &'static str) -> Field {
    Field { name, unit, axis: None }
}

impl Field {
    /// The same, a position along `axis`.
    pub(super) const fn along(self, axis: Axis) -> Self {
        Self { axis: Some(axis), ..self }
    }
}

/// How the values of a vector are made from parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// As the authors do: crops in pixels of the picture; one vector a view.
    #[default]
    Published,
    /// Crops as center and size, in shares of the image; one vector per view.
    #[serde(alias = "size-normalised")]
    SizeNormalized,
    /// From view 1 to view 2: differences of the size-normalized values, the center mirrored where view 1 is (method,
    /// section 8); one vector a pair.
    Pairwise,
}

impl Encoding {
    /// Every encoding: its name, and one line.
    pub const LIST: [(&'static str, &'static str); 3] = [
        ("published", "as the authors do: crops in pixels of the picture"),
        ("size-normalized", "crops as center and size, in shares of the picture"),
        ("pairwise", "from view 1 to view 2: differences of the size-normalized values"),
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
            .find(|encoding| encoding.to_string() == modern(text))
            .ok_or_else(|| {
                let names = Self::LIST.map(|(name, _)| name).join(", ");
                Error::Config(format!("there is no encoding {text:?}; there are {names}"))
            })
    }
}

/// Mean and mean square of a random value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// E\[x\]
    pub mean: f64,
    /// E\[x²\]
    pub square: f64,
}

impl Moments {
    /// Always `value`.
    pub fn constant(value: f64) -> Self {
        Self { mean: value, square: value * value }
    }

    /// 1 with `probability`, else 0.
    pub fn flag(probability: f64) -> Self {
        Self { mean: probability, square: probability }
    }

    /// Uniform over a range: E\[x²\] = (a² + ab + b²)/3.
    pub fn uniform((low, high): (f64, f64)) -> Self {
        Self { mean: (low + high) / 2.0, square: (low * low + low * high + high * high) / 3.0 }
    }

    /// One of 0 … count − 1, each as often.
    pub fn one_of(count: u32) -> Self {
        let n = f64::from(count);
        Self { mean: (n - 1.0) / 2.0, square: (n - 1.0) * (2.0 * n - 1.0) / 6.0 }
    }

    /// `one` with `probability`, else `other`.
    pub fn mix(probability: f64, one: Self, other: Self) -> Self {
        let mix = |a: f64, b: f64| probability * a + (1.0 - probability) * b;
        Self { mean: mix(one.mean, other.mean), square: mix(one.square, other.square) }
    }

    /// `other − self`, drawn independently.
    pub(crate) fn difference(self, other: Self) -> Self {
        let mean = other.mean - self.mean;
        Self { mean, square: self.square + other.square - 2.0 * self.mean * other.mean }
    }

    /// √(E\[x²\] − E\[x\]²)
    pub fn deviation(self) -> f64 {
        (self.square - self.mean * self.mean).max(0.0).sqrt()
    }
}
