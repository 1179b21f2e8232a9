//! What a method, its objective and its modules are built for.

use candle_core::{DType, Device};

use crate::backbone::BackboneContext;
use crate::collective::SharedCollective;
use crate::execution::Execution;
use crate::head::{Head, HeadSpec};
use crate::parameters::Parameters;
use crate::params::Scope;
use crate::tape::{Tap, no_stage};
use crate::{Error, Result};

/// Where and how to build a [`Method`](crate::Method).
pub struct Placement<'a> {
    /// Decides the initial weights.
    pub seed: u64,
    /// f32, or f64 for proofs.
    pub dtype: DType,
    /// Where the tensors live.
    pub device: &'a Device,
    /// Side of the square views and original images, in pixels.
    pub image_size: usize,
    /// The processes that train together.
    pub collective: SharedCollective,
    /// How the work is done.
    pub execution: Execution,
}

impl Placement<'_> {
    /// What the backbone is built for.
    pub(crate) fn backbone(&self) -> BackboneContext<'_> {
        let &Self { image_size, ref collective, execution, .. } = self;
        BackboneContext { image_size, execution, collective }
    }
}

/// What an objective or a module is built for.
#[derive(Clone, Copy)]
pub struct BuildContext<'a> {
    /// Width of the pooled features.
    pub features: usize,
    /// Width of each stage's output.
    pub stages: &'a [usize],
    /// The values of parameter vectors.
    pub parameters: &'a Parameters,
    /// The processes that train together.
    pub collective: &'a SharedCollective,
    /// What predictors of objectives are conditioned on, if they are: a head on the parameters from view to view.
    pub condition: Option<&'a HeadSpec>,
}

impl BuildContext<'_> {
    /// A head on inputs of width `inputs`, its tensors under `name` in `scope`.
    pub fn head(&self, spec: &HeadSpec, inputs: usize, name: &str, scope: &mut Scope) -> Result<Head> {
        Head::new(spec, inputs, self.collective, &mut scope.scope(name))
    }

    /// Width of the vectors of views, which a part needs.
    pub fn view_width(&self) -> Result<usize> {
        match self.parameters.view.len() {
            0 => Err(Error::MissingInput {
                input: "the parameters of views",
                remedy: "use a policy whose augmentations draw some",
            }),
            width => Ok(width),
        }
    }

    /// Width of the vectors from view to view, which a part needs.
    pub fn pair_width(&self) -> Result<usize> {
        match self.parameters.pair.len() {
            0 => Err(Error::MissingInput {
                input: "the parameters from one view to the other",
                remedy: "use a policy of two views whose augmentations draw some, and in augmentation.parameters \
                         augmentations' names",
            }),
            width => Ok(width),
        }
    }

    /// Width of what is tapped.
    pub fn width(&self, tap: Tap) -> Result<usize> {
        match tap {
            Tap::Pooled => Ok(self.features),
            Tap::Stage(number) => {
                self.stages.get(tap.index()).copied().ok_or_else(|| no_stage(number, self.stages.len()))
            }
        }
    }
}
