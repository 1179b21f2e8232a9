//! `equimod pretrain`.

mod baseline;
mod dry_run;
mod finished;
mod session;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::bundled::RECIPES;
use crate::recipes::{as_comments, base, named, unchecked_text};
use anyhow::Context;
use candle_core::Device;
use equimod_data::Dataset;
use equimod_data::source::ReadOptions;
use equimod_train::run_dir::{RESOLVED, is_run};
use equimod_train::{Ending, Recipe, RunInfo, StepReport, changes, decisive, recorded, resolve};

use crate::choice::named_or_chosen;
use crate::cli::{BUNDLED, Pretrain};
use crate::inputs::channels::{blank, transparent};
use crate::inputs::evaluated_data::found;
use crate::inputs::sources::training;
use crate::outputs::console;
use crate::process::exit;
use crate::process::exit::Usage;
use crate::process::launch::Launch;
use crate::process::signals::Signals;
use crate::run::again;
use crate::run::baseline::{finished, was_asked_for};
use baseline::Baseline;
use finished::Finished;
use session::Trained;
pub use session::next_folder;

/// Everything that the ranks of a run share.
pub struct Setup {
    /// Arguments, of which the run uses those that are not in the recipe.
    pub arguments: Pretrain,
    /// This process and those that were started with it, each with the same number of ranks.
    pub launch: Launch,
    /// Device of each rank of this process.
    pub devices: Vec<Device>,
    /// Resolved recipe.
    pub recipe: Recipe,
    /// Text of the recipe as it was given.
    pub asked: String,
    /// Training images.
    pub dataset: Arc<dyn Dataset>,
    /// Flag that stops the run after the current step.
    pub stop: Arc<AtomicBool>,
    /// Receiver of steps in place of the terminal, which then stays silent.
    pub watcher: Option<Watcher>,
    /// Whether it is the baseline of another run, whose settings were printed.
    pub is_baseline: bool,
}

/// A receiver of the steps of a run.
pub type Watcher = Arc<dyn Fn(&StepReport) + Send + Sync>;

/// Trains, evaluates and reports, together with other processes if a launcher started any.
pub fn run(arguments: &Pretrain, verbose: bool) -> anyhow::Result<ExitCode> {
    let launch = Launch::join()?;
    launch.run(verbose, || run_rank(arguments, &launch))
}

/// Does the part of this process.
fn run_rank(arguments: &Pretrain, launch: &Launch) -> anyhow::Result<ExitCode> {
    if !launch.is_first() {
        console::be_silent();
    }
    let arguments = &with_baseline_of_run(arguments);
    let devices = launch.devices(&arguments.device.device)?;
    let (mut recipe, asked) = recipe(arguments, launch, &devices)?;
    let file = match (&arguments.out, &arguments.recipe.recipe) {
        (Some(run), _) if arguments.resume => run.join(RESOLVED),
        (_, named) => named.as_deref().unwrap_or_default().into(),
    };
    // A source on the command line is one of the present folder.
    let is_given = arguments.recipe.settings().iter().any(|setting| setting.starts_with("data.source"));
    if !is_given {
        recipe.data.source = found(recipe.data.source, &file);
    }
    recipe.execution = recipe.execution.on(&devices[0]);
    let (dataset, source) = match training(&recipe.data.source, reading(&recipe)) {
        Err(error) if arguments.dry_run && launch.is_first() => {
            // The recipe can be printed nevertheless.
            console::result(&recipe.to_toml())?;
            return Err(error);
        }
        Err(error) if arguments.resume && !is_given => {
            let text = format!("{error}; if the images of the run moved, give --data with their new place");
            return Err(error.context(text));
        }
        opened => opened?,
    };
    recipe.data.source = source;
    if launch.is_first() {
        warn_of_transparency(arguments, &recipe, dataset.as_ref());
    }
    let signals = Signals::default();
    let (arguments, launch, stop) = (arguments.clone(), launch.clone(), signals.stop.clone());
    let setup =
        Arc::new(Setup { arguments, launch, devices, recipe, asked, dataset, stop, watcher: None, is_baseline: false });
    setup.check_baseline()?;
    if setup.arguments.dry_run {
        return if setup.launch.is_first() { setup.dry_run() } else { Ok(ExitCode::SUCCESS) };
    }
    signals.listen()?;
    let (ending, trained) = setup.train()?;
    if ending == Ending::Interrupted {
        trained.iter().for_each(|trained| trained.say_how_to_go_on(&setup.arguments));
        return Ok(ExitCode::from(exit::INTERRUPTED));
    }
    let Some(Trained { run, info, trainer, cost, .. }) = trained else { return Ok(ExitCode::SUCCESS) };
    let baseline = match setup.train_baseline(run.path())? {
        Baseline::Interrupted => return Ok(ExitCode::from(exit::INTERRUPTED)),
        Baseline::Trained(folder) => Some(folder),
        Baseline::None => None,
    };
    // The remaining work can be repeated with --resume.
    signals.end_at_once();
    let (recipe, dataset) = (&setup.recipe, setup.dataset.as_ref());
    let finished = Finished { run: &run, info: &info, recipe, dataset, trainer: &trainer, baseline };
    finished.report(&setup.arguments, &setup.devices[0], cost)?;
    Ok(ExitCode::SUCCESS)
}

impl Setup {
    /// Trains as a part of something larger, which evaluates: writes the run directory, and prints nothing.
    ///
    /// # Errors
    ///
    /// If training fails or a file cannot be written.
    pub fn train_quietly(self: &Arc<Self>) -> anyhow::Result<Ending> {
        let (ending, trained) = self.train()?;
        if let (Ending::Finished, Some(Trained { run, info, trainer, cost, .. })) = (ending, trained) {
            let (recipe, dataset) = (&self.recipe, self.dataset.as_ref());
            let (trainer, baseline) = (&trainer, None);
            let finished = Finished { run: &run, info: &info, recipe, dataset, trainer, baseline };
            finished.write(false, &self.devices[0], cost)?;
        }
        Ok(ending)
    }

    /// Settings in which the recipe differs from the one that it builds on; where they were chosen, what says why.
    fn difference(&self) -> String {
        let recipe = &self.arguments.recipe;
        match recipe.without_recipe() {
            Some(_) if recipe.settings().len() > 1 || self.arguments.epochs.is_some() => {
                "`recipe.toml` of the run directory gives the reason for each chosen setting".into()
            }
            Some(source) => {
                format!("`equimod init {source}` writes these settings to a file, each with its reason")
            }
            None => difference(recipe.name(), &self.recipe),
        }
    }

    /// Prints a message, unless the run has a watcher.
    fn note(&self, text: &str) {
        if self.watcher.is_none() {
            console::note(text);
        }
    }
}

/// The arguments with the baseline for which a run that is resumed was begun.
fn with_baseline_of_run(arguments: &Pretrain) -> Pretrain {
    let Pretrain { out, resume, no_baseline, no_eval, .. } = arguments;
    let begun = || out.as_deref().and_then(|run| RunInfo::read(run).ok());
    let has_it = *resume && !no_baseline && begun().is_some_and(|info| was_asked_for(&info));
    let is_open = || out.as_deref().is_some_and(|run| finished(run).is_none());
    if has_it && *no_eval && is_open() {
        console::note("--no-eval leaves out the baseline with which the run was begun; --resume --baseline trains it");
    }
    let has_it = has_it && !no_eval;
    Pretrain { baseline: arguments.baseline || has_it, ..arguments.clone() }
}

/// The run directory that is resumed.
fn resumed(arguments: &Pretrain) -> anyhow::Result<&Path> {
    arguments.out.as_deref().ok_or_else(|| {
        // A folder of images is no run.
        let could_be = |source: &&str| is_run(Path::new(source)) || !Path::new(source).exists();
        let run = arguments.recipe.source.as_deref().filter(could_be).unwrap_or("RUN");
        Usage(format!("--resume goes on with the run that --out names: equimod pretrain --out {run} --resume")).into()
    })
}

/// Resolved recipe, and its text as it was given.
fn recipe(arguments: &Pretrain, launch: &Launch, devices: &[Device]) -> anyhow::Result<(Recipe, String)> {
    let mut settings = arguments.recipe.settings();
    settings.extend(arguments.seed.iter().map(|seed| format!("seed={seed}")));
    let shortened = arguments.epochs.filter(|_| !arguments.resume).and_then(|epochs| shorter_warmup(arguments, epochs));
    settings.extend(shortened);
    settings.extend(arguments.epochs.iter().map(|epochs| format!("schedule.epochs={epochs}")));
    if arguments.resume {
        let out = resumed(arguments)?;
        if is_run(out) {
            RunInfo::read(out)?;
        }
        let path = out.join(RESOLVED);
        let read = |path: &Path| std::fs::read_to_string(path);
        let text =
            read(&path).with_context(|| format!("there is no run to go on with: {} cannot be read", path.display()))?;
        let asked = read(&out.join("recipe.toml")).unwrap_or_default() + &as_comments(&settings);
        let name = path.display().to_string();
        let resolved = resolve(&RECIPES, &name, &text, &settings).map_err(|error| {
            // What contradicts what matters only where settings may change.
            let changed = recorded(&path).ok().zip(unchecked_text(&name, &text, &settings).ok());
            match changed.map(|(before, now)| decisive(&before, &now)).filter(|changed| !changed.is_empty()) {
                Some(changed) => Usage(kept(out, &changed)).into(),
                None => anyhow::Error::from(error),
            }
        });
        return Ok((resolved?, asked));
    }
    named_or_chosen(&arguments.recipe, &settings, devices, launch.processes())
}

/// Message on settings that a resumed run keeps.
fn kept(run: &Path, changed: &[String]) -> String {
    let run = run.display();
    format!(
        "a resumed run keeps its settings, but these differ: {}; begin a new run with --recipe {run}/{RESOLVED} --from {run} \
         and these settings",
        changed.join(", ")
    )
}

/// The warm-up of a run of so few `epochs` that the warm-up of its recipe would take much of it, unless the command names
/// one.
fn shorter_warmup(arguments: &Pretrain, epochs: u64) -> Option<String> {
    let (arguments, name) = (&arguments.recipe, "schedule.warmup_epochs");
    let is_named = arguments.settings.iter().any(|setting| setting.starts_with(name));
    let has_recipe = arguments.without_recipe().is_none();
    let (recipe, _) = named(arguments.name(), &arguments.settings()).ok().filter(|_| has_recipe && !is_named)?;
    let (whole, shorter) = (recipe.schedule.warmup_epochs, again::shorter_warmup(&recipe.schedule, epochs)?);
    console::note(&format!("the warm-up of {whole} epochs becomes {shorter}, because the run has {epochs}"));
    Some(format!("{name}={shorter:?}"))
}

/// Says that some images have transparent pixels, whose color nobody sees, where a recipe does not say what is behind
/// them. A recipe that is chosen for the images does.
fn warn_of_transparency(arguments: &Pretrain, recipe: &Recipe, dataset: &dyn Dataset) {
    let is_chosen = arguments.recipe.without_recipe().is_some();
    let asked = arguments.recipe.settings.iter().any(|setting| setting.starts_with("data.background"));
    let is_new = !arguments.resume && recipe.data.source != BUNDLED;
    if let Some(seen) = blank(dataset, recipe.data.background).filter(|_| is_new) {
        console::note(&format!("{seen}; set another data.background, e.g. --set data.background=gray"));
        return;
    }
    if is_chosen || asked || !is_new || recipe.data.background.0.is_some() {
        return;
    }
    if let Some(seen) = transparent(dataset) {
        console::note(&format!(
            "{seen}, and the recipe ignores transparency, so that these usually become black; --set data.background=white \
             puts them on white"
        ));
    }
}

/// Options for reading the recipe's images.
fn reading(recipe: &Recipe) -> ReadOptions {
    recipe.data.reading()
}

/// Settings in which the recipe differs from that of the run whose file `name` is, or else from the built-in one that it
/// builds on.
fn difference(name: &str, recipe: &Recipe) -> String {
    let run = Path::new(name).file_name().filter(|file| *file == RESOLVED).and(Path::new(name).parent());
    let of_run = run.and_then(|run| Some((run.display().to_string(), recorded(Path::new(name)).ok()?)));
    let Some((base, original)) = of_run.or_else(|| base(name).ok()) else { return String::new() };
    let changes = changes(&original, recipe);
    if changes.is_empty() {
        return format!("every setting is as in {base}");
    }
    let value = |value: Option<String>| value.unwrap_or_else(|| "–".into());
    let lines = changes.into_iter().map(|c| format!("\n  {}: {} → {}", c.setting, value(c.from), value(c.to)));
    format!("settings that differ from {base}:{}", lines.collect::<String>())
}
