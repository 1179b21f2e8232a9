//! The contract between an evaluation and its protocols.

use equimod_core::Model;

use super::{Classification, Evaluation, page};
use crate::report::{Section, Series};
use crate::{Result, ResultRow};

/// A way to evaluate a model. The implementing type holds the settings.
pub trait Protocol {
    /// Name in folders and titles, e.g. `few-shot`.
    fn name(&self) -> &'static str;

    /// One or two sentences for the head of the page: what intervals and chance levels are.
    fn summary(&self) -> &'static str;

    /// Whether the model has what the protocol measures. Without it, [`measure`](Self::measure) fails.
    fn applies_to(&self, _model: &Model) -> bool {
        true
    }

    /// Whether the images must have labels.
    fn needs_labels(&self) -> bool {
        false
    }

    /// The numbers of the evaluation's model.
    ///
    /// # Errors
    /// If the data set or the model lacks what the protocol measures, or if something cannot be read.
    fn measure(&self, evaluation: &Evaluation) -> Result<Measurement>;

    /// The sections of a page below the table of numbers. `untrained` is the measurement of the same network before
    /// training, if it was wanted.
    ///
    /// # Errors
    /// If an image of a figure cannot be read.
    fn sections(
        &self,
        _evaluation: &Evaluation,
        _measurement: &Measurement,
        _untrained: Option<&Measurement>,
    ) -> Result<Vec<Section>> {
        Ok(Vec::new())
    }
}

/// A protocol that classifies the test images of each task.
pub trait Classify {
    /// Name in results, e.g. `knn`.
    fn protocol(&self) -> &'static str;

    /// Predictions for each task.
    ///
    /// # Errors
    /// If no task has labels that a classifier can be fitted on, or if images cannot be read.
    fn classify(&self, evaluation: &Evaluation) -> Result<Vec<Classification>>;
}

impl<C: Classify> Protocol for C {
    fn name(&self) -> &'static str {
        self.protocol()
    }

    fn summary(&self) -> &'static str {
        "Intervals are 95 % bootstrap intervals over test images; chance is the accuracy of guessing the most \
         frequent classes."
    }

    fn needs_labels(&self) -> bool {
        true
    }

    fn measure(&self, evaluation: &Evaluation) -> Result<Measurement> {
        let classifications = self.classify(evaluation)?;
        let rows = |one: &Classification| one.rows(&evaluation.splits.name, evaluation.seed);
        let rows = classifications.iter().flat_map(rows).collect();
        Ok(Measurement { rows, classifications, series: Vec::new() })
    }

    fn sections(
        &self,
        evaluation: &Evaluation,
        measurement: &Measurement,
        _untrained: Option<&Measurement>,
    ) -> Result<Vec<Section>> {
        page::classification_sections(evaluation, &measurement.classifications)
    }
}

/// The numbers of one protocol on one model.
#[derive(Default)]
pub struct Measurement {
    /// One row a number.
    pub rows: Vec<ResultRow>,
    /// Predictions for each test image, of protocols that classify.
    pub classifications: Vec<Classification>,
    /// Curves behind the numbers, for figures.
    pub series: Vec<Series>,
}

impl From<Vec<ResultRow>> for Measurement {
    fn from(rows: Vec<ResultRow>) -> Self {
        Self { rows, ..Self::default() }
    }
}

/// The result of one protocol: numbers, and sections of a page.
#[derive(Default)]
pub struct Report {
    /// One row a number.
    pub rows: Vec<ResultRow>,
    /// Predictions for each test image, of protocols that classify.
    pub classifications: Vec<Classification>,
    /// Figures for the page, below the table of numbers.
    pub sections: Vec<Section>,
    /// One or two sentences for the head of the page: what intervals and chance levels are.
    pub summary: &'static str,
    /// The numbers of the baseline, if it was evaluated, too.
    pub baseline: Option<Measurement>,
}

/// A receiver of warnings and progress. The libraries never print; `()` ignores everything.
pub trait Observer {
    /// Takes a message or a warning: one sentence without a line feed.
    fn log(&self, _message: &str) {}

    /// Takes the progress of a training, called after each step, counted from 1.
    fn progress(&self, _protocol: &'static str, _step: u64, _steps: u64) {}
}

impl Observer for () {}
