//! Every objective and every equivariance module, small.

use equimod_core::{EquivarianceConfig, ObjectiveConfig};

/// Every objective, with small heads.
pub const OBJECTIVES: [&str; 7] = [
    r#"{"kind": "simclr", "projection_head": "16-8 bn-"}"#,
    r#"{"kind": "byol", "projection_head": "16-8 bias", "predictor": "6-8 bias"}"#,
    r#"{"kind": "barlow-twins", "projection_head": "16-8"}"#,
    r#"{"kind": "vicreg", "projection_head": "16-8"}"#,
    r#"{"kind": "simsiam", "projection_head": "16-8 bn-", "predictor": "6-8 bias"}"#,
    r#"{"kind": "moco-v3", "projection_head": "16-8 bn-", "predictor": "6-8"}"#,
    r#"{"kind": "none"}"#,
];

/// EquiMod as published, with small heads.
pub const EQUIMOD: &str =
    r#"{"equimod": {"projection_head": "16-8 bn-", "parameter_head": "6 bn", "predictor": "8 bn-"}}"#;

/// The other modules, and variants of EquiMod; BYOL supports all of them.
pub const MODULES: [&str; 8] = [
    r#"{"equimod": {"projection_head": "8", "parameter_head": "6", "predictor": "8",
        "loss": "vicreg", "start": "view"}}"#,
    r#"{"equimod": {"projection_head": "8 bn-", "parameter_head": "6", "predictor": "8", "loss": "cosine-target"}}"#,
    r#"{"augself": {"hidden": [6], "tap": "stage2"}}"#,
    r#"{"essl": {"hidden": 6}}"#,
    r#"{"split": {"projection_head": "8-4"}}"#,
    r#"{"conditional": {"parameter_head": "3 bn"}}"#,
    r#"{"care": {"chunk": 2, "projection_head": "8-4"}}"#,
    r#"{"stl": {"code_head": "4 bn-", "projection_head": "8-4"}}"#,
];

/// Fails if there is an objective or a module that the lists lack.
pub fn assert_complete() {
    let lacks = |list: &[&str], start: String| !list.iter().any(|part| part.starts_with(&start));
    for entry in ObjectiveConfig::LIST {
        assert!(!lacks(&OBJECTIVES, format!(r#"{{"kind": "{}""#, entry.name)), "{} is not tested", entry.name);
    }
    for entry in EquivarianceConfig::LIST {
        assert!(!lacks(&MODULES, format!(r#"{{"{}""#, entry.name)), "{} is not tested", entry.name);
    }
}
