//! `equimod data params`.

use std::process::ExitCode;

use equimod_data::ParamLayout;
use serde_json::json;

use super::Augmented;
use crate::cli::DataParams;
use crate::outputs::console;

/// Largest number of images whose sizes are read.
const IMAGES: usize = 10_000;

/// Prints measured statistics of every encoded value next to the analytic ones and those that training uses.
pub fn run(arguments: &DataParams) -> anyhow::Result<ExitCode> {
    let Augmented { dataset, policy, layout: config } = arguments.policy.open(&arguments.source)?;
    let sizes = dataset.sample_sizes(IMAGES)?;
    let layout = ParamLayout::new(&policy, &config, &sizes)?;
    let measured = layout.measure(&policy, &sizes, arguments.draws as usize)?;
    let (analytic, values) = (layout.analytic(&policy), layout.values(&policy));
    if arguments.json {
        let value = |k: usize| {
            json!({
                "name": layout.names[k], "unit": values[k].unit,
                "measured": { "mean": measured.mean[k], "std": measured.std[k] },
                "analytic": analytic[k].map(|(mean, std)| json!({ "mean": mean, "std": std })),
                "used": { "mean": layout.mean[k], "std": layout.std[k] },
            })
        };
        let values: Vec<_> = (0..layout.width()).map(value).collect();
        console::json(&json!({
            "policy": policy.name, "encoding": layout.encoding, "statistics": layout.statistics,
            "draws": arguments.draws, "values": values,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!(
        "policy {}, encoding {}, statistics {}, {} draws over the sizes of {} images of {}\n\n",
        policy.name,
        layout.encoding,
        layout.statistics,
        arguments.draws,
        sizes.len(),
        dataset.name()
    );
    let width = layout.names.iter().map(String::len).max().unwrap_or(0);
    text += &format!(
        "{:width$}  {:>20}  {:>20}  {:>20}  unit\n",
        "value", "measured mean, std", "analytic mean, std", "used mean, std"
    );
    for k in 0..layout.width() {
        let pair = |mean: f64, std: f64| format!("{mean:.4} {std:>9.4}");
        let analytic = analytic[k].map_or_else(|| "–".into(), |(mean, std)| pair(mean, std));
        let (measured, used) =
            (pair(measured.mean[k], measured.std[k]), pair(layout.mean[k].into(), layout.std[k].into()));
        text +=
            &format!("{:width$}  {measured:>20}  {analytic:>20}  {used:>20}  {}\n", layout.names[k], values[k].unit);
    }
    console::result(&text)?;
    Ok(ExitCode::SUCCESS)
}
