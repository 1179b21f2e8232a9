//! The description of a model in `results.json`.

use equimod_core::Model;

use crate::InputTransform;
use crate::results::EvaluatedModel;

impl EvaluatedModel {
    /// The description of `model`, whose images are resized and cropped by `input`, under the name `name`.
    pub fn of(name: &str, model: &Model, input: InputTransform) -> Self {
        Self {
            name: name.into(),
            path: model.path.display().to_string(),
            sha256: model.sha256.clone(),
            backbone: backbone(model),
            preprocessing: preprocessing(model, input),
        }
    }
}

fn preprocessing(model: &Model, input: InputTransform) -> String {
    let normalization = &model.preprocessing.normalization;
    let guessed = if model.guessed { " (guessed from the stem)" } else { "" };
    format!("{}, mean {:?}, std {:?}{guessed}", input.describe(), normalization.mean, normalization.std)
}

fn backbone(model: &Model) -> String {
    match &model.description {
        Some(description) => description.method.backbone.settings().describe(),
        None => format!("a ResNet with torchvision's parameter names, {} features", model.backbone().features()),
    }
}
