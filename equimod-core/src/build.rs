//! What the parts of a method are built for.

use serde::{Deserialize, Serialize};

use crate::collective::SharedCollective;
use crate::head::{Head, HeadSpec};
use crate::params::Scope;
use crate::step::Tap;
use crate::{Error, Result};

/// What parameter vectors hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Width of the vector of a view; 0 if there is none.
    pub view: usize,
    /// The values of the vector from one view to the other; empty if there is none.
    pub pair: Vec<PairValue>,
}

/// A difference between the parameters of two views, as it comes in a batch: `(difference − mean)/std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairValue {
    /// Its name.
    pub name: String,
    /// The augmentation it belongs to.
    pub augmentation: String,
    /// What was subtracted.
    pub mean: f32,
    /// What it was divided by.
    pub std: f32,
    /// The largest difference there can be.
    pub reach: f32,
    /// Whether it is the difference of two flags: −1, 0 or 1.
    pub flag: bool,
}

impl Parameters {
    /// Those of views alone, `width` values each.
    pub fn of_views(width: usize) -> Self {
        Self { view: width, pair: Vec::new() }
    }
}

/// What a part is built for.
#[derive(Clone, Copy)]
pub struct BuildContext<'a> {
    /// Width of the pooled features.
    pub features: usize,
    /// Channels of each stage's output.
    pub stages: &'a [usize],
    /// What parameter vectors hold.
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
        match self.parameters.view {
            0 => Err(Error::Config(
                "a part of the method needs the parameters of views, and there are none; use a policy whose augmentations \
                 draw some"
                    .into(),
            )),
            width => Ok(width),
        }
    }

    /// Width of the vectors from view to view, which a part needs.
    pub fn pair_width(&self) -> Result<usize> {
        match self.parameters.pair.len() {
            0 => Err(Error::Config(
                "a part of the method needs the parameters from one view to the other, and there are none; use a policy of \
                 two views whose augmentations draw some, and in augmentation.parameters augmentations' names"
                    .into(),
            )),
            width => Ok(width),
        }
    }

    /// Width of what is tapped.
    pub fn width(&self, tap: Tap) -> Result<usize> {
        match tap {
            Tap::Pooled => Ok(self.features),
            Tap::Stage(number) => self.stages.get(tap.index()).copied().ok_or_else(|| {
                Error::Config(format!("the backbone has {} stages, there is no stage {number}", self.stages.len()))
            }),
        }
    }
}
