//! One run of a study: training and evaluations, as far as they are not done.

use std::path::Path;

use anyhow::Context;
use equimod_eval::results::Results;
use equimod_train::run_dir::{RESOLVED, is_run};
use equimod_train::{Ending, RunInfo, Status, changes, recorded};

use super::file::Evaluated;
use super::progress::StudyProgress;
use super::session::{Session, Unit};
use crate::commands::eval::{measure, protocol_of};
use crate::process::device_memory;
use crate::process::exit::{self, Usage};

/// State of a run on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing yet.
    New,
    /// Training began.
    Begun,
    /// Training ended, evaluations are missing.
    Trained,
    /// Training and evaluations ended.
    Done,
    /// Training diverged.
    Diverged,
    /// Finished on another machine.
    Merged,
}

impl Stage {
    /// Whether nothing is left to do.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Diverged | Self::Merged)
    }
}

/// State of a run.
///
/// # Errors
///
/// If the folder holds a run with other settings, or one that cannot be read.
pub fn stage(session: &Session, unit: &Unit) -> anyhow::Result<Stage> {
    let folder = &unit.folder;
    if session.merged(unit).is_some() {
        return Ok(Stage::Merged);
    }
    if !is_run(folder) {
        return Ok(Stage::New);
    }
    let info = RunInfo::read(folder)?;
    check_recipe(session, unit)?;
    let evaluated = || session.plan.file.evaluations.iter().all(|one| is_done(folder, one));
    Ok(match info.status {
        Status::Diverged => Stage::Diverged,
        Status::Finished if folder.join("report.html").is_file() => {
            if evaluated() {
                Stage::Done
            } else {
                Stage::Trained
            }
        }
        _ => Stage::Begun,
    })
}

/// Refuses a run with other settings than those of its cell.
fn check_recipe(session: &Session, unit: &Unit) -> anyhow::Result<()> {
    let stored = recorded(&unit.folder.join(RESOLVED))?;
    let (planned, _) = session.recipe(unit)?;
    let value = |value: Option<String>| value.unwrap_or_else(|| "–".into());
    let changed = changes(&stored, &planned).into_iter();
    let changed: Vec<String> = changed.map(|c| format!("{} {} → {}", c.setting, value(c.from), value(c.to))).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{} was trained with other settings than the cell now has ({}); give another --out, or remove the folder",
        unit.folder.display(),
        changed.join(", ")
    );
    Err(Usage(text).into())
}

/// Folder of an evaluation's results in a run.
pub fn folder_of(run: &Path, evaluation: &Evaluated) -> std::path::PathBuf {
    run.join("eval").join(evaluation.folder())
}

/// Results of an evaluation, if they are complete.
pub fn results_of(run: &Path, evaluation: &Evaluated) -> Option<Results> {
    let bytes = std::fs::read(folder_of(run, evaluation).join("results.json")).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Whether an evaluation was made with the same arguments.
fn is_done(run: &Path, evaluation: &Evaluated) -> bool {
    let mut expected = evaluation.command("", "");
    let Some(mut results) = results_of(run, evaluation) else { return false };
    // The run's folder may have moved.
    for command in [&mut expected, &mut results.command] {
        command.pop();
        command.get_mut(MODEL).into_iter().for_each(String::clear);
    }
    results.command == expected
}

/// Place of the model among the words of an evaluation.
const MODEL: usize = 3;

/// Trains and evaluates what is left; `false` if a signal stopped it.
///
/// # Errors
///
/// If a file cannot be read or written, or an evaluation fails. A run that diverges is no error.
pub fn finish(session: &Session, unit: &Unit, progress: &StudyProgress) -> anyhow::Result<bool> {
    let stage = stage(session, unit)?;
    if stage.is_final() {
        return Ok(true);
    }
    if stage != Stage::Trained {
        match train(session, unit, stage, progress)? {
            Some(Ending::Finished) => {}
            Some(Ending::Interrupted) => return Ok(false),
            None => return Ok(true),
        }
    }
    evaluate(session, unit, progress)
}

/// Trains a run; `None` if it diverged.
fn train(session: &Session, unit: &Unit, stage: Stage, progress: &StudyProgress) -> anyhow::Result<Option<Ending>> {
    let folder = &unit.folder;
    if stage == Stage::New && folder.exists() && !folder.join("checkpoints").exists() {
        // What a run left that was killed before it began.
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let (recipe, asked) = session.recipe(unit)?;
    let setup = session.setup(recipe, asked, folder, stage == Stage::Begun, progress.watcher())?;
    device_memory::reset_peak(&session.devices[0]);
    match setup.train_quietly() {
        Ok(ending) => Ok(Some(ending)),
        Err(error) if exit::code_of(&error) == exit::DIVERGED => Ok(None),
        Err(error) => {
            let text = format!("{}: {error}", folder.display());
            Err(error.context(text))
        }
    }
}

/// Evaluates a trained run; `false` if a signal came. One that comes during an evaluation ends the process, and the
/// evaluation is repeated.
fn evaluate(session: &Session, unit: &Unit, progress: &StudyProgress) -> anyhow::Result<bool> {
    let folder = &unit.folder;
    for evaluation in session.plan.file.evaluations.iter().filter(|one| !is_done(folder, one)) {
        if session.signals.is_stopped() {
            return Ok(false);
        }
        progress.evaluating(&evaluation.line);
        let [run, out] = [folder.clone(), folder_of(folder, evaluation)].map(|path| path.display().to_string());
        let command = evaluation.parse(&run, &out, session.device()).map_err(Usage)?;
        if let Some(chosen) = protocol_of(&command)? {
            let _at_once = session.signals.end_at_once_while();
            measure(&chosen, evaluation.command(&run, &out)).map_err(|error| {
                let text = format!("{run}: {}: {error}", evaluation.line);
                error.context(text)
            })?;
        }
    }
    // Features of many runs would fill the disk.
    let _ = std::fs::remove_dir_all(folder.join("eval/features"));
    Ok(true)
}
