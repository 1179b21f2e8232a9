//! In which settings recipes differ.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::{Table, Value};

use crate::recipe::Recipe;

/// A setting that two recipes do not share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its full name, e.g. `schedule.epochs`.
    pub setting: String,
    /// Its value in the first recipe, as TOML; absent where the setting is.
    pub from: Option<String>,
    /// Its value in the second.
    pub to: Option<String>,
}

/// The settings in which `to` differs from `from`, in the order of names. What a recipe says about itself is left out.
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

/// Every setting by its full name.
pub fn settings(recipe: &Recipe) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    flatten("", &Table::try_from(recipe).unwrap_or_default(), &mut flat);
    flat
}

fn flatten(prefix: &str, table: &Table, flat: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            Value::Table(table) => flatten(&format!("{prefix}{key}."), table, flat),
            value => drop(flat.insert(format!("{prefix}{key}"), value.to_string())),
        }
    }
}

/// What may change when a run goes on: it decides where pictures lie, what is kept and looked at, and in what memory steps
/// are taken, but no weight.
const FREE: [&str; 4] = ["checkpoint.", "probe.", "guard.", "execution.recompute"];

/// The changed settings that would make another run of it. Pictures are told apart by their fingerprint.
pub fn decisive(before: &Recipe, now: &Recipe) -> Vec<String> {
    let names = changes(before, now).into_iter().map(|change| change.setting);
    names.filter(|name| name != "data.source" && !FREE.iter().any(|free| name.starts_with(free))).collect()
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
        (other.checkpoint.keep, other.data.source) = (5, "pictures".into());
        let told = |name: &str| changes(&plain, &other).into_iter().find(|change| change.setting == name).unwrap();
        assert_eq!((told("seed").from.as_deref(), told("seed").to.as_deref()), (Some("0"), Some("3")));
        assert_eq!(told("data.source").to.as_deref(), Some("\"pictures\""));
        assert_eq!(decisive(&plain, &other), ["seed"]);
        let with_module = Recipe { equivariance: EquivarianceConfig::all(), ..Recipe::default() };
        let names = decisive(&plain, &with_module);
        assert!(names.contains(&"equivariance.equimod.weight".to_owned()), "{names:?}");
    }
}
