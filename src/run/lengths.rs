//! Runs of the same recipe and seed with another number of epochs.

use std::path::{Path, PathBuf};

use super::seeds::{Finished, beside};

/// Settings of the length of training.
const LENGTH: [&str; 2] = ["schedule.epochs", "schedule.warmup_epochs"];

/// The shortest finished run beside `run` that differs from it in being longer alone.
pub fn longer(run: &Path) -> Option<PathBuf> {
    let own = Finished::read(run)?.recipe.schedule.epochs;
    others(run).into_iter().find(|(epochs, _)| *epochs > own).map(|(_, path)| path)
}

/// The longest finished run beside `run` that differs from it in being shorter alone.
pub fn shorter(run: &Path) -> Option<PathBuf> {
    let own = Finished::read(run)?.recipe.schedule.epochs;
    others(run).into_iter().rev().find(|(epochs, _)| *epochs < own).map(|(_, path)| path)
}

/// Whether the second of two runs differs from the first in being longer alone.
pub fn is_longer([first, second]: [&Path; 2]) -> bool {
    let runs = Finished::read(first).zip(Finished::read(second));
    runs.is_some_and(|(first, second)| {
        is_alike(&first, &second) && second.recipe.schedule.epochs > first.recipe.schedule.epochs
    })
}

fn is_alike(one: &Finished, other: &Finished) -> bool {
    one.info.seed == other.info.seed && one.differs_in(other, &LENGTH)
}

/// Finished runs of other lengths with their epochs, from the shortest.
fn others(run: &Path) -> Vec<(u64, PathBuf)> {
    let mut found: Vec<(u64, PathBuf)> =
        beside(run, is_alike).into_iter().map(|(other, path)| (other.recipe.schedule.epochs, path)).collect();
    found.sort();
    found
}
