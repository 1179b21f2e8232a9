//! Differences between the settings of two recipes.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::{Table, Value};

use crate::recipe::Recipe;

/// A setting in which two recipes differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Full name, e.g. `schedule.epochs`.
    pub setting: String,
    /// Value in the first recipe, as TOML; `None` if it lacks the setting.
    pub from: Option<String>,
    /// Value in the second recipe, as TOML; `None` if it lacks the setting.
    pub to: Option<String>,
}

/// The settings in which `to` differs from `from`, ordered by name, without the recipes' own descriptions (`about`).
pub fn changes(from: &Recipe, to: &Recipe) -> Vec<Change> {
    let (from, to) = (settings(from), settings(to));
    let mut names: Vec<&String> =
        from.keys().chain(to.keys()).filter(|name| from.get(*name) != to.get(*name)).collect();
    names.sort();
    names.dedup();
    let value = |side: &BTreeMap<String, String>, name: &String| side.get(name).cloned();
    let change = |name: &String| Change { setting: name.clone(), from: value(&from, name), to: value(&to, name) };
    names.into_iter().filter(|name| *name != "about").map(change).collect()
}

/// Every setting as TOML, by its full name.
pub fn settings(recipe: &Recipe) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    flatten("", &Table::try_from(recipe).unwrap_or_default(), &mut flat);
    flat
}

fn flatten(prefix: &str, table: &Table, flat: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            Value::Table(table) => flatten(&format!("{prefix}{key}."), table, flat),
            value => drop(flat.insert(format!("{prefix}{key}"), short(value).to_string())),
        }
    }
}

/// The value with the fewest digits that give the same f32, where a number is one.
fn short(value: &Value) -> Value {
    match value {
        Value::Float(number) if f64::from(*number as f32) == *number => {
            Value::Float((*number as f32).to_string().parse().unwrap_or(*number))
        }
        Value::Array(values) => Value::Array(values.iter().map(short).collect()),
        other => other.clone(),
    }
}

/// Prefixes of the settings that may change when a run is resumed: they affect checkpoints, reports and memory, but no
/// weight.
const FREE: [&str; 8] = [
    "checkpoint.",
    "probe.",
    "guard.",
    "log.",
    "execution.recompute",
    "execution.timeout",
    "log_every_steps",
    "augmentation.on",
];

/// The changed settings that would change the weights of a run. The data source is compared by its fingerprint instead.
pub fn decisive(before: &Recipe, now: &Recipe) -> Vec<String> {
    let names = changes(before, now).into_iter().map(|change| change.setting);
    names.filter(|name| name != "data.source" && affects_weights(name)).collect()
}

/// Whether a setting affects the weights of a run; others affect its checkpoints, reports and memory.
pub fn affects_weights(name: &str) -> bool {
    !FREE.iter().any(|free| name.starts_with(free))
}

#[cfg(test)]
mod tests {
    use equimod_core::EquivarianceConfig;

    use super::*;

    #[test]
    fn changes_have_full_names_and_both_values() {
        let plain = Recipe::default();
        let mut other = Recipe { about: "another".into(), seed: 3, ..Recipe::default() };
        assert!(changes(&plain, &plain).is_empty());
        (other.checkpoint.keep, other.data.source) = (5, "images".into());
        let change = |name: &str| changes(&plain, &other).into_iter().find(|change| change.setting == name).unwrap();
        assert_eq!((change("seed").from.as_deref(), change("seed").to.as_deref()), (Some("0"), Some("3")));
        assert_eq!(change("data.source").to.as_deref(), Some("\"images\""));
        assert_eq!(decisive(&plain, &other), ["seed"]);
        let with_module = Recipe { equivariance: EquivarianceConfig::all(), ..Recipe::default() };
        let names = decisive(&plain, &with_module);
        assert!(names.contains(&"equivariance.equimod.weight".to_owned()), "{names:?}");
    }
}
