//! The splits of a data set.

use std::sync::Arc;

use crate::Result;
use crate::dataset::{ColumnLabels, Dataset};

/// Images to fit on, to choose hyper-parameters on, and to test on.
///
/// ```
/// use std::sync::Arc;
/// use equimod_data::{Image, MemoryDataset, Size, Splits};
///
/// # fn main() -> equimod_data::Result<()> {
/// let image = Image::new(Size::square(8), vec![127; 8 * 8 * 3])?;
/// let splits = Splits::new("gray squares", Arc::new(MemoryDataset::new("gray", vec![image])?));
/// assert!(splits.test.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Splits {
    /// Name in results: the source, pinned to a commit if it is on the Hub.
    pub name: String,
    /// Images to fit on.
    pub train: Arc<dyn Dataset>,
    /// Images to choose hyper-parameters on. Without them, a part of `train` serves.
    pub validation: Option<Arc<dyn Dataset>>,
    /// Images to test on. Without them, a part of `train` is held out.
    pub test: Option<Arc<dyn Dataset>>,
    /// Images to pretrain on, where there are more than `train`.
    pub pretraining: Option<Arc<dyn Dataset>>,
    /// Set where each split holds two designs of the same things: first all of one design, then all of the other in the
    /// same order.
    pub designs: Option<Designs>,
    /// Ignored parts of a folder besides its splits, for messages.
    pub left_out: Vec<String>,
}

/// Two designs of the same things, for retrieval across them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Designs {
    /// Both designs by name, e.g. `Noto ↔ Twemoji`.
    pub about: String,
    /// Name of the labels of which each class has one image in each design.
    pub one_shot: String,
}

impl Splits {
    /// A training split alone.
    pub fn new(name: impl Into<String>, train: Arc<dyn Dataset>) -> Self {
        Self {
            name: name.into(),
            train,
            validation: None,
            test: None,
            pretraining: None,
            designs: None,
            left_out: Vec::new(),
        }
    }

    /// Training images and, if there are any, test images.
    pub fn of(name: impl Into<String>, train: Arc<dyn Dataset>, test: Option<Arc<dyn Dataset>>) -> Self {
        Self { test, ..Self::new(name, train) }
    }

    /// The splits with these validation images. Where there are no test images, they become the test split.
    pub fn with_validation(self, validation: Option<Arc<dyn Dataset>>) -> Self {
        match self.test {
            Some(_) => Self { validation, ..self },
            None => Self { test: validation, ..self },
        }
    }

    /// The splits with columns of plain values as further tasks, where the training images have such columns; see
    /// [`with_labels`].
    ///
    /// # Errors
    /// If another split lacks a column, or if a column has too many different values for classes.
    pub fn with_labels(mut self, tasks: &[String]) -> Result<Self> {
        let is_column = |task: &&String| {
            let is = |name: &str| task_name(name) == task_name(task);
            !self.train.tasks().iter().any(|known| is(&known.name)) && self.train.columns().into_iter().any(is)
        };
        let columns: Vec<String> = tasks.iter().filter(is_column).cloned().collect();
        self.train = with_labels(self.train, &columns)?;
        let other = |dataset: Option<Arc<dyn Dataset>>| -> Result<_> {
            // Another source with a single label column may have another name for it.
            let labeled = |dataset: Arc<dyn Dataset>| match dataset.tasks() {
                [_] => Ok(dataset),
                _ => with_labels(dataset, &columns),
            };
            dataset.map(labeled).transpose()
        };
        (self.validation, self.test) = (other(self.validation)?, other(self.test)?);
        Ok(self)
    }

    /// The test images or, without a test split, the training images.
    pub fn test_or_train(&self) -> &Arc<dyn Dataset> {
        self.test.as_ref().unwrap_or(&self.train)
    }

    /// The part of the data set that [`test_or_train`](Self::test_or_train) is: `test` or `training`.
    pub fn tested_part(&self) -> &'static str {
        if self.test.is_some() { "test" } else { "training" }
    }
}

/// The name of a label column in results and on the command line: `skin_tone` → `skin-tone`.
pub fn task_name(column: &str) -> String {
    column.replace('_', "-")
}

/// `dataset` with columns of plain values as further tasks, by their names; existing tasks stay as they are.
///
/// # Errors
/// If a column does not exist, has no values, or has too many different ones for classes.
pub fn with_labels(mut dataset: Arc<dyn Dataset>, tasks: &[String]) -> Result<Arc<dyn Dataset>> {
    for task in tasks {
        if !dataset.tasks().iter().any(|known| task_name(&known.name) == task_name(task)) {
            let columns = dataset.columns();
            let name = columns.into_iter().find(|name| task_name(name) == task_name(task)).map(str::to_owned);
            dataset = Arc::new(ColumnLabels::new(dataset, name.as_deref().unwrap_or(task))?);
        }
    }
    Ok(dataset)
}
