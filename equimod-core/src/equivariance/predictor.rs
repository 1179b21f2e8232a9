//! Predictor of a view's embedding from the embeddings of the original image and of the parameters.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::collective::SharedCollective;
use crate::head::{Ending, Head, HeadSpec, Written};
use crate::nn::Mode;
use crate::params::Scope;
use crate::{Error, Result};

/// Architecture of the predictor u, written as a head (`128 bn-`), as `residual` and a head (`residual 512-128`), or as
/// `hypernetwork`, with the widths of its hidden layers if it has any (`hypernetwork 256`).
///
/// The first is EquiMod's (arXiv 2211.01244): with one layer, the effect of the parameters does not depend on the
/// image. Later work uses the other two (see the documentation of recipes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PredictorSpec {
    /// `u(cat[y0, p'])`.
    Head(HeadSpec),
    /// `y0 + u(cat[y0, p'])`.
    Residual(HeadSpec),
    /// `W·y0/√width + b`, where W and b are computed from p' by hidden layers of these widths and a linear layer with
    /// bias. The factor 1/√width gives predictions about the norm of the embeddings at initialization.
    Hypernetwork(Vec<usize>),
}

impl PredictorSpec {
    /// Whether the predictions for embeddings of width `width` have the same width.
    pub fn fits(&self, width: usize) -> bool {
        match self {
            Self::Head(head) | Self::Residual(head) => head.widths.last() == Some(&width),
            Self::Hypernetwork(_) => true,
        }
    }
}

impl PredictorSpec {
    /// A sentence if the predictor does not fit the projection head of the module called `module`; empty otherwise.
    pub(super) fn problems(&self, module: &str, projection_head: &HeadSpec) -> Vec<String> {
        match projection_head.widths.last() {
            Some(&width) if !self.fits(width) => vec![format!(
                "equivariance.{module}.predictor is {:?} but its projection head ends in {width}; give the predictor the \
                 same last width",
                self.to_string()
            )],
            _ => Vec::new(),
        }
    }
}

impl FromStr for PredictorSpec {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let text = text.trim();
        let hints = || {
            format!(
                "{text:?} is no predictor; write a head (\"128 bn-\"), \"residual\" and a head (\"residual 512-128\"), \
                 or \"hypernetwork\" with or without widths of hidden layers (\"hypernetwork 256\")"
            )
        };
        let head = |text: &str| text.parse::<HeadSpec>().map_err(|_| hints());
        match text.split_once(char::is_whitespace) {
            Some(("residual", rest)) => Ok(Self::Residual(head(rest)?)),
            Some(("hypernetwork", rest)) => match head(rest)? {
                HeadSpec { widths, ending: Ending::Plain } if !widths.is_empty() => Ok(Self::Hypernetwork(widths)),
                _ => Err(hints()),
            },
            None if text == "hypernetwork" => Ok(Self::Hypernetwork(Vec::new())),
            _ => Ok(Self::Head(head(text)?)),
        }
    }
}

impl fmt::Display for PredictorSpec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Head(head) => head.fmt(f),
            Self::Residual(head) => write!(f, "residual {head}"),
            Self::Hypernetwork(widths) if widths.is_empty() => f.write_str("hypernetwork"),
            Self::Hypernetwork(widths) => {
                write!(f, "hypernetwork {}", HeadSpec { widths: widths.clone(), ending: Ending::Plain })
            }
        }
    }
}

impl Serialize for PredictorSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PredictorSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Written::deserialize(deserializer)?.text().parse().map_err(de::Error::custom)
    }
}

/// Predictor u with its parameters.
pub struct Predictor {
    form: Form,
    head: Head,
}

enum Form {
    Head,
    Residual,
    Hypernetwork,
}

impl Predictor {
    /// Builds the predictor for embeddings of width `width` and parameter embeddings of width `parameters`.
    ///
    /// # Errors
    ///
    /// If the predictions would not be as wide as the embeddings, or a parameter of the same name already exists.
    pub fn new(
        spec: &PredictorSpec,
        (width, parameters): (usize, usize),
        collective: &SharedCollective,
        scope: &mut Scope,
    ) -> Result<Self> {
        if !spec.fits(width) {
            let reason = format!("it does not end in {width}, the width of the embeddings; end it in {width}");
            return Err(Error::setting(scope.name(), format!("\"{spec}\""), reason));
        }
        let (form, head, inputs) = match spec {
            PredictorSpec::Head(head) => (Form::Head, head.clone(), width + parameters),
            PredictorSpec::Residual(head) => (Form::Residual, head.clone(), width + parameters),
            PredictorSpec::Hypernetwork(hidden) => {
                let widths = hidden.iter().copied().chain([width * width + width]).collect();
                (Form::Hypernetwork, HeadSpec { widths, ending: Ending::Bias }, parameters)
            }
        };
        Ok(Self { form, head: Head::new(&head, inputs, collective, scope)? })
    }

    /// Embeddings y0 `[rows, width]` and parameter embeddings p' `[rows, parameters]` → predicted embeddings ŷ
    /// `[rows, width]`.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit, or a tensor operation fails.
    pub fn forward(&self, clean: &Tensor, params: &Tensor, mode: Mode) -> Result<Tensor> {
        let of_both = || self.head.forward(&Tensor::cat(&[clean, params], 1)?, mode);
        match self.form {
            Form::Head => of_both(),
            Form::Residual => Ok((clean + of_both()?)?),
            Form::Hypernetwork => {
                let (rows, width) = clean.dims2()?;
                let made = self.head.forward(params, mode)?;
                let matrices = made.narrow(1, 0, width * width)?.reshape((rows, width, width))?;
                let offsets = made.narrow(1, width * width, width)?;
                let moved = matrices.matmul(&clean.unsqueeze(2)?)?.squeeze(2)?;
                Ok(((moved / (width as f64).sqrt())? + offsets)?)
            }
        }
    }
}
