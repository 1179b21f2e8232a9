//! Parts of the training loop that concern all processes of a run.

use equimod_core::agreement::{gather_bytes, same_on_all};
use equimod_data::Skipped;

use crate::recipe::Recipe;
use crate::run_dir::RunDirectory;
use crate::speed::{Shares, Slowest, Speed};
use crate::trainer::Trainer;
use crate::{Error, Result};

impl Trainer {
    /// Waits until all processes are here, for as long as the work of the first one takes.
    pub(crate) fn wait_for_all(&self) -> Result<()> {
        Ok(self.context.collective.wait_for_all().map_err(equimod_core::Error::from)?)
    }

    /// Checks that all processes start the same step of the same run.
    ///
    /// # Errors
    ///
    /// If they differ, or a process does not take part.
    pub fn check_start(&self) -> Result<()> {
        if self.context.collective.size() == 1 {
            return Ok(());
        }
        self.wait_for_all()?;
        let (seed, step) = (self.recipe.seed.to_string(), self.step.to_string());
        // The same images may have another path on another host, which is also a part of the description.
        let mut recipe = Recipe { seed: 0, about: String::new(), ..self.recipe.clone() };
        (recipe.data.source, recipe.probe.data) = (String::new(), String::new());
        let facts = [
            ("version", self.context.version.as_str()),
            ("seed", &seed),
            ("data set", &self.fingerprint),
            ("recipe", &recipe.to_toml()),
            ("checkpoint", &step),
        ];
        Ok(same_on_all(&facts, self.context.collective.as_ref())?)
    }

    /// Finds the slowest process over the most recent steps, and over all.
    pub(crate) fn find_slowest(&mut self, speed: &Speed) -> Result<()> {
        if self.context.collective.size() == 1 {
            return Ok(());
        }
        let [recent, overall] = [speed.recent().shares, speed.overall().shares];
        let own = [recent.data, recent.exchange, overall.data, overall.exchange].map(f64::to_le_bytes).concat();
        let all = gather_bytes(&own, self.context.collective.as_ref())?;
        let of = |place: usize| {
            let shares = |bytes: &Vec<u8>| {
                let value = |at: usize| bytes.chunks_exact(8).nth(at).and_then(|b| b.try_into().ok());
                let [data, exchange] = [place, place + 1].map(|at| value(at).map_or(0.0, f64::from_le_bytes));
                Shares { data, exchange, ..Shares::default() }
            };
            Slowest::of(&all.iter().map(shares).collect::<Vec<_>>())
        };
        self.pace.slowest = of(2);
        if let Some(report) = self.pending.newest() {
            report.pace.slowest = of(0);
        }
        Ok(())
    }

    /// Counts the images that were skipped on any process, and lists them in the run directory.
    pub(crate) fn note_skipped(&mut self, run: &RunDirectory, own: Vec<Skipped>) -> Result<()> {
        let collective = self.context.collective.clone();
        if collective.size() == 1 {
            return run.note_skipped(&own, &mut self.skipped);
        }
        let bytes = serde_json::to_vec(&own).map_err(|e| Error::RunDirectory(e.to_string()))?;
        let mut all = Vec::new();
        for (rank, bytes) in gather_bytes(&bytes, collective.as_ref())?.into_iter().enumerate() {
            let of_rank: Vec<Skipped> =
                serde_json::from_slice(&bytes).map_err(|e| Error::DataSet(format!("process {rank}: {e}")))?;
            if rank != collective.rank() {
                self.loader.count_skipped(&of_rank)?;
            }
            all.extend(of_rank);
        }
        if collective.is_first() { run.note_skipped(&all, &mut self.skipped) } else { Ok(()) }
    }
}
