//! The whole command with an equivariance module of one's own: `shift`, in which the augmentation parameters shift the
//! embedding of the original image.
//!
//! ```sh
//! cargo run --release --example custom_module -- list modules
//! cargo run --release --example custom_module -- pretrain --set equivariance.equimod=false --set equivariance.shift.width=32
//! cargo run --release --example custom_module -- eval equivariance out/quick-1
//! ```

use candle_core::Tensor;
use equimod::core::equivariance::{ModuleKind, ModuleSettings, Start, equivariance_metrics};
use equimod::core::nn::Linear;
use equimod::core::objective::nt_xent;
use equimod::core::optim::Weight;
use equimod::core::params::Scope;
use equimod::core::{BuildContext, Entry, EquivarianceModule, Needs, ObjectiveConfig, Result, StepContext, Term};
use serde::{Deserialize, Serialize};

/// Settings `equivariance.shift` of a recipe.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ShiftSettings {
    /// λ, the weight of the module's term in the loss.
    weight: Weight,
    /// Width of the embedding.
    width: usize,
}

impl Default for ShiftSettings {
    fn default() -> Self {
        Self { weight: Weight::Fixed(1.0), width: 64 }
    }
}

impl ModuleSettings for ShiftSettings {
    fn weight(&self) -> Weight {
        self.weight
    }

    fn problems(&self, _objective: &ObjectiveConfig) -> Vec<String> {
        if self.width == 0 { vec!["equivariance.shift.width is 0; give at least 1".into()] } else { Vec::new() }
    }

    fn build(&self, context: &BuildContext, scope: &mut Scope) -> Result<Option<Box<dyn EquivarianceModule>>> {
        let projection = Linear::new(context.features, self.width, false, &mut scope.scope("projection"))?;
        let shift = Linear::new(context.view_width()?, self.width, false, &mut scope.scope("shift"))?;
        Ok(Some(Box::new(Shift { projection, shift })))
    }
}

/// Temperature of the loss.
const TEMPERATURE: f64 = 0.2;

/// A module in which parameters shift the embedding of the original image.
struct Shift {
    projection: Linear,
    shift: Linear,
}

impl EquivarianceModule for Shift {
    fn needs(&self) -> Needs {
        Needs { clean_view: true, parameters: true, ..Needs::default() }
    }

    /// NT-Xent loss: each prediction and its view are a positive pair, all other predictions and views are negatives.
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let images = step.clean_images()?;
        let y = self.projection.forward(step.pooled)?; // original images, view 1, view 2: [3B, width]
        let clean = y.narrow(0, 0, images)?;
        let clean = Tensor::cat(&[&clean, &clean], 0)?;
        let predicted = (&clean + self.shift.forward(step.params()?)?)?; // [2B, width]
        let views = step.views_of(&y)?;
        let collective = step.collective.as_ref();
        let metrics = equivariance_metrics(&clean, &views, &predicted, collective)?;
        Ok(Term { loss: nt_xent(&Tensor::cat(&[&predicted, &views], 0)?, TEMPERATURE, collective)?, metrics })
    }

    fn start(&self) -> Option<Start> {
        Some(Start::Clean)
    }

    fn embed(&self, features: &Tensor) -> Result<Option<Tensor>> {
        self.projection.forward(features).map(Some)
    }

    fn predict(&self, features: &Tensor, params: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some((self.projection.forward(features)? + self.shift.forward(params)?)?))
    }
}

/// The kind of module that recipes call `shift`.
const SHIFT: ModuleKind = ModuleKind::new::<ShiftSettings>(Entry {
    name: "shift",
    title: "Shift",
    arxiv: "",
    about: "parameters shift the embedding of the original image",
});

#[global_allocator]
static ALLOCATOR: equimod::Allocator = equimod::Allocator;

/// The command `equimod`, for which recipes may have the module `shift`.
pub fn main() -> std::process::ExitCode {
    equimod::run_with(&[SHIFT])
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use equimod::core::{Mode, ParamStore, Parameters, SingleProcess};

    use super::*;

    #[test]
    fn parameters_of_no_change_predict_the_image_itself() {
        let (collective, parameters) = (SingleProcess::shared(), Parameters::of_views(3));
        let (stages, condition) = (&[][..], None);
        let context = BuildContext { features: 8, stages, parameters: &parameters, collective: &collective, condition };
        let mut store = ParamStore::new(0, DType::F32, &Device::Cpu);
        let module = ShiftSettings::default().build(&context, &mut store.root()).unwrap().unwrap();

        let features = Tensor::randn(0f32, 1.0, (4, 8), &Device::Cpu).unwrap();
        let no_change = Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap();
        let [embedded, predicted] = [module.embed(&features), module.predict(&features, &no_change)];
        let difference = (embedded.unwrap().unwrap() - predicted.unwrap().unwrap()).unwrap();
        assert_eq!(difference.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);

        // Four images with two views each, and their original images.
        let pooled = Tensor::randn(0f32, 1.0, (12, 8), &Device::Cpu).unwrap();
        let params = Tensor::randn(0f32, 1.0, (8, 3), &Device::Cpu).unwrap();
        let step =
            StepContext { params: Some(&params), ..StepContext::of_features(&pooled, true, Mode::Train, &collective) };
        let Term { loss, metrics } = module.forward(&step).unwrap();
        assert!(loss.to_scalar::<f32>().unwrap() > 0.0);
        assert!(metrics.iter().any(|(name, _)| name == "absolute_equivariance"));
    }
}
