//! Checks of a study's evaluations against the images, before anything is trained.

use std::collections::BTreeMap;

use equimod_data::source::ReadOptions;
use equimod_eval::evaluation::check_labels;

use super::file::{ANY_RUN, Evaluated};
use super::plan::Plan;
use crate::commands::eval::{Chosen, protocol_of};
use crate::inputs::sources::OtherSources;
use crate::process::exit::Usage;
use crate::reference::plain_name;

/// Checks that the images of every evaluation, those of the runs or others that it names, have the labels that it needs.
///
/// # Errors
///
/// If images cannot be opened, or lack them.
pub fn check_evaluations(plan: &Plan) -> anyhow::Result<()> {
    let of_cell = |recipe: &equimod_train::Recipe| {
        let source = plain_name(&recipe.data.source).to_owned();
        (format!("{source} {:?}", recipe.data.reading()), (source, recipe.data.reading()))
    };
    let of_runs: BTreeMap<String, (String, ReadOptions)> =
        plan.cells.iter().map(|cell| of_cell(&cell.recipe)).collect();
    for evaluated in &plan.file.evaluations {
        let command = evaluated.parse(ANY_RUN, ANY_RUN, "cpu").map_err(Usage)?;
        let Some(chosen) = protocol_of(&command)? else { continue };
        match chosen.arguments.source.as_ref().or(chosen.arguments.images.data.as_ref()) {
            Some(named) => check(evaluated, &chosen, named, chosen.arguments.images.reading.reading())?,
            None => of_runs.values().try_for_each(|(source, options)| check(evaluated, &chosen, source, *options))?,
        }
    }
    Ok(())
}

fn check(evaluated: &Evaluated, chosen: &Chosen, source: &str, options: ReadOptions) -> anyhow::Result<()> {
    let images = &chosen.arguments.images;
    let others = OtherSources { validation: images.validation.as_deref(), test: images.test.as_deref() };
    let splits = others.splits(source, options)?;
    let labeled = splits.with_labels(&images.task).map_err(equimod_eval::Error::from);
    let checked = labeled.and_then(|splits| check_labels(chosen.protocol.needs_labels(), &splits, &images.task));
    checked.map_err(|error| Usage(format!("the evaluation {:?} cannot be used: {error}", evaluated.line)).into())
}
