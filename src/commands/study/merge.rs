//! Reading of finished runs of other machines from their `study.json`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use equimod_eval::study::{State, StudyRecord};

use super::merged::Merged;
use super::session::Session;
use crate::outputs::console;
use crate::process::exit::Usage;

/// The finished runs of a study in files `study.json`.
///
/// # Errors
///
/// If a file cannot be read, has other evaluations, or has a run with other settings than its cell.
pub fn merge(session: &Session, files: &[PathBuf]) -> anyhow::Result<Merged> {
    let mut merged = Merged::default();
    for file in files {
        let name = file.display().to_string();
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
        let record = StudyRecord::parse(&name, &bytes)?;
        let taken = take(session, &record, &mut merged).map_err(|problem| Usage(format!("{name}: {problem}")))?;
        console::note(&format!("{name}: {taken} finished runs taken"));
    }
    Ok(merged)
}

/// Takes the finished runs of a record, and counts them.
fn take(session: &Session, record: &StudyRecord, merged: &mut Merged) -> Result<usize, String> {
    let own = session.plan.file.evaluations.iter().map(|one| &one.line);
    if !own.eq(&record.evaluations) {
        return Err("its evaluations are not those of the study".into());
    }
    let (mut taken, measures) = (0, Arc::new(record.measures.clone()));
    for unit in session.units(None) {
        let name = &session.plan.cells[unit.cell].name;
        let run = record.cell(name).and_then(|cell| cell.run(unit.seed));
        let Some(run) = run.filter(|run| run.state != State::Open) else { continue };
        if run.recipe != session.recipe_hash(&unit).map_err(|error| error.to_string())? {
            return Err(format!(
                "{name} seed {} was trained with other settings, or from images in another folder, than the cell now \
                 has",
                unit.seed
            ));
        }
        merged.insert(name, run, &measures);
        taken += 1;
    }
    Ok(taken)
}
