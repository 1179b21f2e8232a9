//! `equimod inspect`.

use std::process::ExitCode;

use equimod_core::Model;
use equimod_core::model::Preprocessing;
use serde_json::json;

use crate::cli::Inspect;
use crate::{device, output};

/// Loads a MODEL strictly and says what it holds.
pub fn run(arguments: &Inspect) -> anyhow::Result<ExitCode> {
    let model = Model::load(&arguments.model, &device::open(&arguments.device.device)?)?;
    let params = model.params();
    let parts: Vec<(&str, usize)> = ["backbone.", "objective.", "equivariance."]
        .into_iter()
        .map(|part| (part.trim_end_matches('.'), params.count(part)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let tensors: Vec<(String, Vec<usize>)> =
        params.iter().map(|(name, slot)| (name.to_owned(), slot.var.dims().to_vec())).collect();
    if arguments.json {
        let listed = arguments.tensors.then_some(&tensors);
        output::json(&json!({
            "file": model.path, "sha256": model.sha256, "matched": model.report.matched.len(),
            "features": model.backbone().features(), "parameters": params.count(""),
            "parameters_by_part": parts.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "preprocessing": model.preprocessing, "description": model.description,
            "skipped": model.skipped, "tensors": listed,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("file        {}\nsha256      {}\n", model.path.display(), model.sha256);
    text += &format!("tensors     {}: every name and shape fits\n", model.report.summary());
    text += &format!("features    {} values a picture\n", model.backbone().features());
    let Preprocessing { size, normalisation } = &model.preprocessing;
    text += &format!("input       {size} × {size}, mean {:?}, std {:?}\n", normalisation.mean, normalisation.std);
    text += &format!("parameters  {}", params.count(""));
    if !parts.is_empty() {
        let parts: Vec<String> = parts.iter().map(|(part, count)| format!("{part} {count}")).collect();
        text += &format!(" ({})", parts.join(", "));
    }
    match &model.description {
        Some(d) => {
            let architecture = &d.method.backbone.0;
            text += &format!(
                "\nbackbone    {}, {:?} stem, width {}\ntrained     {} steps, seed {}, equimod {}\n",
                architecture.architecture.name(),
                architecture.stem,
                architecture.width,
                d.step,
                d.seed,
                d.version
            );
            text += &format!("method      {}", serde_json::to_string(&d.method)?);
        }
        None => text += "\nbackbone    a ResNet under torchvision's names; preprocessing guessed from its stem",
    }
    model.skipped.iter().for_each(|reason| output::note(&format!("passed over: {reason}")));
    if arguments.tensors {
        tensors.iter().for_each(|(name, shape)| text += &format!("\n  {name} {shape:?}"));
    }
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}
