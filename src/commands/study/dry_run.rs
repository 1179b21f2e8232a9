//! `study --dry-run`: the cells with their cost.

use std::time::Duration;

use equimod_eval::results::aligned;

use super::session::Session;
use super::work::stage;
use crate::cli::Shard;
use crate::outputs::console::{self, duration};
use crate::run::forecast::forecast;

/// Prints the cells with parameters, steps, FLOPs and the forecast time of a run, and that of the whole study.
///
/// # Errors
///
/// If a step fails, or a folder holds a run with other settings.
pub fn dry_run(session: &Session, shard: Option<Shard>) -> anyhow::Result<()> {
    let (plan, ranks) = (&session.plan, session.devices.len());
    let threads = (rayon::current_num_threads() / ranks).max(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let counting = console::Count::new("forecasts", plan.cells.len());
    let (mut rows, mut each) = (Vec::new(), Vec::new());
    for (number, (cell, size)) in plan.cells.iter().zip(&session.sizes).enumerate() {
        let trainer = session.trainer(cell)?;
        let (recipe, parameters) = (&cell.recipe, trainer.parameters());
        let cost = pool.install(|| forecast(recipe, parameters, ranks))?;
        let time = cost.time.mul_f64(size.steps as f64);
        let others = cell.baselines.iter().filter(|&&other| other != number);
        let baselines: Vec<&str> = others.map(|&other| plan.cells[other].name.as_str()).collect();
        rows.push(vec![
            cell.name.clone(),
            if baselines.is_empty() { "–".into() } else { baselines.join(", ") },
            size.images.clone(),
            size.parameters.to_string(),
            cell.recipe.schedule.epochs.to_string(),
            size.steps.to_string(),
            size.flops.map_or_else(|| "–".into(), |flops| format!("{:.2e}", flops * size.steps as f64)),
            duration(time),
        ]);
        each.push(time);
        counting.set(number as u64 + 1);
    }
    counting.finish();
    let headings = ["cell", "compared with", "images", "parameters", "epochs", "steps", "FLOPs", "time"];
    console::result(&aligned(&headings.map(str::to_owned), &rows))?;
    let mut left = Duration::ZERO;
    let (units, mut done) = (session.units(shard), 0);
    for unit in &units {
        match stage(session, unit)?.is_final() {
            true => done += 1,
            false => left += each[unit.cell],
        }
    }
    console::result(&format!(
        "{} cells × {} seeds{} = {} runs, {done} of them done; training takes about {} for the others on this machine's \
         CPU, loading and evaluations aside; matched by {}",
        plan.cells.len(),
        plan.file.seeds.len(),
        shard.map_or_else(String::new, |Shard { part, parts }| format!(", part {part} of {parts}")),
        units.len(),
        duration(left),
        plan.file.matched_by.name(),
    ))
}
