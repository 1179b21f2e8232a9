//! `config.json` beside weights: that of an export, or that of a repository of timm's.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Description;
use super::origin::Origin;
use crate::images::Normalization;
use crate::{Error, Result};

/// The file that describes the weights beside it.
pub const CONFIG_FILE: &str = "config.json";
/// The file beside the backbone that holds heads and predictors.
pub const HEADS_FILE: &str = "heads.safetensors";

/// What an export says of its weights, under the key `equimod` of [`CONFIG_FILE`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    /// Hexadecimal SHA-256 of the backbone's file.
    pub sha256: String,
    /// Hexadecimal SHA-256 of [`HEADS_FILE`], where there is one.
    #[serde(default)]
    pub heads_sha256: Option<String>,
    /// How the weights came about.
    #[serde(flatten)]
    pub description: Description,
}

/// What is read of [`CONFIG_FILE`].
#[derive(Debug, Default, Deserialize)]
pub(super) struct FolderConfig {
    /// Of an export.
    pub equimod: Option<Exported>,
    architecture: Option<String>,
    pretrained_cfg: Option<Pretrained>,
}

/// How pictures enter a network of timm's.
#[derive(Debug, Deserialize)]
struct Pretrained {
    input_size: [usize; 3],
    mean: [f32; 3],
    std: [f32; 3],
}

impl FolderConfig {
    /// Reads the text of a `config.json` beside `weights`; one of a program that is neither is none.
    pub fn read(text: &str, weights: &Path) -> Result<Self> {
        let unusable = |e: serde_json::Error| {
            let text =
                format!("the {CONFIG_FILE} beside it cannot be read ({e}); use a matching version, or take it away");
            Error::checkpoint(weights, text)
        };
        let value: serde_json::Value = serde_json::from_str(text).map_err(unusable)?;
        match ["equimod", "pretrained_cfg", "architecture"].iter().any(|key| value.get(key).is_some()) {
            true => serde_json::from_value(value).map_err(unusable),
            false => Ok(Self::default()),
        }
    }

    /// timm's description of a network: its name, input size and normalization.
    pub fn described(&self) -> Option<Origin> {
        let pretrained = self.pretrained_cfg.as_ref();
        if pretrained.is_none() && self.architecture.is_none() {
            return None;
        }
        Some(Origin {
            code: "timm".into(),
            evidence: format!("{CONFIG_FILE} beside it"),
            is_record: true,
            architecture: self.architecture.clone(),
            size: pretrained.map(|found| found.input_size[1]),
            normalization: pretrained.map(|found| Normalization { mean: found.mean, std: found.std }),
            ..Origin::default()
        })
    }
}
