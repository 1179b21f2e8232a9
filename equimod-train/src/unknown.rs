//! Settings that do not exist, each with the one that it means.

use toml::{Table, Value};

use crate::similar::{meaning, nearest};

/// Removes settings that are not among the `known` ones, and returns a problem for each.
pub fn remove_unknown(table: &mut Table, known: &Table) -> Vec<String> {
    let mut problems = Vec::new();
    keep_known(table, (known, known), "", &mut problems);
    problems
}

/// Keeps the `known` settings of a table, whose names begin with `prefix`; `whole` holds those of the whole recipe.
fn keep_known(table: &mut Table, (known, whole): (&Table, &Table), prefix: &str, problems: &mut Vec<String>) {
    table.retain(|key, value| {
        let full = format!("{prefix}{key}");
        let problem = match (known.get(key), value) {
            (None, _) => {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                let hint = match meant(key, (known, whole), prefix) {
                    Some(setting) => format!("did you mean {setting}?"),
                    None => format!("there are {}", names.join(", ")),
                };
                format!("there is no setting {full}; {hint}")
            }
            (Some(Value::Table(known)), Value::Table(table)) => {
                keep_known(table, (known, whole), &format!("{full}."), problems);
                return true;
            }
            (Some(Value::Table(_)), _) => format!("{full} is a table of settings, not a value"),
            _ => return true,
        };
        problems.push(problem);
        false
    });
}

/// The settings that an unknown `key` of the table `known` means: that of the same table with our name for it, those of
/// other tables, or the most similar one of the same table.
fn meant(key: &str, (known, whole): (&Table, &Table), prefix: &str) -> Option<String> {
    let ours = meaning(key);
    if known.contains_key(ours) {
        return Some(format!("{prefix}{ours}"));
    }
    let mut elsewhere = named(whole, ours);
    // Those of sections rather than those of modules in them.
    let depth = |setting: &String| setting.matches('.').count();
    let least = elsewhere.iter().map(depth).min();
    elsewhere.retain(|setting| Some(depth(setting)) == least);
    match elsewhere.is_empty() {
        false => Some(elsewhere.join(" or ")),
        true => nearest(key, known.keys().map(String::as_str)).map(|near| format!("{prefix}{near}")),
    }
}

/// The full names of all settings called `name`.
fn named(table: &Table, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inside) => found.extend(named(inside, name).into_iter().map(|inner| format!("{key}.{inner}"))),
            _ if key == name => found.push(key.clone()),
            _ => {}
        }
    }
    found
}
