//! Runs of the same recipe with other seeds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use equimod_train::run_dir::RESOLVED;
use equimod_train::{Recipe, RunInfo, Status, decisive, recorded};

use super::baseline;

/// The baseline of a run and the run, followed by those of its recipe with other seeds: the pairs of a comparison. Runs
/// without a finished baseline are left out.
pub fn pairs(run: &Path) -> Vec<PathBuf> {
    let pair = |run: PathBuf| Some([baseline::finished(&run)?, run]);
    std::iter::once(run.to_owned()).chain(other_seeds(run)).filter_map(pair).flatten().collect()
}

/// A remark on a comparison of `pairs`: over how many seeds it tests.
pub fn tested(pairs: &[PathBuf]) -> String {
    format!("tested over {} seeds", pairs.len() / 2)
}

/// Two runs, followed by the pairs of their recipes with other seeds that both were trained with.
fn matched([first, second]: [&Path; 2]) -> Vec<PathBuf> {
    let seed = |run: &Path| RunInfo::read(run).ok().map(|info| info.seed);
    let others = other_seeds(second);
    let pair = |run: PathBuf| {
        let other = others.iter().find(|other| seed(other) == seed(&run))?;
        Some([run, other.clone()])
    };
    let pairs = other_seeds(first).into_iter().filter_map(pair);
    std::iter::once([first.to_owned(), second.to_owned()]).chain(pairs).flatten().collect()
}

/// Two runs and the pairs of their recipes with other seeds: of a run and its baseline, all such pairs.
pub fn with_others([first, second]: [&Path; 2]) -> Vec<PathBuf> {
    let is_of = |run: &Path, other: &Path| baseline::finished(run).is_some_and(|baseline| baseline == other);
    match (is_of(first, second), is_of(second, first)) {
        (true, _) => pairs(first),
        (_, true) => pairs(second),
        _ => matched([first, second]),
    }
}

/// Whether two runs differ in their seeds alone.
pub fn differ_in_seed_alone([first, second]: [&Path; 2]) -> bool {
    let runs = Finished::read(first).zip(Finished::read(second));
    runs.is_some_and(|(first, second)| first.differs_in_seed_alone(&second))
}

/// The seeds with which two recipes are to be trained for another pair of runs: of the first, of the second or of both.
pub fn missing(runs: [&Path; 2]) -> [Option<u64>; 2] {
    let seeds = |run: &Path| -> BTreeSet<u64> {
        std::iter::once(run.to_owned())
            .chain(other_seeds(run))
            .filter_map(|run| Some(RunInfo::read(&run).ok()?.seed))
            .collect()
    };
    let [first, second] = runs.map(seeds);
    match (second.difference(&first).next(), first.difference(&second).next()) {
        (Some(seed), _) => [Some(*seed), None],
        (None, Some(seed)) => [None, Some(*seed)],
        (None, None) => [Some(next_seed(runs)); 2],
    }
}

/// The next seed that none of the runs, and of their recipe's other runs, has.
pub fn next_seed<'a>(runs: impl IntoIterator<Item = &'a Path>) -> u64 {
    let with_others = runs.into_iter().flat_map(|run| std::iter::once(run.to_owned()).chain(other_seeds(run)));
    let seeds = with_others.filter_map(|run| RunInfo::read(&run).ok()).map(|info| info.seed);
    seeds.max().map_or(0, |seed| seed + 1)
}

/// The finished runs beside `run` that have its recipe and images and another seed, by their seeds; one of each seed.
fn other_seeds(run: &Path) -> Vec<PathBuf> {
    let others = beside(run, Finished::differs_in_seed_alone);
    let mut found: Vec<(u64, PathBuf)> = others.into_iter().map(|(other, path)| (other.info.seed, path)).collect();
    found.sort();
    found.dedup_by_key(|(seed, _)| *seed);
    found.into_iter().map(|(_, path)| path).collect()
}

/// The finished runs in the folder of `run` for which `is_wanted` holds beside it.
pub(super) fn beside(run: &Path, is_wanted: fn(&Finished, &Finished) -> bool) -> Vec<(Finished, PathBuf)> {
    let (Some(own), Some(folder)) = (Finished::read(run), run.parent()) else { return Vec::new() };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // With the path as it was given: `out/a` beside `out/b`, and `a` beside `b`.
    let paths = entries.map(|entry| run.with_file_name(entry.file_name()));
    let runs = paths.filter_map(|path| Some((Finished::read(&path)?, path)));
    runs.filter(|(other, _)| is_wanted(&own, other)).collect()
}

/// Whether two recipes differ at most in their seeds, in the place of the images and in settings that affect no weight.
pub fn have_one_recipe(one: &Recipe, other: &Recipe) -> bool {
    differ_at_most_in(one, other, &[])
}

fn differ_at_most_in(one: &Recipe, other: &Recipe, settings: &[&str]) -> bool {
    decisive(one, other).iter().all(|name| name == "seed" || settings.contains(&name.as_str()))
}

/// A finished run.
pub(super) struct Finished {
    pub(super) info: RunInfo,
    pub(super) recipe: Recipe,
}

impl Finished {
    /// The run in a folder; `None` if there is none, or it is not finished.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let info = RunInfo::read(folder).ok().filter(|info| info.status == Status::Finished)?;
        Some(Self { info, recipe: recorded(&folder.join(RESOLVED)).ok()? })
    }

    fn differs_in_seed_alone(&self, other: &Self) -> bool {
        self.info.seed != other.info.seed && self.differs_in(other, &[])
    }

    /// Whether two runs on the same images, from the same weights, differ at most in their seeds, these settings and those
    /// that affect no weight.
    pub(super) fn differs_in(&self, other: &Self, settings: &[&str]) -> bool {
        self.info.data_fingerprint == other.info.data_fingerprint
            && self.info.from == other.info.from
            && differ_at_most_in(&self.recipe, &other.recipe, settings)
    }
}
