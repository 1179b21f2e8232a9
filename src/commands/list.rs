//! `equimod list`.

use std::process::ExitCode;

use equimod_core::{Architecture, EquivarianceConfig, ObjectiveConfig};
use equimod_data::{AugmentationConfig, Policy};
use serde_json::json;

use crate::bundled::{NOTICE, RECIPES};
use crate::cli::{List, Listed};
use crate::output;
use crate::sources::SOURCES;

const ALL: [Listed; 6] =
    [Listed::Recipes, Listed::Objectives, Listed::Modules, Listed::Backbones, Listed::Augmentations, Listed::Datasets];

/// `(name, one line)` of each entry.
type Entries = Vec<(String, String)>;

/// Prints the lists.
pub fn run(arguments: &List) -> anyhow::Result<ExitCode> {
    let chosen = arguments.what.map_or_else(|| ALL.to_vec(), |what| vec![what]);
    if arguments.json {
        let object = |entries: Entries| -> serde_json::Value {
            entries.into_iter().map(|(name, about)| json!({ "name": name, "about": about })).collect()
        };
        let lists: serde_json::Map<_, _> =
            chosen.iter().map(|&what| (title(what).to_lowercase(), object(entries(what)))).collect();
        output::json(&lists)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for &what in &chosen {
        let entries = entries(what);
        let width = entries.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        text += &format!("{}\n", title(what));
        entries.iter().for_each(|(name, about)| text += &format!("  {name:width$}  {about}\n"));
        if what == Listed::Datasets {
            text += &format!("\nNotice of the bundled pictures\n\n{NOTICE}");
        }
        text.push('\n');
    }
    output::result(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn title(what: Listed) -> &'static str {
    match what {
        Listed::Recipes => "Recipes",
        Listed::Objectives => "Objectives",
        Listed::Modules => "Modules",
        Listed::Backbones => "Backbones",
        Listed::Augmentations => "Augmentations",
        Listed::Datasets => "Datasets",
    }
}

fn entries(what: Listed) -> Entries {
    let owned = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    match what {
        Listed::Recipes => RECIPES.iter().map(|recipe| (recipe.name.to_owned(), about(recipe.text))).collect(),
        Listed::Objectives => owned(&ObjectiveConfig::LIST),
        Listed::Modules => owned(&EquivarianceConfig::LIST),
        Listed::Backbones => Architecture::ALL.iter().map(|a| (a.name().to_owned(), backbone(*a))).collect(),
        Listed::Augmentations => {
            let mut list: Entries = owned(AugmentationConfig::LIST);
            list.extend(Policy::LIST.iter().map(|(a, b)| (format!("policy {a}"), (*b).to_owned())));
            list
        }
        Listed::Datasets => owned(&SOURCES),
    }
}

/// The `about` line of a built-in recipe.
fn about(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("about = "));
    line.unwrap_or_default().trim_matches('"').to_owned()
}

fn backbone(architecture: Architecture) -> String {
    let kind = if architecture.expansion() == 1 { "basic blocks" } else { "bottleneck blocks" };
    let blocks = architecture.blocks().map(|b| b.to_string()).join("-");
    format!("{kind} {blocks}, CIFAR or ImageNet stem, any width (He et al., arXiv 1512.03385)")
}
