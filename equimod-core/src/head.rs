//! Multi-layer heads (MLPs), built from a specification such as `"2048-2048-128 bn-"`.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::collective::SharedCollective;
use crate::nn::{BatchNorm1d, Linear, Mode};
use crate::params::Scope;
use crate::{Error, Result};

/// Ending of a head, after its last linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No further layer, and no bias.
    Plain,
    /// A bias.
    Bias,
    /// Batch norm with scale and shift, no ReLU.
    BatchNorm,
    /// Batch norm without affine parameters ("BN−").
    PlainBatchNorm,
}

/// Specification of a head. Every layer but the last consists of a linear layer without bias, batch norm and ReLU.
///
/// It is written as widths joined by `-`, followed by the ending: nothing, `bias`, `bn`, or `bn-` (batch norm without
/// affine parameters). `"none"` is the identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadSpec {
    /// Output width of each linear layer; empty for the identity.
    pub widths: Vec<usize>,
    /// Ending after the last linear layer.
    pub ending: Ending,
}

impl HeadSpec {
    /// Output width of the head for inputs of width `inputs`.
    pub fn outputs(&self, inputs: usize) -> usize {
        self.widths.last().copied().unwrap_or(inputs)
    }
}

impl FromStr for HeadSpec {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let problem = || {
            format!(
                "{text:?} is no head; write widths and an ending, e.g. \"2048-2048-128 bn-\", \"256 bias\" or \"none\""
            )
        };
        if text.trim() == "none" {
            return Ok(Self { widths: Vec::new(), ending: Ending::Plain });
        }
        let mut words = text.split_whitespace();
        let widths = words.next().ok_or_else(problem)?.split('-').map(|w| w.parse().ok().filter(|&w: &usize| w > 0));
        let widths = widths.collect::<Option<Vec<_>>>().ok_or_else(problem)?;
        let ending = match (words.next(), words.next()) {
            (None, _) => Ending::Plain,
            (Some("bias"), None) => Ending::Bias,
            (Some("bn"), None) => Ending::BatchNorm,
            (Some("bn-"), None) => Ending::PlainBatchNorm,
            _ => return Err(problem()),
        };
        Ok(Self { widths, ending })
    }
}

impl fmt::Display for HeadSpec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.widths.is_empty() {
            return f.write_str("none");
        }
        let widths: Vec<String> = self.widths.iter().map(usize::to_string).collect();
        f.write_str(&widths.join("-"))?;
        f.write_str(match self.ending {
            Ending::Plain => "",
            Ending::Bias => " bias",
            Ending::BatchNorm => " bn",
            Ending::PlainBatchNorm => " bn-",
        })
    }
}

impl Serialize for HeadSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HeadSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Written::deserialize(deserializer)?.text().parse().map_err(de::Error::custom)
    }
}

/// A head in a recipe: a string, or a number for a single layer.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a head such as \"2048-2048-128 bn-\"")]
pub(crate) enum Written {
    Width(u64),
    Text(String),
}

impl Written {
    pub fn text(self) -> String {
        match self {
            Self::Width(width) => width.to_string(),
            Self::Text(text) => text,
        }
    }
}

#[derive(Clone)]
enum Layer {
    Linear(Linear),
    Norm(BatchNorm1d),
    NormAndRelu(BatchNorm1d),
}

impl Layer {
    /// Number of positions in PyTorch's `Sequential`.
    fn places(&self) -> usize {
        if let Self::NormAndRelu(_) = self { 2 } else { 1 }
    }
}

/// A multi-layer head. Tensors are named by their position, as in PyTorch's `Sequential`: `0.weight`, …
#[derive(Clone)]
pub struct Head {
    layers: Vec<Layer>,
    outputs: usize,
}

impl Head {
    /// Builds the head of `spec` for inputs of width `inputs`.
    ///
    /// # Errors
    ///
    /// If `inputs` is 0, or a parameter of the same name already exists.
    pub fn new(spec: &HeadSpec, inputs: usize, collective: &SharedCollective, scope: &mut Scope) -> Result<Self> {
        if inputs == 0 {
            let (what, expected) = (format!("the inputs of the head {spec}"), "a width of at least 1".into());
            return Err(Error::ShapeMismatch { what, expected, found: "0".into() });
        }
        let (mut layers, mut width) = (Vec::<Layer>::new(), inputs);
        let place = |layers: &[Layer]| layers.iter().map(Layer::places).sum::<usize>().to_string();
        for (i, &outputs) in spec.widths.iter().enumerate() {
            let last = i + 1 == spec.widths.len();
            let bias = last && spec.ending == Ending::Bias;
            layers.push(Layer::Linear(Linear::new(width, outputs, bias, &mut scope.scope(place(&layers)))?));
            if !last || matches!(spec.ending, Ending::BatchNorm | Ending::PlainBatchNorm) {
                let affine = !last || spec.ending == Ending::BatchNorm;
                let norm = BatchNorm1d::new(outputs, affine, collective, &mut scope.scope(place(&layers)))?;
                layers.push(if last { Layer::Norm(norm) } else { Layer::NormAndRelu(norm) });
            }
            width = outputs;
        }
        Ok(Self { layers, outputs: width })
    }

    /// Width of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// xs `[batch, in]` → `[batch, out]`.
    ///
    /// # Errors
    ///
    /// If the width does not fit, or a tensor operation fails.
    pub fn forward(&self, xs: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut xs = xs.clone();
        for layer in &self.layers {
            xs = match layer {
                Layer::Linear(linear) => linear.forward(&xs)?,
                Layer::Norm(norm) => norm.forward(&xs, false, mode)?,
                Layer::NormAndRelu(norm) => norm.forward(&xs, true, mode)?,
            };
        }
        Ok(xs)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::collective::SingleProcess;
    use crate::params::ParamStore;

    #[test]
    fn specifications_read_back() {
        for text in ["2048-2048-128 bn-", "4096-256 bias", "128 bn", "128", "none"] {
            assert_eq!(text.parse::<HeadSpec>().unwrap().to_string(), text);
        }
        assert_eq!(serde_json::from_str::<HeadSpec>("128").unwrap().to_string(), "128");
        assert!(serde_json::from_str::<HeadSpec>("[1]").unwrap_err().to_string().contains("a head such as"));
        for text in ["", "2048-", "12 norm", "0", "-3", "128 bn bias", "a-b"] {
            assert!(text.parse::<HeadSpec>().unwrap_err().contains("is no head"), "{text}");
        }
    }

    #[test]
    fn names_are_those_of_a_sequential() {
        let mut store = ParamStore::new(0, DType::F32, &Device::Cpu);
        let spec = "6-4 bn-".parse().unwrap();
        let head = Head::new(&spec, 3, &SingleProcess::shared(), &mut store.root().scope("head")).unwrap();
        let names: Vec<_> = store.trainable().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["head.0.weight", "head.1.bias", "head.1.weight", "head.3.weight"]);
        assert!(store.get("head.4.running_var").is_some());
        assert_eq!(head.outputs(), 4);
    }
}
