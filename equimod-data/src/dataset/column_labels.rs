//! Labels from a column of plain values.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Dataset, Task};
use crate::image::{Image, Size};
use crate::{Error, Result};

/// Upper limit of the number of classes in a column of plain values.
pub const MOST_CLASSES: usize = 32_768;

/// A data set with one more task: the values of a column of strings or integers as classes.
///
/// Classes are sorted by name, integers by value. An image without a value is not part of the task, nor is one with the
/// integer −1, as in the ClassLabel columns of the Hugging Face `datasets` library.
pub struct ColumnLabels {
    whole: Arc<dyn Dataset>,
    tasks: Vec<Task>,
    labels: Vec<Option<u32>>,
}

impl ColumnLabels {
    /// Adds the column called `name` of `whole` as a task.
    ///
    /// # Errors
    /// If there is no such column, if it has no values, or more than [`MOST_CLASSES`] different ones.
    pub fn new(whole: Arc<dyn Dataset>, name: &str) -> Result<Self> {
        let wrong = |reason: String| Error::data_set(whole.name(), reason);
        if !whole.columns().contains(&name) {
            return Err(whole.task(name).err().unwrap_or_else(|| wrong(format!("{name} is a task already"))));
        }
        let values: Vec<Option<&str>> = (0..whole.len()).map(|index| whole.text(name, index)).collect();
        let different: HashSet<&str> = values.iter().copied().flatten().collect();
        let classes = match Classes::of(different) {
            classes if classes.count() == 0 => return Err(wrong(format!("its column {name} has no values"))),
            classes if classes.count() > MOST_CLASSES => {
                let count = classes.count();
                let text =
                    format!("its column {name} has {count} different values; at most {MOST_CLASSES} are classes");
                return Err(wrong(text));
            }
            classes => classes,
        };
        let labels = values.iter().map(|value| classes.label((*value)?)).collect();
        let mut tasks = whole.tasks().to_vec();
        tasks.push(Task { name: name.into(), classes: classes.names() });
        Ok(Self { whole, tasks, labels })
    }
}

/// Different values, sorted.
enum Classes<'a> {
    Numbers(Vec<i64>),
    Words(Vec<&'a str>),
}

impl<'a> Classes<'a> {
    fn of(different: HashSet<&'a str>) -> Self {
        // Only canonical integers count as such: 007 is a string.
        let number = |text: &&str| text.parse().ok().filter(|number: &i64| number.to_string() == *text);
        if let Some(mut numbers) = different.iter().map(number).collect::<Option<Vec<i64>>>() {
            numbers.retain(|number| *number != -1);
            numbers.sort_unstable();
            return Self::Numbers(numbers);
        }
        let mut words: Vec<&str> = different.into_iter().collect();
        words.sort_unstable();
        Self::Words(words)
    }

    fn count(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Words(words) => words.len(),
        }
    }

    fn label(&self, value: &str) -> Option<u32> {
        let place = match self {
            Self::Numbers(numbers) => numbers.binary_search(&value.parse().ok()?).ok(),
            Self::Words(words) => words.binary_search(&value).ok(),
        };
        place.map(|place| place as u32)
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Numbers(numbers) => numbers.iter().map(i64::to_string).collect(),
            Self::Words(words) => words.iter().map(|word| (*word).to_owned()).collect(),
        }
    }
}

/// Columns of a data set that look like labels, with the number of their different values: at least two, at most
/// [`MOST_CLASSES`], and at most one for every two images.
pub fn likely_labels(dataset: &dyn Dataset) -> Vec<(String, usize)> {
    let different = |name: &str| -> Option<usize> {
        let mut values = HashSet::new();
        for value in (0..dataset.len()).filter_map(|index| dataset.text(name, index)) {
            values.insert(value);
            if values.len() > MOST_CLASSES.min(dataset.len() / 2) {
                return None;
            }
        }
        Some(values.len()).filter(|count| *count > 1)
    };
    let columns = dataset.columns().into_iter();
    columns.filter_map(|name| Some((name.to_owned(), different(name)?))).collect()
}

impl Dataset for ColumnLabels {
    fn name(&self) -> &str {
        self.whole.name()
    }

    fn len(&self) -> usize {
        self.whole.len()
    }

    fn image(&self, index: usize) -> Result<Image> {
        self.whole.image(index)
    }

    fn size(&self, index: usize) -> Result<Size> {
        self.whole.size(index)
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        if task < self.whole.tasks().len() {
            return self.whole.label(task, index);
        }
        self.tasks.get(task)?;
        *self.labels.get(index)?
    }

    fn columns(&self) -> Vec<&str> {
        self.whole.columns()
    }

    fn text(&self, column: &str, index: usize) -> Option<&str> {
        self.whole.text(column, index)
    }

    fn key(&self, index: usize) -> String {
        self.whole.key(index)
    }

    fn notice(&self) -> Option<&str> {
        self.whole.notice()
    }

    fn fingerprint(&self) -> Result<String> {
        self.whole.fingerprint()
    }

    fn contents(&self) -> Result<String> {
        self.whole.contents()
    }

    fn will_need(&self, indices: &[usize]) {
        self.whole.will_need(indices);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(values: &[&'static str]) -> Vec<String> {
        Classes::of(values.iter().copied().collect()).names()
    }

    #[test]
    fn numbers_stand_by_value_and_words_by_name() {
        assert_eq!(classes(&["10", "9", "-1", "-3"]), ["-3", "9", "10"]);
        assert_eq!(classes(&["10", "9", "x"]), ["10", "9", "x"]);
        assert_eq!(classes(&["007", "7"]), ["007", "7"]);
        assert!(classes(&[]).is_empty());
        let numbers = Classes::of(["4", "-1", "30"].into_iter().collect());
        assert_eq!(["4", "30", "-1", "5"].map(|value| numbers.label(value)), [Some(0), Some(1), None, None]);
    }
}
