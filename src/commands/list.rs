//! `equimod list`.

use std::process::ExitCode;

use crate::bundled::{NOTICE, RECIPES, STUDIES, SUITES};
use equimod_core::{Architecture, BackboneConfig, Entry, EquivarianceConfig, ObjectiveConfig};
use equimod_data::{AugmentationConfig, Policy};
use equimod_eval::results::Results;
use equimod_train::{find, recipe_schema};
use serde_json::json;

use crate::cli::{List, Listed};
use crate::inputs::sources::SOURCES;
use crate::outputs::console;
use crate::process::exit::Usage;

const ALL: [Listed; 8] = [
    Listed::Recipes,
    Listed::Objectives,
    Listed::Modules,
    Listed::Backbones,
    Listed::Augmentations,
    Listed::Datasets,
    Listed::Suites,
    Listed::Studies,
];

/// Text below all lists.
const MORE: &str = "`equimod list recipe-schema` prints a JSON Schema of recipe files, for editors; \
                    `list results-schema` that of results.json.";

/// Name and one-line description of each entry.
type Entries = Vec<(String, String)>;

/// Prints the lists, or a schema.
pub fn run(arguments: &List) -> anyhow::Result<ExitCode> {
    if let Some(name) = &arguments.name {
        return one(arguments, name);
    }
    let asked = arguments.what.map_or_else(|| ALL.to_vec(), |what| vec![what]);
    let lists: Vec<_> = asked.into_iter().filter_map(list).collect();
    match arguments.what {
        Some(Listed::RecipeSchema) => console::json(&recipe_schema(&RECIPES))?,
        Some(Listed::ResultsSchema) => console::json(&schemars::schema_for!(Results))?,
        _ if arguments.json => console::json(&as_json(lists))?,
        what => console::sentences(&as_text(&lists, what))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the text of a built-in recipe or study.
fn one(arguments: &List, name: &str) -> anyhow::Result<ExitCode> {
    let (name, text) = match arguments.what {
        Some(Listed::Recipes) => find(&RECIPES, name).map(|recipe| (recipe.name, recipe.text))?,
        Some(Listed::Studies) => study(name)?,
        _ => {
            let text = format!("only recipes and studies are printed by name: equimod list recipes {name}");
            return Err(Usage(text).into());
        }
    };
    match arguments.json {
        true => console::json(&json!({ "name": name, "text": text }))?,
        false => console::result(text.trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Name and text of a built-in study.
fn study(name: &str) -> anyhow::Result<(&'static str, &'static str)> {
    let names: Vec<&str> = STUDIES.iter().map(|(name, _)| *name).collect();
    let found = STUDIES.iter().find(|(known, _)| *known == name).copied();
    found.ok_or_else(|| Usage(format!("there is no study {name:?}; there are {}", names.join(", "))).into())
}

fn as_json(lists: Vec<(&str, Entries)>) -> serde_json::Map<String, serde_json::Value> {
    let object = |entries: Entries| -> serde_json::Value {
        entries.into_iter().map(|(name, about)| json!({ "name": name, "about": about })).collect()
    };
    lists.into_iter().map(|(title, entries)| (title.to_lowercase(), object(entries))).collect()
}

fn as_text(lists: &[(&str, Entries)], what: Option<Listed>) -> String {
    let mut text = String::new();
    for (title, entries) in lists {
        let width = entries.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        text += &format!("{title}\n");
        entries.iter().for_each(|(name, about)| text += &format!("  {name:width$}  {about}\n"));
        text.push('\n');
    }
    if what.is_none_or(|what| what == Listed::Datasets) {
        text += &format!("Notice of the bundled images\n\n{NOTICE}\n");
    }
    if what.is_none() {
        text += MORE;
    }
    text.trim_end().to_owned()
}

/// Title and entries of a list; `None` for a schema.
fn list(what: Listed) -> Option<(&'static str, Entries)> {
    let entries = |list: &[Entry]| list.iter().map(|entry| (entry.name.to_owned(), entry.line())).collect();
    let owned = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Some(match what {
        Listed::Recipes => {
            ("Recipes", RECIPES.iter().map(|recipe| (recipe.name.to_owned(), about(recipe.text))).collect())
        }
        Listed::Objectives => ("Objectives", entries(ObjectiveConfig::LIST)),
        Listed::Modules => ("Modules", entries(&EquivarianceConfig::list())),
        Listed::Backbones => {
            let resnets = Architecture::ALL.iter().map(|a| (a.name().to_owned(), backbone(*a)));
            let others = BackboneConfig::LIST.iter().filter(|kind| kind.name != "resnet");
            ("Backbones", resnets.chain(others.map(|kind| (format!("kind {}", kind.name), kind.line()))).collect())
        }
        Listed::Augmentations => {
            let mut list: Entries = owned(&AugmentationConfig::list());
            list.extend(Policy::LIST.iter().map(|(a, b)| (format!("policy {a}"), (*b).to_owned())));
            ("Augmentations", list)
        }
        Listed::Datasets => ("Datasets", owned(&SOURCES)),
        Listed::Suites => ("Suites", SUITES.iter().map(|(name, text)| ((*name).to_owned(), about(text))).collect()),
        Listed::Studies => ("Studies", STUDIES.iter().map(|(name, text)| ((*name).to_owned(), about(text))).collect()),
        Listed::RecipeSchema | Listed::ResultsSchema => return None,
    })
}

/// The `about` line of a built-in recipe, suite or study.
fn about(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("about = "));
    line.unwrap_or_default().trim_matches('"').to_owned()
}

fn backbone(architecture: Architecture) -> String {
    let kind = if architecture.expansion() == 1 { "basic blocks" } else { "bottleneck blocks" };
    let blocks = architecture.blocks().map(|b| b.to_string()).join("-");
    format!("{kind} {blocks}, CIFAR or ImageNet stem, any width (He et al., arXiv 1512.03385)")
}
