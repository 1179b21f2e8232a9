//! Reading of TOML with the line of every problem.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A setting of a recipe.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Full name.
    pub name: String,
    /// `name=value`.
    pub text: String,
    /// Line in the file.
    pub line: usize,
}

impl Setting {
    /// Whether a problem of the setting's section quotes its value.
    pub fn is_value_in(&self, problem: &str) -> bool {
        let section = self.name.split('.').next().unwrap_or_default();
        let value = self.text.split_once('=').map_or("", |(_, value)| value.trim_matches(['"', '\'']));
        !value.is_empty() && problem.starts_with(section) && problem.contains(value)
    }
}

/// A value of the file with its place.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// Problems of a file, each with its line.
pub struct Problems<'a> {
    text: &'a str,
    list: Vec<(usize, String)>,
}

impl<'a> Problems<'a> {
    /// No problem of a file with this text yet.
    pub fn new(text: &'a str) -> Self {
        Self { text, list: Vec::new() }
    }

    /// Line of a place in the file, counted from 1.
    pub fn line(&self, place: &Range<usize>) -> usize {
        let before = self.text.get(..place.start).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }

    /// Adds a problem in a line; 0 stands for the whole file.
    pub fn add(&mut self, line: usize, problem: impl Into<String>) {
        let problem = (line, problem.into());
        if !self.list.contains(&problem) {
            self.list.push(problem);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Problems in the order of their lines, as text.
    pub fn texts(mut self) -> Vec<String> {
        self.list.sort_by_key(|(line, _)| *line);
        let text = |(line, problem)| if line == 0 { problem } else { format!("line {line}: {problem}") };
        self.list.into_iter().map(text).collect()
    }

    /// Text of a value; otherwise a problem that names `what` it should be.
    pub fn string(&mut self, value: &Value, what: &str) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.wrong(value, &format!("{what}, as text"));
                None
            }
        }
    }

    /// Entries of a table; otherwise a problem.
    pub fn table<'v, 'i>(&mut self, value: &'v Value<'i>, what: &str) -> Option<&'v DeTable<'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.wrong(value, what);
                None
            }
        }
    }

    /// Values of an array, or the value alone.
    pub fn one_or_more<'v, 'i>(&self, value: &'v Value<'i>) -> Vec<&'v Value<'i>> {
        match value.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            _ => vec![value],
        }
    }

    /// A whole number that is not negative; otherwise a problem.
    pub fn number(&mut self, value: &Value, what: &str) -> Option<u64> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(value, what);
        }
        number
    }

    /// Adds that a value is not what it should be.
    pub fn wrong(&mut self, value: &Value, what: &str) {
        let line = self.line(&value.span());
        let found: String = self.text.get(value.span()).unwrap_or_default().chars().take(40).collect();
        self.add(line, format!("{found} is not {what}"));
    }

    /// Settings of a recipe in a table, with full names.
    pub fn settings(&mut self, table: &DeTable) -> Vec<Setting> {
        let mut settings = Vec::new();
        self.flatten("", table, &mut settings);
        settings
    }

    fn flatten(&mut self, prefix: &str, table: &DeTable, settings: &mut Vec<Setting>) {
        let mut entries: Vec<(&Spanned<DeString>, &Value)> = table.iter().collect();
        // A kind replaces the settings of another kind, and so has to come first.
        entries.sort_by_key(|(key, _)| key.get_ref() != "kind");
        for (key, value) in entries {
            let name = format!("{prefix}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(table) => self.flatten(&format!("{name}."), table, settings),
                _ => {
                    let line = self.line(&key.span());
                    let value = self.text.get(value.span()).unwrap_or_default();
                    settings.push(Setting { text: format!("{name}={value}"), name, line });
                }
            }
        }
    }
}
