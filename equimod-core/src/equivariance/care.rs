//! CARE (Gupta et al., arXiv 2306.13924): an augmentation acts on the embeddings of all images as one orthogonal map,
//! and so preserves the angles between them.

use candle_core::{D, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::BuildContext;
use crate::equivariance::{EquivarianceModule, ModuleSettings, Needs};
use crate::head::{Ending, Head, HeadSpec};
use crate::objective::{ObjectiveConfig, mean_over_rows, normalize_rows, spread};
use crate::optim::Weight;
use crate::params::Scope;
use crate::step::{StepContext, Term};
use crate::tape::Tap;
use crate::{Error, Result};

/// Settings of [`Care`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CareConfig {
    /// λ, the weight of this term in the loss. Published: 0.01.
    pub weight: Weight,
    /// Features that are embedded. Default: `pooled`.
    pub tap: Tap,
    /// Number of images that share one draw of the augmentations of view 1, and one of view 2. The batch size must be a
    /// multiple of it. Default: 16.
    pub chunk: usize,
    /// Projection head from the features to the embedding. Default: `2048-2048-128 bn-`; the paper shares one head
    /// between this term and the objective.
    pub projection_head: HeadSpec,
}

impl Default for CareConfig {
    fn default() -> Self {
        let projection_head = HeadSpec { widths: vec![2048, 2048, 128], ending: Ending::PlainBatchNorm };
        Self { weight: Weight::Fixed(0.01), tap: Tap::Pooled, chunk: 16, projection_head }
    }
}

impl ModuleSettings for CareConfig {
    fn weight(&self) -> Weight {
        self.weight
    }

    fn problems(&self, _: &ObjectiveConfig) -> Vec<String> {
        match self.chunk {
            0 | 1 => vec![format!("equivariance.care.chunk is {}; angles need at least 2 images", self.chunk)],
            _ => Vec::new(),
        }
    }

    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
        Ok(Some(Box::new(Care::new(self, context, scope)?)))
    }
}

/// The CARE module: the mean over pairs i ≠ j within a chunk of `(f(a1 x_i)·f(a1 x_j) − f(a2 x_i)·f(a2 x_j))²` with
/// embeddings f normalized to length 1 (the equivariance term that the paper adds to the contrastive loss).
pub struct Care {
    tap: Tap,
    chunk: usize,
    projection_head: Head,
}

impl Care {
    /// Builds the projection head under `projection_head` in `scope`.
    ///
    /// # Errors
    ///
    /// If the backbone lacks the tapped stage, or a parameter of the same name already exists.
    pub fn new(config: &CareConfig, context: &BuildContext, scope: &mut Scope) -> Result<Self> {
        let width = context.width(config.tap)?;
        let projection_head = context.head(&config.projection_head, width, "projection_head", scope)?;
        Ok(Self { tap: config.tap, chunk: config.chunk, projection_head })
    }
}

impl EquivarianceModule for Care {
    fn needs(&self) -> Needs {
        Needs { shared_by: Some(self.chunk), ..Needs::default() }.at(self.tap)
    }

    fn forward(&self, step: &StepContext) -> Result<Term> {
        let (images, chunk) = (step.images()?, self.chunk);
        if images % chunk != 0 {
            return Err(Error::uneven("care", "images", chunk, images));
        }
        let embedded = self.projection_head.forward(&step.views_of(&step.at(self.tap)?)?, step.mode)?;
        let ys = normalize_rows(&embedded)?;
        let angles = |first: usize| -> Result<Tensor> {
            let view = ys.narrow(0, first, images)?.reshape((images / chunk, chunk, ys.dim(1)?))?;
            Ok(view.matmul(&view.t()?)?)
        };
        // Pairs i = j have the similarity 1 in both views, and contribute nothing.
        let changes = (angles(0)? - angles(images)?)?.sqr()?;
        let of_chunk = (changes.sum((D::Minus2, D::Minus1))? / (chunk * (chunk - 1)) as f64)?;
        let loss = mean_over_rows(&of_chunk, step.collective.as_ref())?;
        Ok(Term { loss, metrics: spread(&embedded, step.collective.as_ref())? })
    }

    fn tap(&self) -> Tap {
        self.tap
    }
}
