//! Evaluation of one model on the splits of one data set: from a frozen backbone to rows of results and sections of a
//! page.
//!
//! A [`Protocol`] is a settings struct that says how it measures and what it shows. Every built-in protocol with its
//! default settings has a method of [`Evaluation`]; [`Evaluation::run`] takes other settings, or a protocol of your
//! own.
//!
//! Data flows one way: [`Splits`] and a [`Model`] give features, features with labels give a [`LabeledTask`] for each
//! label column, tasks give a [`Classification`] or numbers, and those give [`ResultRow`]s and
//! [`Section`](crate::report::Section)s.

mod classification;
mod classifiers;
mod comparison;
mod cross_design;
mod describe;
mod equivariance;
mod equivariance_page;
mod features;
mod few_shot;
mod health;
mod maps;
mod page;
mod parameters;
mod protocol;
mod retrieval;
mod summary;
mod tasks;
mod trained;
mod transfer;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use equimod_core::Model;
use equimod_data::Splits;

pub use crate::results::{ABSOLUTE, SHUFFLED};
pub use classification::{Classification, MEAN_PER_CLASS, TOP_1, distinct_draws};
pub use comparison::{ComparedModel, compare, introduction};
pub use cross_design::DesignPairs;
pub use equivariance::EquivarianceProtocol;
pub use equivariance_page::{equivariance_section, predictions_section};
pub use few_shot::FewShotProtocol;
pub use health::HealthProtocol;
pub use maps::FeatureMap;
pub use parameters::ParameterProtocol;
pub use protocol::{Classify, Measurement, Observer, Protocol, Report};
pub use retrieval::RetrievalProtocol;
pub use summary::SummaryProtocol;
pub use tasks::{DrawnImages, LabeledTask, check_labels};
pub use trained::FinetuneProtocol;
pub use transfer::SuiteTable;

use crate::copies::Copies;
use crate::knn::KnnConfig;
use crate::linear::LinearConfig;
use crate::logistic::LogisticConfig;
use crate::references::{with_baseline, with_references, with_untrained};
use crate::{InputTransform, Result, ResultRow};
use features::SplitFeatures;

/// Default seed of evaluations, whatever the seed of training: runs with other seeds have the same test images.
pub const DEFAULT_SEED: u64 = 0;

/// The evaluation of one model on the splits of one data set.
///
/// The setters come first, then any number of protocols: features are computed once, when a protocol first needs them.
pub struct Evaluation<'a> {
    model: &'a Model,
    copies: &'a [Model],
    splits: &'a Splits,
    tasks: Vec<String>,
    seed: u64,
    input: Option<InputTransform>,
    cache: Option<PathBuf>,
    map: FeatureMap,
    untrained: bool,
    baseline: Option<&'a Model>,
    earlier: &'a [ResultRow],
    observer: &'a dyn Observer,
    features: OnceLock<SplitFeatures>,
}

impl<'a> Evaluation<'a> {
    /// The evaluation of `model` on `splits`: all tasks, [`DEFAULT_SEED`], the input size of training, no cache, no map of
    /// features.
    pub fn new(model: &'a Model, splits: &'a Splits) -> Self {
        Self {
            model,
            copies: &[],
            splits,
            tasks: Vec::new(),
            seed: DEFAULT_SEED,
            input: None,
            cache: None,
            map: FeatureMap::None,
            untrained: false,
            baseline: None,
            earlier: &[],
            observer: &(),
            features: OnceLock::new(),
        }
    }

    /// Restricts the evaluation to the tasks (label columns) called `tasks`; none of them stands for all.
    pub fn tasks<T: Into<String>>(self, tasks: impl IntoIterator<Item = T>) -> Self {
        Self { tasks: tasks.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets the seed of drawn splits, views and bootstrap intervals.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets how images are resized and cropped. By default a center crop of the size of training; for protocols that
    /// train on images, an inset crop.
    pub fn input(self, input: InputTransform) -> Self {
        Self { input: Some(input), ..self }
    }

    /// Caches features in the folder `folder`.
    pub fn cache(self, folder: impl Into<PathBuf>) -> Self {
        Self { cache: Some(folder.into()), ..self }
    }

    /// Sets copies of the model on other devices, which share the images of feature extraction with it. The results are
    /// those of one device.
    pub fn copies(self, copies: &'a [Model]) -> Self {
        Self { copies, ..self }
    }

    /// Sets the two-dimensional map of features that pages show.
    pub fn map(self, map: FeatureMap) -> Self {
        Self { map, ..self }
    }

    /// Also evaluates the same network before training, and sets [`ResultRow::untrained`](crate::ResultRow::untrained).
    pub fn with_untrained(self, untrained: bool) -> Self {
        Self { untrained, ..self }
    }

    /// Also evaluates another model, the same run without the losses of its equivariance modules, and sets
    /// [`ResultRow::baseline`](crate::ResultRow::baseline). A model that lacks what a protocol measures sets nothing.
    pub fn with_baseline(self, baseline: Option<&'a Model>) -> Self {
        Self { baseline, ..self }
    }

    /// Takes the values of the untrained network and of the baseline that are not measured from earlier rows of the model
    /// with the same measurement.
    pub fn earlier(self, earlier: &'a [ResultRow]) -> Self {
        Self { earlier, ..self }
    }

    /// Sends warnings and progress to `observer`.
    pub fn observer(self, observer: &'a dyn Observer) -> Self {
        Self { observer, ..self }
    }

    /// Runs a protocol: its numbers, and the sections of its page.
    ///
    /// # Errors
    /// If the data set has no labels or images that the protocol can use, if the model lacks what it measures, or if
    /// an image or a file cannot be read.
    pub fn run(&self, protocol: &dyn Protocol) -> Result<Report> {
        let Measured { own, untrained, baseline } = self.measure_all(protocol)?;
        let sections = protocol.sections(self, &own, untrained.as_ref())?;
        let Measurement { rows, classifications, .. } = own;
        Ok(Report { rows, classifications, sections, summary: protocol.summary(), baseline })
    }

    /// Runs a protocol for its numbers alone, without the sections of a page.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn measure(&self, protocol: &dyn Protocol) -> Result<Measurement> {
        Ok(self.measure_all(protocol)?.own)
    }

    /// The predictions of a classifier on the test images of each task.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn classify(&self, classifier: &dyn Classify) -> Result<Vec<Classification>> {
        classifier.classify(self)
    }

    /// The measurement of the model, and those of its baseline and of the same network before training, if they are
    /// wanted.
    fn measure_all(&self, protocol: &dyn Protocol) -> Result<Measured> {
        tasks::check(self.splits, &self.tasks)?;
        let mut own = protocol.measure(self)?;
        let baseline = self.baseline.filter(|baseline| protocol.applies_to(baseline));
        let baseline = baseline.map(|baseline| protocol.measure(&self.of_model(baseline, &[]))).transpose()?;
        if let Some(other) = &baseline {
            own.rows = with_baseline(own.rows, &other.rows, self.seed);
        }
        let untrained = self.untrained.then(|| self.measure_untrained(protocol)).transpose()?;
        if let Some(other) = &untrained {
            own.rows = with_untrained(own.rows, &other.rows, self.seed);
        }
        own.rows = with_references(own.rows, self.earlier);
        Ok(Measured { own, untrained, baseline })
    }

    fn measure_untrained(&self, protocol: &dyn Protocol) -> Result<Measurement> {
        let model = self.model.untrained(self.model.params().device())?;
        let copies = Copies::untrained(self.model, self.copies)?;
        protocol.measure(&self.of_model(&model, &copies))
    }

    /// The same evaluation of another model.
    fn of_model<'b>(&'b self, model: &'b Model, copies: &'b [Model]) -> Evaluation<'b> {
        Evaluation {
            model,
            copies,
            splits: self.splits,
            tasks: self.tasks.clone(),
            seed: self.seed,
            input: self.input,
            cache: self.cache.clone(),
            map: self.map,
            untrained: false,
            baseline: None,
            earlier: &[],
            observer: self.observer,
            features: OnceLock::new(),
        }
    }
}

/// Measurements by one protocol.
struct Measured {
    /// Of the model, with the values of the others.
    own: Measurement,
    untrained: Option<Measurement>,
    baseline: Option<Measurement>,
}

/// Every built-in protocol with its default settings and the evaluation's seed. All fail as [`Evaluation::run`] does.
impl Evaluation<'_> {
    /// Weighted k-nearest-neighbor classification on frozen features (Wu et al., arXiv 1805.01978).
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn knn(&self) -> Result<Report> {
        self.run(&KnnConfig::default())
    }

    /// Logistic regression on frozen features by L-BFGS (Kornblith et al., arXiv 1805.08974).
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn logistic(&self) -> Result<Report> {
        self.run(&LogisticConfig::default())
    }

    /// The published linear evaluation: a linear layer trained by SGD on random crops and flips.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn linear(&self) -> Result<Report> {
        let threads = rayon::current_num_threads();
        self.run(&LinearConfig { seed: self.seed, threads, ..LinearConfig::default() })
    }

    /// Fine-tuning of the whole network on 1, 10 and 100 % of the labels.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn finetune(&self) -> Result<Report> {
        let mut protocol = FinetuneProtocol::default();
        (protocol.settings.seed, protocol.settings.threads) = (self.seed, rayon::current_num_threads());
        self.run(&protocol)
    }

    /// Few-shot episodes: 5-way, 1-shot and 5-shot.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn few_shot(&self) -> Result<Report> {
        self.run(&FewShotProtocol::default())
    }

    /// Absolute and relative equivariance of every module that predicts embeddings, overall and by augmentation.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn equivariance(&self) -> Result<Report> {
        self.run(&EquivarianceProtocol::default())
    }

    /// Ridge regression from features to augmentation parameters: R² of each.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn params(&self) -> Result<Report> {
        self.run(&ParameterProtocol::default())
    }

    /// Retrieval of views by predictions, of images of the same class and of the other design by features.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn retrieval(&self) -> Result<Report> {
        self.run(&RetrievalProtocol::default())
    }

    /// Label-free properties of features: standard deviation, effective rank, alignment, uniformity.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn health(&self) -> Result<Report> {
        self.run(&HealthProtocol::default())
    }
}

/// Accessors for protocols.
impl<'a> Evaluation<'a> {
    /// The model under evaluation.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    /// The data set's splits.
    pub fn splits(&self) -> &'a Splits {
        self.splits
    }

    /// The seed of drawn splits, views and bootstrap intervals.
    pub fn chosen_seed(&self) -> u64 {
        self.seed
    }

    /// The names of the selected tasks; empty for all.
    pub fn chosen_tasks(&self) -> &[String] {
        &self.tasks
    }

    /// The receiver of warnings and progress.
    pub fn reporter(&self) -> &'a dyn Observer {
        self.observer
    }

    /// The folder of cached features.
    pub fn cache_folder(&self) -> Option<&Path> {
        self.cache.as_deref()
    }
}
