//! Finished runs of other machines, taken from their `study.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use equimod_core::checkpoint::sha256;
use equimod_eval::study::{Measure, Run, State, StudyRecord};

use super::session::{Session, Unit};
use crate::outputs::console;
use crate::process::exit::Usage;

/// Name of a cell, and seed.
type Key = (String, u64);

/// Finished runs, each with the measures of its file.
#[derive(Default)]
pub struct Merged(BTreeMap<Key, (Run, Arc<Vec<Measure>>)>);

impl Merged {
    /// Takes the finished runs of a study from files `study.json`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, has other evaluations, or has a run with other settings than its cell.
    pub fn read(session: &Session, files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut merged = Self::default();
        for file in files {
            let name = file.display().to_string();
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
            let record = StudyRecord::parse(&name, &bytes)?;
            let taken = merged.take(session, &record).map_err(|problem| Usage(format!("{name}: {problem}")))?;
            console::note(&format!("{name}: {taken} finished runs taken"));
        }
        Ok(merged)
    }

    /// The finished run of a unit, and the measures of its values.
    pub fn run(&self, session: &Session, unit: &Unit) -> Option<(&Run, &[Measure])> {
        let key = (session.plan.cells[unit.cell].name.clone(), unit.seed);
        self.0.get(&key).map(|(run, measures)| (run, measures.as_slice()))
    }

    /// Takes the finished runs of a record, and counts them.
    fn take(&mut self, session: &Session, record: &StudyRecord) -> Result<usize, String> {
        let own = session.plan.file.evaluations.iter().map(|one| &one.line);
        if !own.eq(&record.evaluations) {
            return Err("its evaluations are not those of the study".into());
        }
        let (mut taken, measures) = (0, Arc::new(record.measures.clone()));
        for unit in session.units(None) {
            let name = &session.plan.cells[unit.cell].name;
            let run = record.cell(name).and_then(|cell| cell.run(unit.seed));
            let Some(run) = run.filter(|run| run.state != State::Open) else { continue };
            let (recipe, _) = session.recipe(&unit).map_err(|error| error.to_string())?;
            if run.recipe != sha256(recipe.to_toml().as_bytes()) {
                return Err(format!(
                    "{name} seed {} was trained with other settings, or from images in another folder, than the cell \
                     now has",
                    unit.seed
                ));
            }
            self.0.insert((name.clone(), unit.seed), (run.clone(), measures.clone()));
            taken += 1;
        }
        Ok(taken)
    }
}
