//! Columns of plain values: strings and numbers that belong to images, with each different value stored once.

use std::collections::HashMap;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// One column: the different values in the order of their first occurrence, and the index of each row's value among
/// them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    values: Vec<String>,
    rows: Vec<Option<u32>>,
}

impl Column {
    /// Value of a row.
    pub fn get(&self, row: usize) -> Option<&str> {
        let place = (*self.rows.get(row)?)?;
        self.values.get(place as usize).map(String::as_str)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Number of different values.
    pub fn different(&self) -> usize {
        self.values.len()
    }

    /// Whether every index refers to an existing value.
    pub fn is_whole(&self) -> bool {
        self.rows.iter().flatten().all(|&place| (place as usize) < self.values.len())
    }
}

/// Builder of a column.
#[derive(Default)]
pub(crate) struct ColumnBuilder {
    column: Column,
    places: HashMap<String, u32>,
}

impl ColumnBuilder {
    /// Number of different values so far.
    pub fn different(&self) -> usize {
        self.places.len()
    }

    /// Adds a row.
    pub fn push(&mut self, value: Option<&str>) {
        let place = value.map(|value| self.place(value));
        self.column.rows.push(place);
    }

    /// Adds rows without a value up to `rows` rows.
    pub fn fill(&mut self, rows: usize) {
        self.column.rows.resize(rows.max(self.column.len()), None);
    }

    /// Sets the value of a row that has none.
    pub fn set(&mut self, row: usize, value: &str) {
        self.fill(row + 1);
        let place = self.place(value);
        self.column.rows[row].get_or_insert(place);
    }

    fn place(&mut self, value: &str) -> u32 {
        if let Some(&place) = self.places.get(value) {
            return place;
        }
        let place = self.places.len() as u32;
        self.places.insert(value.to_owned(), place);
        place
    }

    /// Returns the finished column.
    pub fn finish(mut self) -> Column {
        let mut values: Vec<(String, u32)> = self.places.into_iter().collect();
        values.sort_unstable_by_key(|(_, place)| *place);
        self.column.values = values.into_iter().map(|(value, _)| value).collect();
        self.column
    }
}

/// Joins up to `most` names for a sentence, followed by the number of further ones.
pub(crate) fn listed<T: Display>(names: impl IntoIterator<Item = T>, most: usize) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    let mut text = names.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > most {
        text += &format!(" and {} more", names.len() - most);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_keeps_each_value_once() {
        let mut builder = ColumnBuilder::default();
        [Some("b"), None, Some("a"), Some("b")].into_iter().for_each(|value| builder.push(value));
        builder.set(1, "a");
        builder.set(0, "c");
        builder.fill(6);
        let column = builder.finish();
        let values: Vec<Option<&str>> = (0..7).map(|row| column.get(row)).collect();
        assert_eq!(values, [Some("b"), Some("a"), Some("a"), Some("b"), None, None, None]);
        assert_eq!((column.len(), column.values.len(), column.is_whole()), (6, 3, true));
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a", "b"], 2), "a, b");
        assert_eq!(listed(1..=9, 2), "1, 2 and 7 more");
    }
}
