//! JSON schemas of settings with hand-written parsers, so that editors of recipes accept the same values as `FromStr`
//! and `Deserialize`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::equivariance::{Prediction, PredictorSpec};
use crate::head::HeadSpec;
use crate::optim::Weight;

/// Positive integers joined by `-`.
const WIDTHS: &str = "0*[1-9][0-9]*(-0*[1-9][0-9]*)*";
/// A nonnegative number.
const NUMBER: &str = r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?";

fn head() -> String {
    format!(r"(none|{WIDTHS}(\s+(bias|bn-?))?)")
}

/// Pattern that matches a whole string, with optional spaces around it.
fn whole(pattern: &str) -> String {
    format!(r"^\s*{pattern}\s*$")
}

/// Schema of a head: a string, or a number for a single layer. The comment explains the syntax; the setting has its own
/// description.
fn text_or_width(pattern: &str, comment: &str, examples: &[&str]) -> Schema {
    json_schema!({
        "type": ["string", "integer"],
        "pattern": whole(pattern),
        "minimum": 1,
        "examples": examples,
        "$comment": comment,
    })
}

impl JsonSchema for HeadSpec {
    fn schema_name() -> Cow<'static, str> {
        "Head".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let comment = "A head: widths joined by `-`, and an ending (none, `bias`, `bn`, `bn-`), \
            e.g. `2048-2048-128 bn-`; or `none`.";
        text_or_width(&head(), comment, &["2048-2048-128 bn-", "256 bias", "none"])
    }
}

impl JsonSchema for PredictorSpec {
    fn schema_name() -> Cow<'static, str> {
        "Predictor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let comment = "A head, e.g. `128 bn-`; `residual` and a head, e.g. `residual 512-128`; or `hypernetwork`, with \
            widths of hidden layers if there are any, e.g. `hypernetwork 256`.";
        let pattern = format!(r"({head}|residual\s+{head}|hypernetwork(\s+{WIDTHS})?)", head = head());
        text_or_width(&pattern, comment, &["128 bn-", "residual 512-128", "hypernetwork", "hypernetwork 256"])
    }
}

impl JsonSchema for Weight {
    fn schema_name() -> Cow<'static, str> {
        "Weight".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["number", "string"],
            "minimum": 0,
            "pattern": whole(&format!(r"{NUMBER}(\s+to\s+{NUMBER}\s+until\s+{NUMBER})?")),
            "examples": [1, "0 to 1 until 0.1"],
            "$comment": "A number, or a line over a share of the steps, e.g. `0 to 1 until 0.1`.",
        })
    }
}

impl JsonSchema for Prediction {
    fn schema_name() -> Cow<'static, str> {
        "Prediction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": whole(&format!(r"\S+(\s+{NUMBER})?")),
            "examples": ["random-resized-crop 0.5", "color-jitter"],
            "$comment": "An augmentation, and a weight if it is not 1, e.g. `random-resized-crop 0.5`.",
        })
    }
}
