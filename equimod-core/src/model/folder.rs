//! The `config.json` next to weights, from an export or a timm repository.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Description;
use super::origin::Origin;
use crate::images::Normalization;
use crate::{Error, Result};

/// Name of the file that describes the weights next to it.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the file next to the backbone that holds heads and predictors.
pub const HEADS_FILE: &str = "heads.safetensors";

/// Description of an export's weights, under the key `equimod` of [`CONFIG_FILE`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    /// SHA-256 of the backbone's file, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of [`HEADS_FILE`], in hexadecimal, if there is one.
    #[serde(default)]
    pub heads_sha256: Option<String>,
    /// Method and preprocessing with which the weights were trained.
    #[serde(flatten)]
    pub description: Description,
}

/// The parts of [`CONFIG_FILE`] that are read.
#[derive(Debug, Default, Deserialize)]
pub(super) struct FolderConfig {
    /// Description of an export.
    pub equimod: Option<Exported>,
    architecture: Option<String>,
    pretrained_cfg: Option<Pretrained>,
}

/// Preprocessing of a timm network.
#[derive(Debug, Deserialize)]
struct Pretrained {
    input_size: [usize; 3],
    mean: [f32; 3],
    std: [f32; 3],
}

impl FolderConfig {
    /// Parses the text of a `config.json` next to `weights`. A file of any other program counts as empty.
    pub fn read(text: &str, weights: &Path) -> Result<Self> {
        let unusable = |e: serde_json::Error| {
            let text =
                format!("the {CONFIG_FILE} next to it cannot be read ({e}); use a matching version, or remove it");
            Error::checkpoint(weights, text)
        };
        let value: serde_json::Value = serde_json::from_str(text).map_err(unusable)?;
        match ["equimod", "pretrained_cfg", "architecture"].iter().any(|key| value.get(key).is_some()) {
            true => serde_json::from_value(value).map_err(unusable),
            false => Ok(Self::default()),
        }
    }

    /// timm's description of a network: architecture, input size and normalization; `None` if there is none.
    pub fn described(&self) -> Option<Origin> {
        let pretrained = self.pretrained_cfg.as_ref();
        if pretrained.is_none() && self.architecture.is_none() {
            return None;
        }
        Some(Origin {
            code: "timm".into(),
            evidence: format!("{CONFIG_FILE} next to it"),
            is_record: true,
            architecture: self.architecture.clone(),
            size: pretrained.map(|found| found.input_size[1]),
            normalization: pretrained.map(|found| Normalization { mean: found.mean, std: found.std }),
            ..Origin::default()
        })
    }
}
