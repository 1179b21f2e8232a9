//! `equimod embed`.

use std::process::ExitCode;

use equimod_data::Dataset;
use equimod_eval::embedding::{Embedded, Format, Labels};
use equimod_eval::{Extractor, Input};

use crate::cli::{CropKind, Embed, EmbeddedSplit};
use crate::evaluation::task_name;
use crate::sources::{Splits, splits};
use crate::{device, models, output};

/// Computes features and writes them.
pub fn run(arguments: &Embed) -> anyhow::Result<ExitCode> {
    let format = Format::of(&arguments.out)?;
    let model = models::open(&arguments.model, &device::open(&arguments.device.device)?)?;
    let splits = splits(&arguments.data, arguments.reading.reading())?;
    let run = arguments.model.join("run.json").is_file().then(|| arguments.model.join("eval/features"));
    let cache = arguments.cache.clone().or(run);
    let input = Input::of(&model, arguments.input.size, arguments.input.crop.unwrap_or(CropKind::Centre).into())?;
    let extractor = Extractor::new(&model, cache.as_deref()).with_input(input);
    let mut embedded = Embedded::default();
    for (name, dataset) in parts(&splits, &arguments.split) {
        add(&mut embedded, name, dataset, &extractor)?;
    }
    embedded.write(&arguments.out, format)?;
    let (rows, columns) = (embedded.rows(), embedded.features.columns());
    output::result(&format!("{rows} pictures, {columns} features each: {}", arguments.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The splits that are wanted and there.
fn parts<'a>(splits: &'a Splits, wanted: &[EmbeddedSplit]) -> Vec<(&'static str, &'a dyn Dataset)> {
    let all = [
        (EmbeddedSplit::Train, "train", Some(&splits.train)),
        (EmbeddedSplit::Validation, "validation", splits.validation.as_ref()),
        (EmbeddedSplit::Test, "test", splits.test.as_ref()),
    ];
    let asked = |split: EmbeddedSplit| wanted.is_empty() || wanted.contains(&split);
    all.into_iter()
        .filter(|(split, ..)| asked(*split))
        .filter_map(|(_, name, dataset)| Some((name, dataset?.as_ref())))
        .collect()
}

/// Adds the pictures of a split that decode.
fn add(embedded: &mut Embedded, split: &str, dataset: &dyn Dataset, extractor: &Extractor) -> anyhow::Result<()> {
    let features = extractor.features(dataset)?;
    let places: Vec<usize> = (0..features.rows()).filter(|i| features.left_out().binary_search(i).is_err()).collect();
    if let Some(&first) = features.left_out().first() {
        let key = dataset.key(first);
        output::note(&format!("{} pictures do not decode and are left out: {key}, …", features.left_out().len()));
    }
    let keys = places.iter().map(|&place| dataset.key(place)).collect();
    let labels = dataset.tasks().iter().enumerate().map(|(number, task)| Labels {
        task: task_name(&task.name),
        classes: task.classes.clone(),
        of: places.iter().map(|&place| dataset.label(number, place)).collect(),
    });
    Ok(embedded.add(split, &features.select(&places), keys, labels.collect())?)
}
