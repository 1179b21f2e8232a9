//! Resolution of a recipe from its layers: defaults < base < file < `--set` < flags. Unknown keys are reported with the
//! nearest known name, and all problems at once.

use std::fs;
use std::path::Path;

use equimod_core::{Entry, EquivarianceConfig, ResNetConfig};
use serde::Serialize;
use toml::{Table, Value};

use crate::recipe::Recipe;
use crate::similar::nearest;
use crate::unknown::remove_unknown;
use crate::unread::remove_unread;
use crate::{Error, Result};

/// A built-in recipe.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// Name.
    pub name: &'static str,
    /// TOML text.
    pub text: &'static str,
}

/// Largest number of recipes that build on each other.
const LONGEST_CHAIN: usize = 8;

/// Resolves the recipe in `text`, overridden by `settings` of the form `a.b=value`, of which later ones win. Messages
/// call the text `origin`.
///
/// # Errors
///
/// With every problem of the recipe: unknown keys, values that cannot be read, and settings that contradict each other.
pub fn resolve(built_in: &[BuiltIn], origin: &str, text: &str, settings: &[String]) -> Result<Recipe> {
    resolve_with(built_in, origin, text, settings, &|_| Vec::new())
}

/// [`resolve`] with the problems that `further` finds, e.g. with the images of the recipe.
///
/// # Errors
///
/// Those of [`resolve`], with the further problems.
pub fn resolve_with(
    built_in: &[BuiltIn],
    origin: &str,
    text: &str,
    settings: &[String],
    further: &dyn Fn(&Recipe) -> Vec<String>,
) -> Result<Recipe> {
    let Reading { recipe, mut problems, unread } = read(built_in, origin, text, settings)?;
    let found = recipe.iter().flat_map(|recipe| [recipe.validate(), further(recipe)].concat());
    problems.extend(found.filter(|problem| !names_any(problem, &unread)));
    sound(recipe, problems)
}

/// [`resolve`] without validation of the values.
///
/// # Errors
///
/// With every unknown key, and every value that cannot be read.
pub fn assemble(built_in: &[BuiltIn], origin: &str, text: &str, settings: &[String]) -> Result<Recipe> {
    let Reading { recipe, problems, .. } = read(built_in, origin, text, settings)?;
    sound(recipe, problems)
}

/// The recipe in `file`, as a run recorded it: without validation, and with modules that this program does not know.
///
/// # Errors
///
/// If the file cannot be read, and with every unknown key and every value that cannot be read.
pub fn recorded(file: &Path) -> Result<Recipe> {
    let text = fs::read_to_string(file).map_err(|e| Error::io("read", file, e))?;
    recorded_text(&file.display().to_string(), &text)
}

/// [`recorded`] with the text of the file, which messages call `origin`.
///
/// # Errors
///
/// Those of [`recorded`].
pub fn recorded_text(origin: &str, text: &str) -> Result<Recipe> {
    let mut table = with_bases(&[], origin, text)?;
    fill_in(&mut table);
    let mut known = known_keys(&table);
    if let (Some(Value::Table(known)), Some(Value::Table(modules))) =
        (known.get_mut("equivariance"), table.get("equivariance"))
    {
        let of_others = modules.iter().filter(|(name, _)| !known.contains_key(*name));
        let of_others: Table = of_others.map(|(name, settings)| (name.clone(), settings.clone())).collect();
        known.extend(of_others);
    }
    let Reading { recipe, problems, .. } = Reading::of(table, &known, Vec::new());
    sound(recipe, problems)
}

fn sound(recipe: Option<Recipe>, problems: Vec<String>) -> Result<Recipe> {
    match recipe {
        Some(recipe) if problems.is_empty() => Ok(recipe),
        _ => Err(Error::Recipe(problems)),
    }
}

/// A recipe with defaults in place of what is unknown or cannot be read.
struct Reading {
    /// The recipe; `None` if its parts cannot be read together.
    recipe: Option<Recipe>,
    /// Every problem so far.
    problems: Vec<String>,
    /// Settings whose values cannot be read.
    unread: Vec<String>,
}

impl Reading {
    /// Reads a table, in which the `known` settings may stand.
    fn of(mut table: Table, known: &Table, mut problems: Vec<String>) -> Self {
        problems.extend(remove_unknown(&mut table, known));
        let (unread, reasons): (Vec<_>, Vec<_>) =
            remove_unread(&mut table).into_iter().map(|unread| (unread.setting, unread.problem)).unzip();
        problems.extend(reasons);
        let recipe = table.try_into::<Recipe>().map_err(|error| problems.push(error.message().trim().to_owned())).ok();
        Self { recipe, problems, unread }
    }
}

/// Whether a problem names one of the settings, whose defaults are nothing to compare others with.
fn names_any(problem: &str, settings: &[String]) -> bool {
    let mut words = problem.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| settings.iter().any(|setting| setting.rsplit('.').next() == Some(word)))
}

fn read(built_in: &[BuiltIn], origin: &str, text: &str, settings: &[String]) -> Result<Reading> {
    let mut problems = Vec::new();
    let mut table = with_bases(built_in, origin, text)?;
    // One layer, so that a setting of another kind than the chosen one is reported, wherever it stands.
    let mut layer = Table::new();
    for setting in settings {
        if let Err(problem) = apply_setting(&mut layer, setting) {
            problems.push(problem);
        }
    }
    merge(&mut table, layer);
    turn_off(&mut table);
    fill_in(&mut table);
    let known = known_keys(&table);
    Ok(Reading::of(table, &known, problems))
}

/// Name of the built-in recipe on which the recipe in `text` builds, if it does.
pub fn base_of(text: &str) -> Option<String> {
    Some(text.parse::<Table>().ok()?.get("base")?.as_str()?.to_owned())
}

/// The built-in recipe called `name`.
///
/// # Errors
///
/// If there is none; the message suggests the nearest name.
pub fn find<'a>(built_in: &'a [BuiltIn], name: &str) -> Result<&'a BuiltIn> {
    built_in.iter().find(|recipe| recipe.name == name).ok_or_else(|| {
        let names: Vec<&str> = built_in.iter().map(|r| r.name).collect();
        let hint = nearest(name, names.iter().copied())
            .map_or_else(|| format!("there are {}", names.join(", ")), |near| format!("did you mean {near:?}?"));
        Error::Recipe(vec![format!("{name:?} is neither a file nor a built-in recipe; {hint}")])
    })
}

/// The table of a recipe, merged over its bases and the defaults.
fn with_bases(built_in: &[BuiltIn], origin: &str, text: &str) -> Result<Table> {
    let mut layers = vec![parse(origin, text)?];
    while let Some(base) = layers.last_mut().and_then(|layer| layer.remove("base")) {
        let Value::String(name) = base else {
            return Err(Error::Recipe(vec![format!("{origin}: base must be the name of a built-in recipe")]));
        };
        if layers.len() == LONGEST_CHAIN {
            return Err(Error::Recipe(vec![format!("{origin}: recipes build on each other without end")]));
        }
        let base = find(built_in, &name).map_err(|error| match error {
            Error::Recipe(_) if name.ends_with(".toml") || name.contains('/') => {
                let names: Vec<&str> = built_in.iter().map(|recipe| recipe.name).collect();
                Error::Recipe(vec![format!(
                    "{origin}: base is {name:?}, and must be the name of a built-in recipe, not a file; there are {}",
                    names.join(", ")
                )])
            }
            other => other,
        })?;
        // A recipe that changes its base is not what that describes.
        if let Some(layer) = layers.last_mut().filter(|layer| !layer.is_empty() && !layer.contains_key("about")) {
            layer.insert("about".to_owned(), Value::String(format!("{origin}, based on {name}")));
        }
        layers.push(parse(base.name, base.text)?);
    }
    let mut table = to_table(&Recipe::default());
    for layer in layers.into_iter().rev() {
        merge(&mut table, layer);
    }
    Ok(table)
}

fn parse(origin: &str, text: &str) -> Result<Table> {
    text.parse::<Table>().map(modern_keys).map(turn_on).map_err(|e| {
        let place = e.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = place.map_or(String::new(), |line| format!(", line {line}"));
        Error::Recipe(vec![format!("{origin}{place}: {}", e.message().trim().replace('\n', "; "))])
    })
}

/// Settings that earlier versions spelled differently: section, old key, new key.
const OLD_KEYS: [(&str, &str, &str); 2] =
    [("", "normalisation", "normalization"), ("guard", "least_deviation", "least_std")];

/// The layer of a recipe with old keys replaced; a new key overrides its old spelling.
fn modern_keys(mut layer: Table) -> Table {
    for (section, old, new) in OLD_KEYS {
        let table =
            if section.is_empty() { Some(&mut layer) } else { layer.get_mut(section).and_then(Value::as_table_mut) };
        let Some(table) = table else { continue };
        if let Some(value) = table.remove(old) {
            table.entry(new).or_insert(value);
        }
    }
    layer
}

/// Merges `over` into `table` key by key; values of `over` win. A table with another `kind` replaces the old one.
fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => {
                if new.get("kind").is_some_and(|kind| old.get("kind").is_some_and(|old| old != kind)) {
                    old.clear();
                }
                merge(old, new);
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// The layer with an empty table, over which settings below it and defaults show, for each module that it sets to true.
fn turn_on(mut layer: Table) -> Table {
    if let Some(Value::Table(modules)) = layer.get_mut("equivariance") {
        let is_on = |(name, value): &(&String, &mut Value)| is_module(name) && **value == Value::Boolean(true);
        modules.iter_mut().filter(is_on).for_each(|(_, value)| *value = Value::Table(Table::new()));
    }
    layer
}

/// Whether there is a module of this name.
fn is_module(name: &str) -> bool {
    EquivarianceConfig::list().iter().any(|known| known.name == name)
}

/// Removes modules that are set to false.
fn turn_off(table: &mut Table) {
    if let Some(Value::Table(modules)) = table.get_mut("equivariance") {
        modules.retain(|name, value| !(is_module(name) && *value == Value::Boolean(false)));
    }
}

/// Adds the defaults of its `kind` to each section that has one, also inside its tables.
fn fill_in(table: &mut Table) {
    for (name, section) in table.iter_mut() {
        let Value::Table(said) = section else { continue };
        let Some(kind) = said.get("kind") else { continue };
        let chosen = Table::from_iter([("kind".to_owned(), kind.clone())]);
        if let Some(mut whole) = defaults_of(name, chosen) {
            merge(&mut whole, std::mem::take(said));
            *said = whole;
        }
    }
}

fn apply_setting(table: &mut Table, setting: &str) -> std::result::Result<(), String> {
    let problem = || format!("--set {setting}: write it as key=value, e.g. schedule.epochs=10");
    let (key, value) = setting.split_once('=').ok_or_else(problem)?;
    let path: Vec<&str> = key.trim().split('.').collect();
    if path.iter().any(|part| part.is_empty()) {
        return Err(problem());
    }
    let value = value.trim();
    let read = format!("value = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("value"));
    let mut layer = read.unwrap_or_else(|| Value::String(value.to_owned()));
    for part in path.iter().rev() {
        layer = Value::Table(Table::from_iter([((*part).to_owned(), layer)]));
    }
    if let Value::Table(layer) = layer {
        merge(table, turn_on(modern_keys(layer)));
    }
    Ok(())
}

/// The default recipe with every module on and the variants that `table` selects by `kind`.
fn known_keys(table: &Table) -> Table {
    let mut known = to_table(&Recipe { equivariance: EquivarianceConfig::all(), ..Recipe::default() });
    let kind = table.get("backbone").and_then(|backbone| backbone.get("kind")).and_then(Value::as_str);
    for (section, part) in known.iter_mut() {
        let Some(kind) = table.get(section).and_then(|t| t.get("kind")) else { continue };
        let chosen = Table::from_iter([("kind".to_owned(), kind.clone())]);
        if let Some(defaults) = defaults_of(section, chosen) {
            *part = Value::Table(defaults);
        }
    }
    if let Some(Value::Table(modules)) = known.get_mut("equivariance") {
        // Registered modules check their settings when they read them.
        let given = |name: &str| table.get("equivariance").and_then(|modules| modules.get(name)).cloned();
        for Entry { name, .. } in EquivarianceConfig::list() {
            let settings = || given(name).unwrap_or(Value::Table(Table::new()));
            modules.entry(name).or_insert_with(settings);
        }
    }
    if let Some(Value::Table(backbone)) = known.get_mut("backbone").filter(|_| kind.is_none_or(|kind| kind == "resnet"))
    {
        backbone.extend(unwritten_resnet_settings(backbone));
    }
    known
}

/// Settings of a ResNet that a resolved recipe omits at their defaults, with placeholder values.
fn unwritten_resnet_settings(written: &Table) -> Table {
    let schema = schemars::schema_for!(ResNetConfig);
    let names = schema.get("properties").and_then(|properties| properties.as_object());
    let names = names.into_iter().flat_map(|properties| properties.keys());
    names.filter(|name| !written.contains_key(*name)).map(|name| (name.clone(), Value::Boolean(false))).collect()
}

/// Default settings of a variant; `None` if there is no such variant.
fn defaults_of(section: &str, chosen: Table) -> Option<Table> {
    let mut recipe = Table::new();
    recipe.insert(section.to_owned(), Value::Table(chosen));
    let recipe: Recipe = recipe.try_into().ok()?;
    match to_table(&recipe).remove(section) {
        Some(Value::Table(table)) => Some(table),
        _ => None,
    }
}

fn to_table(value: &impl Serialize) -> Table {
    Table::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use equimod_core::{BackboneConfig, ObjectiveConfig};

    use super::*;

    const BUILT_IN: [BuiltIn; 2] = [
        BuiltIn { name: "plain", text: "[data]\nbatch = 64\n[objective]\nkind = \"simclr\"\ntemperature = 0.3" },
        BuiltIn {
            name: "small",
            text: "base = \"plain\"\n[backbone]\nwidth = 8\n[equivariance.equimod]\nweight = 0.5",
        },
    ];

    fn problems(text: &str, settings: &[&str]) -> Vec<String> {
        let settings: Vec<String> = settings.iter().map(|s| (*s).into()).collect();
        match resolve(&BUILT_IN, "test", text, &settings) {
            Err(Error::Recipe(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn settings_that_are_not_written_by_default_are_known() {
        let text = "[backbone]\narchitecture = \"resnet50\"\nstem_padding = 2\nwidth_per_group = 4\ngroups = 32";
        let recipe = resolve(&BUILT_IN, "test", text, &[]).unwrap();
        let BackboneConfig::ResNet(config) = &recipe.backbone else { panic!("{recipe:?}") };
        assert_eq!((config.stem_padding, config.width_per_group, config.groups), (Some(2), 4, 32));
        assert!(problems("[backbone]\nstem_pading = 2", &[])[0].contains("did you mean backbone.stem_padding?"));
    }

    #[test]
    fn later_layers_win() {
        let settings = ["data.batch=32".to_owned(), "data.source = a b".to_owned(), "data.batch=16".to_owned()];
        let recipe = resolve(&BUILT_IN, "test", "base = \"small\"\n[schedule]\nepochs = 20", &settings).unwrap();
        assert_eq!((recipe.data.batch, recipe.schedule.epochs), (16, 20));
        assert!(matches!(&recipe.backbone, BackboneConfig::ResNet(config) if config.width == 8));
        assert_eq!(recipe.data.source, "a b");
        assert_eq!(recipe.equivariance.equimod.as_ref().unwrap().weight, equimod_core::optim::Weight::Fixed(0.5));
        assert!(matches!(&recipe.objective, ObjectiveConfig::SimClr(config) if config.temperature == 0.3));
        // Another kind starts with its own defaults.
        let other = ["objective.kind=vicreg".to_owned(), "objective.variance=10".to_owned()];
        let recipe = resolve(&BUILT_IN, "test", "base = \"small\"", &other).unwrap();
        assert!(matches!(&recipe.objective, ObjectiveConfig::VicReg(config) if config.variance == 10.0));
        let mut settings = ["objective.kind=vicreg", "objective.temperature=0.1"];
        for _ in 0..2 {
            let text = problems("base = \"small\"", &settings).join("\n");
            assert!(text.contains("there is no setting objective.temperature"), "{text}");
            settings.reverse();
        }
    }

    #[test]
    fn modules_are_turned_on_and_off() {
        let of = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|s| (*s).into()).collect();
            resolve(&BUILT_IN, "test", "base = \"small\"", &settings).unwrap().equivariance
        };
        let modules = of(&["equivariance.augself=true", "equivariance.equimod=true"]);
        assert_eq!(modules.equimod.unwrap().weight, equimod_core::optim::Weight::Fixed(0.5));
        assert_eq!(modules.augself, Some(Default::default()));
        // In any order with its other settings.
        let modules = of(&["equivariance.augself.weight=2", "equivariance.augself=true"]);
        assert_eq!(modules.augself.unwrap().weight, equimod_core::optim::Weight::Fixed(2.0));
        assert!(of(&["equivariance.equimod=false"]).equimod.is_none());
        assert!(problems("", &["schedule=true"])[0].contains("is a table of settings"));
    }

    #[test]
    fn a_recipe_that_changes_its_base_is_not_described_by_it() {
        let built_in = [BuiltIn { name: "plain", text: "about = \"one minute\"" }];
        let about = |text: &str| resolve(&built_in, "mine.toml", text, &[]).unwrap().about;
        assert_eq!(about("base = \"plain\""), "one minute");
        assert_eq!(about("base = \"plain\"\nseed = 3"), "mine.toml, based on plain");
        assert_eq!(about("base = \"plain\"\nseed = 3\nabout = \"mine\""), "mine");
    }

    #[test]
    fn a_table_inside_a_kind_keeps_what_that_kind_has() {
        let settings = ["objective.kind=moco-v3".to_owned(), "objective.target.buffers=copy".to_owned()];
        let recipe = resolve(&BUILT_IN, "test", "", &settings).unwrap();
        let ObjectiveConfig::MocoV3(config) = &recipe.objective else { panic!("{:?}", recipe.objective) };
        assert_eq!(config.target.momentum, 0.99);
    }

    #[test]
    fn a_resolved_recipe_reads_back_as_itself() {
        let recipe = resolve(&BUILT_IN, "test", "base = \"small\"", &[]).unwrap();
        assert_eq!(resolve(&[], "again", &recipe.to_toml(), &[]).unwrap(), recipe);
    }

    #[test]
    fn a_recorded_recipe_keeps_modules_that_this_program_does_not_know() {
        let file = std::env::temp_dir().join(format!("equimod-recorded-{}.toml", std::process::id()));
        let mut recipe = resolve(&BUILT_IN, "test", "base = \"small\"", &[]).unwrap().to_toml();
        recipe += "\n[equivariance.of_others]\nrate = 3\n";
        fs::write(&file, &recipe).unwrap();
        let read = recorded(&file).unwrap();
        assert_eq!(read.equivariance.unknown().collect::<Vec<_>>(), ["of_others"]);
        assert!(read.to_toml().contains("[equivariance.of_others]\nrate = 3"));
        assert!(read.validate()[0].contains("of_others"));
        assert!(resolve(&[], "test", &recipe, &[]).is_err());
        fs::write(&file, recipe + "[data_]\n").unwrap();
        assert!(recorded(&file).is_err());
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn every_problem_is_reported_at_once_with_the_nearest_name() {
        let text = "[data]\nbatsch = 3\n[schedule]\nepochs = \"many\"\n[equivariance.equimood]\nweight = 1";
        let found = problems(text, &["optimizer.momentun=0.5", "nonsense"]);
        assert_eq!(found.len(), 5, "{found:#?}");
        let all = found.join("\n");
        for part in
            ["data.batch?", "equivariance.equimod?", "optimizer.momentum?", "schedule.epochs is \"many\"", "nonsense"]
        {
            assert!(all.contains(part), "{part} in {all}");
        }
    }

    #[test]
    fn unknown_names_inside_a_policy_are_reported() {
        let view = "views = [[{ kind = \"gaussian-blur\", probablity = 0.5, kernel = 3, sigma = [0.1, 2.0] }]]";
        let text = format!(
            "[augmentation]\npolicy = {{ name = \"mine\", clean = {{ resize = 32, crop = 32, filter = \"bilinear\" }}, \
             {view} }}"
        );
        let found = problems(&text, &[]);
        assert!(found.iter().any(|p| p.contains("probablity")), "{found:#?}");
        let text = text.replace("probablity", "probability").replace("crop = 32,", "crop = 32, antialias = true,");
        // A setting of the same table goes before those of others.
        let found = problems("", &["equivariance.essl.image_size=3"]);
        assert!(found[0].contains("did you mean equivariance.essl.size?"), "{found:#?}");
        let found = problems("epochs = 3", &["lr=0.1", "data.size=3", "temperature=1"]);
        let wanted = ["augmentation.size?", "schedule.epochs?", "schedule.learning_rate?", "objective.temperature?"];
        assert!(found.iter().zip(wanted).all(|(problem, wanted)| problem.contains(wanted)), "{found:#?}");
        let found = problems("", &["schedule.lr=0.1", "data.batch_size=3"]);
        assert!(found.iter().any(|p| p.contains("schedule.learning_rate?")), "{found:#?}");
        assert!(found.iter().any(|p| p.contains("data.batch?")), "{found:#?}");
        let found = problems(&text, &["augmentation.sise=3"]);
        assert!(found.iter().any(|p| p.contains("augmentation.size?")), "{found:#?}");
    }

    #[test]
    fn contradictions_are_reported() {
        let found = problems(
            "base = \"small\"\n[schedule]\nepochs = 3\nwarmup_epochs = 5",
            &["equivariance.equimod.predictor=64 bn-"],
        );
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].contains("predictor") && found[1].contains("warmup_epochs"), "{found:#?}");
    }

    #[test]
    fn optimizers_schedules_and_clipping_are_read() {
        let text = "[optimizer]\nkind = \"adamw\"\nbeta2 = 0.95\n[gradient]\nclip_norm = 1\n\
                    [schedule]\nshape = \"step\"\nmilestones = [120, 160.5]\n\
                    batch_scaling = \"square-root\"";
        let recipe = resolve(&BUILT_IN, "test", text, &[]).unwrap();
        assert!(matches!(&recipe.optimizer, equimod_core::OptimizerConfig::AdamW(config) if config.beta2 == 0.95));
        assert_eq!((recipe.gradient.clip_norm, &recipe.schedule.milestones), (1.0, &vec![120.0, 160.5]));
        assert_eq!(resolve(&[], "again", &recipe.to_toml(), &[]).unwrap(), recipe);
        let found = problems(text, &["gradient.clip_norm=-1", "optimizer.epsilon=0", "schedule.shape=constant"]);
        assert_eq!(found.len(), 3, "{found:#?}");
        let found = problems(text, &["optimizer.beta3=0.9", "schedule.shape=stairs"]);
        assert!(found[0].contains("optimizer.beta2?") || found[0].contains("optimizer.beta1?"), "{found:#?}");
        assert!(found[1].contains("stairs"), "{found:#?}");
    }

    #[test]
    fn contradictions_are_reported_beside_unknown_settings() {
        let found = problems("base = \"small\"\n[data]\nbatsch = 3", &["checkpoint.keep=1", "nonsense"]);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(
            found[0].contains("nonsense") && found[1].contains("data.batch?") && found[2].contains("checkpoint.keep")
        );
    }

    #[test]
    fn values_that_cannot_be_read_hide_no_other_problem() {
        // The default in place of "many" contradicts nothing.
        let found = problems("[data]\nbatch = \"many\"", &["execution.parts=600", "checkpoint.keep=1"]);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].starts_with("data.batch is \"many\"") && found[1].contains("checkpoint.keep"), "{found:#?}");
    }

    #[test]
    fn another_kind_replaces_the_settings_of_the_old_one() {
        let recipe = resolve(
            &BUILT_IN,
            "test",
            "[optimizer]\nkind = \"lars\"\ntrust_coefficient = 0.1",
            &["optimizer.kind=sgd".to_owned()],
        );
        assert!(matches!(recipe.unwrap().optimizer, equimod_core::OptimizerConfig::Sgd(_)));
        assert!(problems("[optimizer]\nkind = \"adam\"", &[])[0].contains("adam"));
    }

    #[test]
    fn unknown_bases_syntax_errors_and_endless_chains_are_reported() {
        assert!(problems("base = \"smal\"", &[])[0].contains("did you mean \"small\""));
        assert!(problems("[data\n", &[])[0].contains("test, line 1"));
        let endless = [BuiltIn { name: "loop", text: "base = \"loop\"" }];
        assert!(resolve(&endless, "test", "base = \"loop\"", &[]).unwrap_err().to_string().contains("without end"));
    }
}
