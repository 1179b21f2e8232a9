//! `equimod data preview`.

use std::process::ExitCode;

use equimod_core::checkpoint::write_atomic;
use equimod_data::{Dataset, Error, Image, Policy, Sampler, Size, ViewParams, clean_view, view_rng};
use serde_json::{Value, json};

use super::Augmented;
use crate::cli::Preview;
use crate::outputs::console;
use crate::outputs::contact_sheet::{Cell, draw};

/// Draws images with their views.
pub fn run(arguments: &Preview) -> anyhow::Result<ExitCode> {
    let Augmented { dataset, policy, .. } = arguments.policy.open(&arguments.source)?;
    let order = Sampler::new(arguments.seed, dataset.len(), 1).order(0);
    let (mut rows, mut described) = (Vec::new(), Vec::new());
    for sample in order {
        if rows.len() == arguments.images as usize {
            break;
        }
        let image = match dataset.image(sample) {
            Err(error @ Error::Image { .. }) => {
                console::note(&format!("left out: {error}"));
                continue;
            }
            image => image?,
        };
        let (row, parameters) = row(dataset.as_ref(), &policy, arguments.seed, (sample, &image));
        rows.push(row);
        described.push(parameters);
    }
    if rows.is_empty() {
        let reason = "none of its images decode; see `equimod data verify`".to_owned();
        return Err(Error::DataSet { name: dataset.name().into(), reason }.into());
    }
    write_atomic(&arguments.out, &draw(&rows)?.encode_png()?)?;
    let folder = arguments.out.display();
    if arguments.json {
        console::json(
            &json!({ "file": arguments.out, "policy": policy, "seed": arguments.seed, "images": described }),
        )?;
    } else {
        console::result(&format!(
            "{folder}: {} images, {} views each, policy {}",
            rows.len(),
            policy.views.len(),
            policy.name
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Original image and its views, as in the first epoch of a run with this seed.
fn row(dataset: &dyn Dataset, policy: &Policy, seed: u64, (sample, image): (usize, &Image)) -> (Vec<Cell>, Value) {
    let title = dataset.text("name", sample).map_or_else(|| dataset.key(sample), str::to_lowercase);
    let label = |task: usize| dataset.label(task, sample).map(|label| &dataset.tasks()[task].classes[label as usize]);
    let labels =
        (0..dataset.tasks().len()).filter_map(|task| Some(format!("{}: {}", dataset.tasks()[task].name, label(task)?)));
    let Size { height, width } = image.size();
    let mut lines = vec![title.clone(), format!("h {height} w {width}")];
    lines.extend(labels);
    let mut cells = vec![Cell { image: clean_view(image, &policy.clean), lines }];
    let mut views: Vec<ViewParams> = Vec::new();
    for (number, view) in policy.views.iter().enumerate() {
        let params = view.sample(image.size(), &mut view_rng(seed, 0, sample as u64, number as u64));
        let lines = view.describe(&params).into_iter().map(|(name, value)| format!("{name}: {value}"));
        cells.push(Cell { image: view.apply(image, &params), lines: lines.collect() });
        views.push(params);
    }
    (cells, json!({ "index": sample, "key": dataset.key(sample), "title": title, "views": views }))
}
