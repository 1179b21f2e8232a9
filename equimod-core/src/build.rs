//! Contexts in which a method, its objective and its modules are built.

use candle_core::{DType, Device};

use crate::backbone::BackboneContext;
use crate::collective::SharedCollective;
use crate::execution::Execution;
use crate::head::{Head, HeadSpec};
use crate::parameters::Parameters;
use crate::params::Scope;
use crate::tape::{Tap, no_stage};
use crate::{Error, Result};

/// Seed, device and execution settings with which a [`Method`](crate::Method) is built.
pub struct Placement<'a> {
    /// Seed of the initial weights.
    pub seed: u64,
    /// Element type of parameters and activations: f32, or f64 for numerical checks.
    pub dtype: DType,
    /// Device of the tensors.
    pub device: &'a Device,
    /// Side of the square views and original images, in pixels.
    pub image_size: usize,
    /// Collective of the processes that train together.
    pub collective: SharedCollective,
    /// Execution settings, which change memory and speed.
    pub execution: Execution,
}

impl Placement<'_> {
    /// Context in which the backbone is built.
    pub(crate) fn backbone(&self) -> BackboneContext<'_> {
        let &Self { image_size, ref collective, execution, .. } = self;
        BackboneContext { image_size, execution, collective }
    }
}

/// Context in which an objective or a module is built.
#[derive(Clone, Copy)]
pub struct BuildContext<'a> {
    /// Width of the pooled features.
    pub features: usize,
    /// Width of each stage's output.
    pub stages: &'a [usize],
    /// Values of the augmentation parameter vectors.
    pub parameters: &'a Parameters,
    /// Collective of the processes that train together.
    pub collective: &'a SharedCollective,
    /// Specification of the head on the parameters from view to view that conditions the objective's predictor; `None`
    /// for an unconditional predictor.
    pub condition: Option<&'a HeadSpec>,
}

impl BuildContext<'_> {
    /// Builds a head for inputs of width `inputs`, under `name` in `scope`.
    ///
    /// # Errors
    ///
    /// If `inputs` is 0, or a parameter of the same name already exists.
    pub fn head(&self, spec: &HeadSpec, inputs: usize, name: &str, scope: &mut Scope) -> Result<Head> {
        Head::new(spec, inputs, self.collective, &mut scope.scope(name))
    }

    /// Width of the parameter vector of a view.
    ///
    /// # Errors
    ///
    /// If views have no parameters.
    pub fn view_width(&self) -> Result<usize> {
        match self.parameters.view.len() {
            0 => Err(Error::MissingInput {
                input: "the parameters of views",
                remedy: "use a policy whose augmentations draw some",
            }),
            width => Ok(width),
        }
    }

    /// Width of the parameter vector from one view to the other.
    ///
    /// # Errors
    ///
    /// If there are no parameters from view to view.
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

    /// Width of the features at `tap`.
    ///
    /// # Errors
    ///
    /// If the backbone has no such stage.
    pub fn width(&self, tap: Tap) -> Result<usize> {
        match tap {
            Tap::Pooled => Ok(self.features),
            Tap::Stage(number) => {
                self.stages.get(tap.index()).copied().ok_or_else(|| no_stage(number, self.stages.len()))
            }
        }
    }
}
