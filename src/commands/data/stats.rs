//! `equimod data stats`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use equimod_data::dataset::likely_labels;
use equimod_data::source::with_labels;
use equimod_data::{Background, Dataset, Size};
use serde_json::{Value, json};

use super::verify::transparent;
use crate::cli::DataStats;
use crate::inputs::channels::channels;
use crate::outputs::console;

/// Prints sizes, channel statistics and label counts.
pub fn run(arguments: &DataStats) -> anyhow::Result<ExitCode> {
    let dataset = with_labels(arguments.source.open()?, &arguments.task)?;
    let sizes = dataset.sample_sizes(usize::MAX)?;
    let channels = channels(dataset.as_ref(), arguments.images)?;
    let labels: Vec<Value> = (0..dataset.tasks().len()).map(|task| labels(dataset.as_ref(), task)).collect();
    let described = json!({
        "name": dataset.name(),
        "images": dataset.len(),
        "sizes": sizes_of(&sizes),
        "transparent": channels.transparent,
        "blank": channels.blank,
        "channels": { "images": channels.images, "mean": channels.mean(), "std": channels.std() },
        "labels": labels,
        "likely_labels": likely_labels(dataset.as_ref())
            .into_iter()
            .map(|(column, values)| json!({ "column": column, "values": values }))
            .collect::<Vec<_>>(),
    });
    if arguments.json {
        console::json(&described)?;
    } else {
        console::sentences(&plain(&described, arguments.source.reading.reading().background))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Smallest, median and largest sides, and the most frequent sizes.
fn sizes_of(sizes: &[Size]) -> Value {
    let side = |side: fn(&Size) -> usize| {
        let mut sides: Vec<usize> = sizes.iter().map(side).collect();
        sides.sort_unstable();
        json!({ "least": sides.first(), "median": sides.get(sides.len() / 2), "largest": sides.last() })
    };
    let mut counts: BTreeMap<Size, usize> = BTreeMap::new();
    for size in sizes {
        *counts.entry(*size).or_default() += 1;
    }
    let mut counts: Vec<(Size, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let frequent = counts
        .iter()
        .take(5)
        .map(|(size, count)| json!({ "height": size.height, "width": size.width, "images": count }));
    json!({
        "readable": sizes.len(),
        "height": side(|s| s.height),
        "width": side(|s| s.width),
        "different": counts.len(),
        "frequent": frequent.collect::<Vec<_>>(),
    })
}

fn labels(dataset: &dyn Dataset, task: usize) -> Value {
    let mut counts = vec![0usize; dataset.tasks()[task].classes.len()];
    let mut without = 0;
    for index in 0..dataset.len() {
        match dataset.label(task, index) {
            Some(label) => counts[label as usize] += 1,
            None => without += 1,
        }
    }
    let task = &dataset.tasks()[task];
    let counts: Vec<Value> =
        task.classes.iter().zip(counts).map(|(class, n)| json!({ "class": class, "images": n })).collect();
    json!({ "task": task.name, "classes": counts, "without": without })
}

/// Number of classes in the text report; JSON has all of them.
const SHOWN: usize = 12;

fn plain(described: &Value, background: Background) -> String {
    let numbers = |value: &Value| -> String {
        let list = value.as_array().into_iter().flatten().filter_map(Value::as_f64);
        list.map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(" ")
    };
    let side = |name: &str| {
        let side = &described["sizes"][name];
        format!("{name} {} to {}, median {}", side["least"], side["largest"], side["median"])
    };
    let mut text = format!("{}: {} images\n", described["name"].as_str().unwrap_or_default(), described["images"]);
    text += &format!("sizes: {}; {}; {} different\n", side("height"), side("width"), described["sizes"]["different"]);
    if described["sizes"]["readable"] != described["images"] {
        text += &format!(
            "only {} of them can be read; `equimod data verify` lists the others\n",
            described["sizes"]["readable"]
        );
    }
    let channels = &described["channels"];
    text += &format!(
        "channel mean {}   (red, green, blue in [0, 1], over {} images)\n",
        numbers(&channels["mean"]),
        channels["images"]
    );
    text += &format!("channel std  {}\n", numbers(&channels["std"]));
    if let Some(count) = described["transparent"].as_u64().filter(|&count| count > 0) {
        text += &format!("{}\n", transparent(count as usize, background));
        if let Some(blank) = described["blank"].as_u64().filter(|&blank| blank > 0) {
            text +=
                &format!("{blank} of them are blank so: their shapes are in the alpha alone; try another background\n");
        }
    }
    for task in described["labels"].as_array().into_iter().flatten() {
        let classes = task["classes"].as_array().map(Vec::as_slice).unwrap_or_default();
        text += &format!(
            "labels {}: {} {}, {} images without\n",
            task["task"].as_str().unwrap_or_default(),
            classes.len(),
            if classes.len() == 1 { "class" } else { "classes" },
            task["without"]
        );
        for class in classes.iter().take(SHOWN) {
            text += &format!("  {:>7}  {}\n", class["images"], class["class"].as_str().unwrap_or_default());
        }
        if classes.len() > SHOWN {
            text += &format!("  … and {} more (all with --json)\n", classes.len() - SHOWN);
        }
    }
    let likely = described["likely_labels"].as_array().into_iter().flatten();
    let likely: Vec<String> = likely
        .map(|found| format!("{} ({} values)", found["column"].as_str().unwrap_or_default(), found["values"]))
        .collect();
    if !likely.is_empty() {
        text += &format!("columns that --task takes as labels: {}\n", likely.join(", "));
    }
    text
}
