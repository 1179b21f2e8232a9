//! `equimod embed`.

use std::process::ExitCode;

use equimod_data::{Dataset, Splits, task_name};
use equimod_eval::embedding::{EmbeddingTable, Format, LabelColumn};
use equimod_eval::{Extractor, InputTransform};
use equimod_train::run_dir::is_run;

use crate::cli::{CropKind, Embed, EmbeddedSplit};
use crate::inputs::evaluated_data::choose;
use crate::inputs::model_argument;
use crate::inputs::sources::splits;
use crate::outputs::console;
use crate::process::device;
use crate::process::exit::Usage;
use crate::process::launch::refuse_several;

/// Computes features and writes them.
pub fn run(arguments: &Embed) -> anyhow::Result<ExitCode> {
    refuse_several("embed")?;
    let format = Format::of(&arguments.out).map_err(|error| Usage(error.to_string()))?;
    let devices = device::open_all(&arguments.device.device)?;
    let named = arguments.source.as_deref().or(arguments.data.as_deref());
    model_argument::check_order(&arguments.model, named)?;
    let (model, copies) = model_argument::open_on(&arguments.model, &devices)?;
    let data = choose(&arguments.model, named, arguments.reading.reading())?;
    console::note(&data.describe());
    let splits = data.explain(splits(&data.source, data.options))?;
    data.check(&splits)?;
    data.ignored_transparency(&splits).iter().for_each(|text| console::note(text));
    let run = is_run(&arguments.model).then(|| arguments.model.join("eval/features"));
    let cache = arguments.cache.clone().or(run);
    let crop = arguments.input.crop.unwrap_or(CropKind::Center).into();
    let input = InputTransform::of(&model, arguments.input.size, crop)?;
    let extractor = Extractor::new(&model, cache.as_deref()).with_copies(&copies).with_input(input);
    let mut table = EmbeddingTable::default();
    for (name, dataset) in chosen(&splits, &arguments.split) {
        add(&mut table, name, dataset, &extractor)?;
    }
    table.write(&arguments.out, format)?;
    let (rows, columns) = (table.rows(), table.features.columns());
    console::result(&format!("{rows} images, {columns} features each: {}", arguments.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The selected splits that the data set has.
fn chosen<'a>(splits: &'a Splits, wanted: &[EmbeddedSplit]) -> Vec<(&'static str, &'a dyn Dataset)> {
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

/// Adds the images of a split that decode.
fn add(table: &mut EmbeddingTable, split: &str, dataset: &dyn Dataset, extractor: &Extractor) -> anyhow::Result<()> {
    let features = extractor.features(dataset)?;
    let indices = features.decoded();
    features.undecoded_text(dataset).iter().for_each(|text| console::note(text));
    let keys = indices.iter().map(|&index| dataset.key(index)).collect();
    let labels = dataset.tasks().iter().enumerate().map(|(number, task)| LabelColumn {
        task: task_name(&task.name),
        classes: task.classes.clone(),
        labels: indices.iter().map(|&index| dataset.label(number, index)).collect(),
    });
    Ok(table.add(split, &features.select(&indices), keys, labels.collect())?)
}
