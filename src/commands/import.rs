//! `equimod import`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::Device;
use equimod_core::Model;
use equimod_core::checkpoint::write_atomic;
use equimod_core::model::{HEADS_FILE, MODEL_FILE, files_of_pytorch};
use serde_json::json;

use super::inspect::{assumptions, beside, left_out};
use crate::cli::Import;
use crate::export::verify::{ensure_finite, verify};
use crate::export::weights;
use crate::hub::WeightFormats;
use crate::inputs::model_argument::{local, note_assumed};
use crate::outputs::console;
use crate::process::exit::Usage;

/// Reads a ResNet from another code base, and writes it with torchvision's names.
pub fn run(arguments: &Import) -> anyhow::Result<ExitCode> {
    let out = arguments.out.clone().unwrap_or_else(|| named_after(&arguments.file));
    if out.exists() {
        return Err(Usage(format!("{} is there already; give another file to --out", out.display())).into());
    }
    if out.extension().is_none_or(|ending| ending != "safetensors") {
        return Err(Usage(format!("{} does not end with .safetensors, which is what is written", out.display())).into());
    }
    if arguments.file.is_dir() {
        return Err(Usage(folder(&arguments.file)).into());
    }
    if arguments.file.ends_with(MODEL_FILE) && arguments.file.with_file_name(HEADS_FILE).is_file() {
        let text = "it is of an export of equimod, which is used as a MODEL as it is";
        return Err(Usage(format!("{}: {text}", arguments.file.display())).into());
    }
    let file = local(&arguments.file, WeightFormats::Any)?;
    let model = Model::import(&file.path, arguments.prefix.as_deref(), &arguments.assumptions.choices(), &Device::Cpu)?;
    ensure_finite(&model)?;
    write_atomic(&out, &weights(&model)?)?;
    let verified = verify(&model, &out)?;
    let report = &model.report;
    if arguments.json {
        let backbone = model.backbone_config()?;
        let value = json!({
            "file": arguments.file, "out": out, "backbone": backbone, "report": report, "written": verified,
            "preprocessing": model.preprocessing, "imported": model.imported,
        });
        console::json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!(
        "{}: {}, {} features\nkeys      {}\n",
        out.display(),
        model.backbone_config()?.settings().describe(),
        model.backbone().features(),
        report.summary()
    );
    if !report.prefix.is_empty() {
        text += &format!("prefix    {} taken off the names\n", report.prefix);
    }
    text += &left_out(report, "left out  ");
    text += &beside(report, "beside    ");
    text += &assumptions(&model, "code      ");
    text += &format!("written   {}\n", verified.summary());
    console::result(&text)?;
    note_assumed(&model);
    console::note(&format!("use it as a MODEL, or as initial weights: equimod pretrain --from {} …", out.display()));
    Ok(ExitCode::SUCCESS)
}

/// Hint at the file to give instead of a folder.
fn folder(path: &Path) -> String {
    match files_of_pytorch(path).as_slice() {
        [one] => format!("{} is a folder; give {}", path.display(), one.display()),
        _ => format!("{} is a folder; give the file of weights in it", path.display()),
    }
}

/// Output path: `weights.pth.tar` becomes `weights.safetensors` in this folder.
fn named_after(file: &Path) -> PathBuf {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    let endings = [".pth.tar", ".pth", ".pt", ".ckpt", ".bin", ".safetensors"];
    let stem = endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    PathBuf::from(format!("{stem}.safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_named_after_what_it_was() {
        for (file, out) in [
            ("a/moco_v2.pth.tar", "moco_v2.safetensors"),
            ("resnet18-f37072fd.pth", "resnet18-f37072fd.safetensors"),
            ("hf:lab/net@v1", "net.safetensors"),
            ("hf:lab/net/pytorch_model.bin@v1", "pytorch_model.safetensors"),
        ] {
            assert_eq!(named_after(Path::new(file)), Path::new(out));
        }
    }
}
