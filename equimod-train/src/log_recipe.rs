//! Settings of where metrics are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where metrics are written beside `metrics.jsonl` and TensorBoard's event file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogRecipe {
    /// Whether the numbers of `metrics.jsonl` are also written as a table, `metrics.csv`.
    pub csv: bool,
    /// Experiment of the MLflow server at `MLFLOW_TRACKING_URI` to which the run is sent; if empty, it is not sent.
    pub mlflow: String,
}
