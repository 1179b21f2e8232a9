//! Finished runs of other machines.

use std::collections::BTreeMap;
use std::sync::Arc;

use equimod_eval::study::{Measure, Run};

/// Name of a cell, and seed.
type Key = (String, u64);

/// Finished runs, each with the measures of its file.
#[derive(Default)]
pub struct Merged(BTreeMap<Key, (Run, Arc<Vec<Measure>>)>);

impl Merged {
    /// Adds the run of a cell, whose values are those of `measures`.
    pub fn insert(&mut self, cell: &str, run: &Run, measures: &Arc<Vec<Measure>>) {
        self.0.insert((cell.to_owned(), run.seed), (run.clone(), measures.clone()));
    }

    /// The run of a cell with a seed, and the measures of its values.
    pub fn run(&self, cell: &str, seed: u64) -> Option<(&Run, &[Measure])> {
        self.0.get(&(cell.to_owned(), seed)).map(|(run, measures)| (run, measures.as_slice()))
    }
}
