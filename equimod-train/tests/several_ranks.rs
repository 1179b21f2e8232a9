//! Runs of several ranks as threads, through the public API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use candle_core::Device;
use equimod_core::checkpoint::read_folder;
use equimod_core::optim::Weight;
use equimod_core::{
    EquivarianceModule, FailureCause, NamedModule, Needs, RankFailure, RankThreads, SharedCollective, StepContext,
    Term, run_ranks,
};
use equimod_data::dataset::MemoryDataset;
use equimod_data::{Dataset, Image, Size, Task};
use equimod_train::{Ending, Error, JsonLines, Recipe, Result, RunDirectory, Sink, TrainContext, Trainer, resolve};

const RECIPE: &str = r#"
data = { batch = 16 }
backbone = { width = 4 }
augmentation = { size = 16 }
objective = { kind = "simclr", projection_head = "16-8 bn-" }
equivariance.equimod = { projection_head = "16-8 bn-", parameter_head = "6 bn", predictor = "8 bn-" }
optimizer = { kind = "sgd" }
schedule = { epochs = 2, warmup_epochs = 0, learning_rate = 1e-4 }
checkpoint = { every_epochs = 1 }
execution = { timeout = 60 }
"#;
/// Four batches in an epoch, and some images that are dropped.
const IMAGES: usize = 70;

fn recipe(settings: &[&str]) -> Recipe {
    let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
    resolve(&[], "the test", RECIPE, &settings).unwrap()
}

fn images() -> MemoryDataset {
    let image = |i: usize| {
        let value = |k: usize| ((k * (i + 3) + i * i * 7) % 251) as u8;
        Image::new(Size::square(18), (0..18 * 18 * 3).map(value).collect()).unwrap()
    };
    MemoryDataset::new("noise", (0..IMAGES).map(image).collect()).unwrap()
}

/// Images of which some do not decode.
struct Damaged(MemoryDataset, Vec<usize>);

impl Dataset for Damaged {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn image(&self, index: usize) -> equimod_data::Result<Image> {
        match self.1.contains(&index) {
            true => Err(equimod_data::Error::Image { key: index.to_string(), reason: "it is damaged".into() }),
            false => self.0.image(index),
        }
    }

    fn key(&self, index: usize) -> String {
        self.0.key(index)
    }

    fn fingerprint(&self) -> equimod_data::Result<String> {
        self.0.fingerprint()
    }

    fn size(&self, index: usize) -> equimod_data::Result<Size> {
        self.0.size(index)
    }

    fn tasks(&self) -> &[Task] {
        self.0.tasks()
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        self.0.label(task, index)
    }
}

/// A run in a folder, which each rank opens for itself.
#[derive(Clone)]
struct Run {
    folder: PathBuf,
    recipe: Recipe,
    dataset: Arc<dyn Dataset>,
    resume: bool,
    /// Step at whose forward pass rank 1 panics.
    panics_at: Option<usize>,
    stop: Arc<AtomicBool>,
}

impl Run {
    fn new(folder: &Path, recipe: Recipe) -> Self {
        let (folder, dataset, stop) = (folder.to_path_buf(), Arc::new(images()), Arc::default());
        Self { folder, recipe, dataset, resume: false, panics_at: None, stop }
    }

    fn on(&self, ranks: usize) -> std::result::Result<Vec<(Ending, u64)>, RankFailure<Error>> {
        let timeout = Duration::from_secs(self.recipe.execution.timeout);
        let run = self.clone();
        run_ranks(RankThreads { ranks, threads: 1, timeout }, move |collective| run.rank(collective))
    }

    fn rank(&self, collective: SharedCollective) -> Result<(Ending, u64)> {
        let (is_first, rank) = (collective.is_first(), collective.rank());
        let stop = self.stop.clone();
        let context =
            TrainContext { collective: collective.clone(), stop, ..TrainContext::alone(Device::Cpu, 1, "test") };
        let fragile = Fragile { panics_at: self.panics_at.filter(|_| rank == 1), steps: AtomicUsize::new(0) };
        let fragile = std::cell::Cell::new(Some(fragile));
        let mut trainer = Trainer::with_modules(self.recipe.clone(), self.dataset.clone(), context, &|_, _| {
            let module = Box::new(fragile.take().unwrap());
            Ok(vec![NamedModule { name: "fragile".into(), weight: Weight::Fixed(0.0), module }])
        })?;
        let run = match (is_first, self.resume) {
            (true, true) => RunDirectory::open(&self.folder)?.0,
            (true, false) => RunDirectory::create(&self.folder, &trainer.info(), RECIPE, &self.recipe)?,
            (false, _) => RunDirectory::of_first(&self.folder),
        };
        if self.resume {
            trainer.resume(&run)?;
            assert!(trainer.step() > 0);
        }
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if is_first {
            run.cut_metrics(trainer.step())?;
            sinks.push(Box::new(JsonLines::open(&self.folder.join("metrics.jsonl"))?));
        }
        let ending = trainer.run(&run, &mut sinks, None)?;
        Ok((ending, trainer.step()))
    }

    fn metrics(&self) -> Vec<BTreeMap<String, f64>> {
        let text = std::fs::read_to_string(self.folder.join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn checkpoint(&self) -> PathBuf {
        let folder = self.folder.join("checkpoints");
        folder.join(std::fs::read_to_string(folder.join("latest")).unwrap())
    }
}

/// A module that changes nothing, and panics at a step.
struct Fragile {
    panics_at: Option<usize>,
    steps: AtomicUsize,
}

impl EquivarianceModule for Fragile {
    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn forward(&self, step: &StepContext) -> equimod_core::Result<Term> {
        let number = self.steps.fetch_add(1, Ordering::SeqCst);
        assert!(Some(number) != self.panics_at, "a deliberate panic");
        Ok(Term { loss: step.pooled.detach().sum_all()?.zeros_like()?, metrics: Vec::new() })
    }
}

fn assert_close(case: &str, want: &[BTreeMap<String, f64>], got: &[BTreeMap<String, f64>]) {
    assert_eq!(want.len(), got.len(), "{case}");
    for (want, got) in want.iter().zip(got) {
        assert_eq!(want.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>(), "{case}");
        for (name, want) in want {
            // The norm is of gradients, whose rounding errors batch norm of few values amplifies.
            let tolerance = if name == "gradient_norm" { 1e-3 } else { 1e-5 };
            let off = (want - got[name]).abs() / want.abs().max(0.1);
            assert!(off <= tolerance, "{case}: {name} is {want} and {}", got[name]);
        }
    }
}

#[test]
fn any_number_of_ranks_trains_the_same_run_and_resumes_it() {
    let scratch = tempfile::tempdir().unwrap();
    let alone = Run::new(&scratch.path().join("1"), recipe(&[]));
    assert_eq!(alone.on(1).unwrap(), [(Ending::Finished, 8)]);
    let want = alone.metrics();
    assert_eq!(want.len(), 8);
    for ranks in [2, 4] {
        let run = Run::new(&scratch.path().join(ranks.to_string()), recipe(&[]));
        assert_eq!(run.on(ranks).unwrap(), vec![(Ending::Finished, 8); ranks]);
        assert_close(&format!("{ranks} ranks"), &want, &run.metrics());
    }
    // As if the run of 4 ranks had stopped after the first epoch.
    let run = Run { resume: true, ..Run::new(&scratch.path().join("4"), recipe(&[])) };
    for ranks in [2, 1] {
        std::fs::remove_dir_all(run.folder.join("checkpoints/step-00000008")).unwrap();
        assert_eq!(run.on(ranks).unwrap(), vec![(Ending::Finished, 8); ranks]);
        assert_close(&format!("resumed by {ranks} ranks"), &want, &run.metrics());
    }
    let state = std::fs::read(run.checkpoint().join("state.json")).unwrap();
    let state: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&state).unwrap();
    assert_eq!(state.keys().collect::<Vec<_>>(), ["best", "data_fingerprint", "recipe", "step"]);
}

#[test]
fn parts_and_recomputation_do_not_depend_on_the_number_of_ranks() {
    for setting in ["execution.parts=2", "execution.recompute=true"] {
        let scratch = tempfile::tempdir().unwrap();
        let of = |ranks: usize| {
            let run = Run::new(&scratch.path().join(ranks.to_string()), recipe(&[setting, "schedule.epochs=1"]));
            run.on(ranks).unwrap();
            run.metrics()
        };
        assert_close(setting, &of(1), &of(2));
    }
}

#[test]
fn a_rank_that_panics_ends_the_run_and_keeps_the_newest_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let run = Run { panics_at: Some(5), ..Run::new(&scratch.path().join("run"), recipe(&[])) };
    let Err(RankFailure { rank: 1, cause: FailureCause::Crash(reason) }) = run.on(2) else { panic!("no crash") };
    assert_eq!(reason, "it panicked: a deliberate panic");
    assert!(run.checkpoint().ends_with("step-00000004"));
    assert!(read_folder(&run.checkpoint()).is_ok());
    let run = Run { panics_at: None, resume: true, ..run };
    assert_eq!(run.on(1).unwrap(), [(Ending::Finished, 8)]);
}

#[test]
fn images_skipped_on_any_rank_are_counted_together_and_listed_once() {
    let scratch = tempfile::tempdir().unwrap();
    let damaged = vec![3, 20, 41, 66];
    let of = |ranks: usize, share: &str| {
        let folder = scratch.path().join(format!("{ranks}-{share}"));
        let run = Run::new(&folder, recipe(&[&format!("data.skip_share={share}")]));
        Run { dataset: Arc::new(Damaged(images(), damaged.clone())), ..run }
    };
    let listed = |run: &Run| {
        let text = std::fs::read_to_string(run.folder.join("skipped.jsonl")).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (alone, together) = (of(1, "0.1"), of(2, "0.1"));
    alone.on(1).unwrap();
    together.on(2).unwrap();
    assert_eq!(listed(&alone).len(), damaged.len());
    assert_eq!(listed(&alone), listed(&together));
    // Three of 70 are allowed: neither rank sees more, both together do.
    let Err(RankFailure { cause: FailureCause::Error(error), .. }) = of(4, "0.045").on(4) else { panic!("no error") };
    assert!(error.to_string().contains("4 of its 70 images do not decode"), "{error}");
}

#[test]
fn all_ranks_diverge_in_the_same_step_and_the_evidence_has_the_whole_batch() {
    let scratch = tempfile::tempdir().unwrap();
    for (ranks, every) in [(1, "1"), (2, "1"), (2, "3")] {
        let folder = scratch.path().join(format!("{ranks}-{every}"));
        let log = format!("log_every_steps={every}");
        let run = Run::new(&folder, recipe(&[&log, "schedule.learning_rate=1e30"]));
        let Err(RankFailure { cause: FailureCause::Error(error), .. }) = run.on(ranks) else { panic!("no error") };
        let Error::Diverged { bundle, .. } = &error else { panic!("{error}") };
        assert!(bundle.is_dir(), "{}", bundle.display());
        let batch = candle_core::safetensors::load(bundle.join("batch.safetensors"), &Device::Cpu).unwrap();
        assert_eq!(batch["view1"].dims(), [16, 16, 16, 3]);
    }
}

#[test]
fn a_stop_ends_all_ranks_after_the_same_step_with_a_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let run = Run::new(&scratch.path().join("run"), recipe(&["schedule.epochs=4000"]));
    let (stop, folder) = (run.stop.clone(), run.folder.clone());
    let signal = std::thread::spawn(move || {
        while !folder.join("checkpoints/latest").is_file() {
            std::thread::sleep(Duration::from_millis(2));
        }
        stop.store(true, Ordering::SeqCst);
    });
    let ended = run.on(2).unwrap();
    signal.join().unwrap();
    assert_eq!(ended[0], ended[1]);
    assert_eq!(ended[0].0, Ending::Interrupted);
    assert!(run.checkpoint().ends_with(format!("step-{:08}", ended[0].1)));
}

#[test]
fn batches_that_the_ranks_cannot_share_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let refused = |ranks: usize, settings: &[&str]| {
        let run = Run::new(&scratch.path().join("never"), recipe(settings));
        let Err(RankFailure { cause: FailureCause::Error(error), .. }) = run.on(ranks) else { panic!("no error") };
        error.to_string()
    };
    assert!(refused(3, &[]).contains("data.batch is 16, but 3 ranks have equal shares of it"));
    assert!(refused(4, &["execution.parts=3"]).contains("give a multiple of 12"));
    assert!(refused(4, &["equivariance.care.chunk=8"]).contains("give a multiple of 32"));
}

#[test]
fn ranks_that_start_another_run_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    for (setting, what) in [("seed=7", "seed"), ("optimizer.momentum=0.5", "recipe")] {
        let run = Run::new(&scratch.path().join(what), recipe(&[]));
        let other = Run { recipe: recipe(&[setting]), ..run.clone() };
        let group = RankThreads { ranks: 2, threads: 1, timeout: Duration::from_secs(60) };
        let failure = run_ranks(group, move |collective| match collective.is_first() {
            true => run.rank(collective),
            false => other.rank(collective),
        });
        let Err(RankFailure { cause: FailureCause::Error(error), .. }) = failure else { panic!("no error") };
        assert!(error.to_string().contains(&format!("the {what} of process 1 is not that of process 0")), "{error}");
    }
}
