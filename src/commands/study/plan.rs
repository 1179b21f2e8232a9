//! From the file of a study to its cells, each with a resolved recipe.

use std::path::Path;

use crate::bundled::STUDIES;
use crate::recipes::{base, named};
use equimod_train::{Error, Recipe, changes, nearest};

use super::file::{Baseline, Choices, ChosenCell, Match, StudyFile};
use super::reader::{Problems, Setting};
use crate::process::exit::Usage;

/// The cells of a study.
pub struct Plan {
    /// The study's file.
    pub file: StudyFile,
    /// Its text.
    pub text: String,
    /// Cells in the order of the file.
    pub cells: Vec<PlannedCell>,
}

/// A cell with its recipe.
pub struct PlannedCell {
    /// Name.
    pub name: String,
    /// Variants of axes; empty for a cell without any.
    pub choices: Choices,
    /// Settings on top of those that all cells share.
    pub settings: Vec<Setting>,
    /// Recipe with the first seed.
    pub recipe: Recipe,
    /// Indices of the cells that it is compared with, one for each baseline; its own for a baseline.
    pub baselines: Vec<usize>,
    line: usize,
    /// Whether there is a recipe.
    resolved: bool,
}

impl Plan {
    /// Reads the study `name`, a file or a built-in one.
    ///
    /// # Errors
    /// With every problem of the file, each with its line.
    pub fn read(name: &str) -> anyhow::Result<Self> {
        Self::of(name, text_of(name)?)
    }

    /// The study in `text`, which messages call `name`.
    fn of(name: &str, text: String) -> anyhow::Result<Self> {
        let mut problems = Problems::new(&text);
        let Some(file) = StudyFile::read(&text, &mut problems) else { return refuse(name, problems) };
        let mut cells = cells(&file, &mut problems);
        for cell in &mut cells {
            cell.resolve(&file, &mut problems);
        }
        pair(&file, &mut cells, &mut problems);
        check_match(&file, &cells, &mut problems);
        check_distinct(&cells, &mut problems);
        if problems.is_empty() { Ok(Self { file, text, cells }) } else { refuse(name, problems) }
    }

    /// Recipe of a cell with a seed, and its text as it was given.
    ///
    /// # Errors
    /// If the recipe changed since the study was read.
    pub fn recipe(&self, cell: &PlannedCell, seed: u64) -> anyhow::Result<(Recipe, String)> {
        Ok(named(&self.file.recipe, &cell.all_settings(&self.file, seed))?)
    }
}

impl PlannedCell {
    /// Adds a setting that follows from others.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push(Setting { name: name.into(), text: format!("{name}={value}"), line: self.line });
    }

    /// Settings of the study's recipe, in the order in which they override it.
    fn all_settings(&self, file: &StudyFile, seed: u64) -> Vec<String> {
        let settings = file.shared.iter().chain(&self.settings).map(|setting| setting.text.clone());
        settings.chain([format!("seed={seed}")]).collect()
    }

    /// Resolves the recipe; its problems have the lines of the settings that they name.
    fn resolve(&mut self, file: &StudyFile, problems: &mut Problems) {
        for setting in file.shared.iter().chain(&self.settings).filter(|setting| setting.name == "seed") {
            problems.add(setting.line, "seed is a setting of no cell; the study has seeds = [0, 1, 2]");
        }
        let seed = file.seeds.first().copied().unwrap_or(0);
        let list = match named(&file.recipe, &self.all_settings(file, seed)) {
            Ok((recipe, _)) => {
                (self.recipe, self.resolved) = (recipe, true);
                return;
            }
            // The missing recipe is a problem of the file already.
            Err(_) if file.recipe.is_empty() => return,
            Err(Error::Recipe(list)) => list,
            Err(other) => vec![other.to_string()],
        };
        for problem in list {
            let settings = || file.shared.iter().chain(&self.settings);
            let named = settings().filter(|setting| problem.contains(&setting.name));
            let mut valued = settings().filter(|setting| setting.is_value_in(&problem));
            match named.max_by_key(|setting| setting.name.len()).or(valued.next_back()) {
                Some(setting) => problems.add(setting.line, problem),
                None if base(&file.recipe).is_err() => problems.add(0, problem),
                None => problems.add(self.line, format!("the cell {}: {problem}", self.name)),
            }
        }
    }
}

/// The error with all problems.
fn refuse<T>(name: &str, problems: Problems) -> anyhow::Result<T> {
    let problems = problems.texts();
    let count = if problems.len() == 1 { "a problem".into() } else { format!("{} problems", problems.len()) };
    Err(Usage(format!("the study {name} has {count}:\n  {}", problems.join("\n  "))).into())
}

/// Text of a file or a built-in study.
fn text_of(name: &str) -> anyhow::Result<String> {
    if Path::new(name).is_file() {
        let read = std::fs::read_to_string(name);
        return read.map_err(|error| Usage(format!("cannot read {name}: {error}")).into());
    }
    let known = STUDIES.iter().find(|(known, _)| *known == name);
    known.map(|(_, text)| (*text).to_owned()).ok_or_else(|| {
        let names: Vec<&str> = STUDIES.iter().map(|(name, _)| *name).collect();
        let text = format!("there is no study {name:?}; give a TOML file, or one of {}", names.join(", "));
        Usage(text).into()
    })
}

/// All cells without recipes: the product of the axes, then those that are listed.
fn cells(file: &StudyFile, problems: &mut Problems) -> Vec<PlannedCell> {
    let mut cells: Vec<PlannedCell> = Vec::new();
    if file.product && !file.axes.is_empty() {
        cells.push(PlannedCell::of("", Vec::new(), Vec::new(), 0));
        for axis in &file.axes {
            let with = |cell: &PlannedCell| {
                let extended = axis.variants.iter().map(|variant| {
                    let name = if cell.name.is_empty() { String::new() } else { format!("{}-", cell.name) };
                    let choices = [cell.choices.clone(), vec![(axis.name.clone(), variant.name.clone())]].concat();
                    let settings = [cell.settings.clone(), variant.settings.clone()].concat();
                    PlannedCell::of(&(name + &variant.name), choices, settings, variant.line)
                });
                extended.collect::<Vec<_>>()
            };
            cells = cells.iter().flat_map(with).collect();
        }
    }
    for listed in &file.listed {
        let mut settings = Vec::new();
        for axis in &file.axes {
            let choice = listed.choices.iter().find(|(name, _)| *name == axis.name);
            let variant = choice.and_then(|(_, name)| axis.variants.iter().find(|variant| variant.name == *name));
            settings.extend(variant.into_iter().flat_map(|variant| variant.settings.clone()));
        }
        check_choices(file, &listed.choices, listed.line, problems);
        settings.extend(listed.settings.clone());
        cells.push(PlannedCell::of(&listed.name, listed.choices.clone(), settings, listed.line));
    }
    if cells.is_empty() {
        problems.add(0, "it has no cells: add [grid.module.plain] and other variants, or [[cell]]");
    }
    for (number, cell) in cells.iter().enumerate() {
        if cells[..number].iter().any(|other| other.name == cell.name) {
            problems.add(cell.line, format!("two cells are named {}", cell.name));
        }
    }
    cells
}

impl PlannedCell {
    fn of(name: &str, choices: Choices, settings: Vec<Setting>, line: usize) -> Self {
        Self {
            name: name.into(),
            choices,
            settings,
            recipe: Recipe::default(),
            baselines: Vec::new(),
            line,
            resolved: false,
        }
    }
}

/// Adds axes and variants that the grid lacks.
fn check_choices(file: &StudyFile, choices: &Choices, line: usize, problems: &mut Problems) {
    for (axis, variant) in choices {
        let Some(known) = file.axes.iter().find(|known| known.name == *axis) else {
            let names: Vec<&str> = file.axes.iter().map(|axis| axis.name.as_str()).collect();
            let hint =
                nearest(axis, names.into_iter()).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            problems.add(line, format!("the grid has no axis {axis}{hint}"));
            continue;
        };
        if !known.variants.iter().any(|known| known.name == *variant) {
            let names: Vec<&str> = known.variants.iter().map(|variant| variant.name.as_str()).collect();
            problems.add(line, format!("the axis {axis} has no variant {variant}; it has {}", names.join(", ")));
        }
    }
}

/// Finds the baselines of each cell.
fn pair(file: &StudyFile, cells: &mut [PlannedCell], problems: &mut Problems) {
    for baseline in &file.baselines {
        if let ChosenCell::With(choices) = &baseline.chosen {
            check_choices(file, choices, baseline.line, problems);
        }
        for number in 0..cells.len() {
            let wanted = |cell: &PlannedCell| is_baseline(cell, &cells[number], baseline);
            match cells.iter().position(wanted) {
                Some(found) => cells[number].baselines.push(found),
                None => {
                    problems.add(baseline.line, missing_baseline(baseline, &cells[number].name));
                    break;
                }
            }
        }
    }
}

fn is_baseline(candidate: &PlannedCell, cell: &PlannedCell, baseline: &Baseline) -> bool {
    match &baseline.chosen {
        ChosenCell::Named(name) => candidate.name == *name,
        ChosenCell::With(choices) => {
            let changed = |(axis, variant): &(String, String)| {
                let other = choices.iter().find(|(name, _)| name == axis);
                (axis.clone(), other.map_or_else(|| variant.clone(), |(_, variant)| variant.clone()))
            };
            let wanted: Choices = cell.choices.iter().map(changed).collect();
            !wanted.is_empty() && candidate.choices == wanted
        }
    }
}

fn missing_baseline(baseline: &Baseline, cell: &str) -> String {
    match &baseline.chosen {
        ChosenCell::Named(name) => format!("the baseline {name} is no cell"),
        ChosenCell::With(choices) => {
            let with: Vec<String> = choices.iter().map(|(axis, variant)| format!("{axis} = {variant}")).collect();
            format!("the cell {cell} has no baseline: no cell has {} and its other variants", with.join(" and "))
        }
    }
}

/// Adds settings in which cells may not differ by the rule of matching.
fn check_match(file: &StudyFile, cells: &[PlannedCell], problems: &mut Problems) {
    let Some(first) = cells.first().filter(|first| first.resolved && file.matched_by != Match::Nothing) else { return };
    for cell in cells[1..].iter().filter(|cell| cell.resolved) {
        for change in changes(&first.recipe, &cell.recipe) {
            let of_data = change.setting.starts_with("data.") || change.setting == "augmentation.size";
            let of_budget = change.setting.starts_with("schedule.epochs");
            if !(of_data || of_budget) {
                continue;
            }
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
            let line = cell.settings.iter().rev().find(|setting| setting.name == change.setting);
            let line = line.or_else(|| first.settings.iter().rev().find(|setting| setting.name == change.setting));
            problems.add(
                line.map_or(cell.line, |setting| setting.line),
                format!(
                    "cells differ in {} ({} in {}, {} in {}), but match = {:?} makes them equal; use match = \"none\"",
                    change.setting,
                    value(&change.from),
                    first.name,
                    value(&change.to),
                    cell.name,
                    file.matched_by.name()
                ),
            );
        }
    }
    if file.matched_by == Match::Flops && file.baselines.is_empty() {
        problems.add(0, "match = \"flops\" needs a baseline, whose FLOPs the other cells get");
    }
}

/// Adds cells with the same recipe.
fn check_distinct(cells: &[PlannedCell], problems: &mut Problems) {
    for (number, cell) in cells.iter().enumerate().filter(|(_, cell)| cell.resolved) {
        let same = |other: &&PlannedCell| other.resolved && changes(&other.recipe, &cell.recipe).is_empty();
        let twin = cells[..number].iter().find(same);
        if let Some(twin) = twin {
            problems.add(cell.line, format!("the cells {} and {} have the same settings", twin.name, cell.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"name = "s"
recipe = "quick"
seeds = [0, 1]
baseline = { module = "plain" }
evaluate = ["knn"]
[grid.objective.simclr]
objective.kind = "simclr"
[grid.objective.vicreg]
objective.kind = "vicreg"
[grid.module.plain]
equivariance.equimod = false
[grid.module.equimod]
equivariance.equimod.weight = 0.5
"#;

    /// Checks that the study is refused with each of these parts.
    fn refused(text: &str, parts: &[&str]) {
        let error = Plan::of("s.toml", text.to_owned()).map(|_| ()).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
    }

    #[test]
    fn cells_are_the_product_of_the_axes_with_their_own_baselines() {
        let plan = Plan::of("s.toml", SOUND.to_owned()).unwrap();
        let names: Vec<&str> = plan.cells.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(names, ["simclr-plain", "simclr-equimod", "vicreg-plain", "vicreg-equimod"]);
        let baselines: Vec<usize> = plan.cells.iter().map(|cell| cell.baselines[0]).collect();
        assert_eq!(baselines, [0, 0, 2, 2]);
        let (recipe, asked) = plan.recipe(&plan.cells[3], 1).unwrap();
        assert!(recipe.seed == 1 && asked.contains("# --set equivariance.equimod.weight=0.5"), "{asked}");
    }

    #[test]
    fn listed_cells_join_the_product_or_stand_alone() {
        let listed = "[[cell]]\nname = \"wide\"\nobjective = \"simclr\"\nmodule = \"equimod\"\n\
                      set.backbone.width = 32\n";
        let plan = Plan::of("s.toml", format!("{SOUND}{listed}")).unwrap();
        assert_eq!((plan.cells.len(), plan.cells[4].baselines[0]), (5, 0));
        let alone =
            format!("product = false\n{SOUND}{listed}[[cell]]\nname = \"plain\"\nset.equivariance.equimod = false\n");
        let alone = alone.replace("{ module = \"plain\" }", "\"plain\"");
        let plan = Plan::of("s.toml", alone).unwrap();
        assert_eq!((plan.cells.len(), plan.cells[0].baselines[0]), (2, 1));
    }

    #[test]
    fn built_in_studies_are_sound() {
        for (name, _) in STUDIES {
            let plan = Plan::read(name).unwrap();
            assert!(plan.file.name == name && plan.cells.iter().all(|cell| !cell.baselines.is_empty()), "{name}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_lines() {
        let text = SOUND.replace("seeds = [0, 1]", "seeds = [0, 0]").replace("[\"knn\"]", "[\"knn\", \"compare B\"]");
        let text = text.replace("weight = 0.5", "wheight = 0.5").replace("vicreg\"", "vicregg\"");
        let parts = ["4 problems", "line 3: the seed 0 is given twice", "line 5: ", "compares several models"];
        refused(&text, &parts);
        refused(&text, &["line 9: ", "vicregg", "line 13: there is no setting equivariance.equimod.wheight"]);
    }

    #[test]
    fn each_contradiction_has_a_message() {
        let with = |from: &str, to: &str, parts: &[&str]| {
            assert!(SOUND.contains(from));
            refused(&SOUND.replace(from, to), parts);
        };
        refused("name = ", &["a problem", "line 1"]);
        refused("", &["it has no name", "it has no recipe", "it has no seeds", "no evaluations", "it has no cells"]);
        with("seeds =", "sedes =", &["there is no key sedes; did you mean seeds?", "it has no seeds"]);
        with("[0, 1]", "3", &["line 3: 3 is not a seed"]);
        with("\"s\"", "\"a b\"", &["\"a b\" is no name"]);
        with("seeds =", "match = \"epochs\"\nseeds =", &["line 3: \"epochs\" is not a rule"]);
        with("[\"knn\"]", "[\"knn\", \"knn\"]", &["line 5: the evaluation \"knn\" is given twice"]);
        with("[\"knn\"]", "[\"knn --out x\"]", &["line 5: the evaluation \"knn --out x\" cannot be used"]);
        with("[\"knn\"]", "[\"knn --json\"]", &["cannot print --json"]);
        with("module = \"plain\"", "module = \"plane\"", &["line 4: the axis module has no variant plane"]);
        with("{ module", "{ modul", &["the grid has no axis modul; did you mean module?"]);
        with("{ module = \"plain\" }", "\"none\"", &["line 4: the baseline none is no cell"]);
        with("\"quick\"", "\"quik\"", &["did you mean \"quick\""]);
        with("weight = 0.5", "weight = 0.5\nseed = 4", &["line 14: seed is a setting of no cell"]);
        with("weight = 0.5", "weight = 0.5\nschedule.epochs = 9", &["line 14: cells differ in schedule.epochs"]);
        with("equivariance.equimod.weight = 0.5", "equivariance.equimod = false", &["have the same settings"]);
        let flops = SOUND.replace("baseline = { module = \"plain\" }", "match = \"flops\"");
        refused(&flops, &["match = \"flops\" needs a baseline"]);
        let twice = format!("{SOUND}[[cell]]\nname = \"simclr-plain\"\n");
        refused(&twice, &["line 14: two cells are named simclr-plain", "has no baseline"]);
    }
}
