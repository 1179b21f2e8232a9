//! The file of a study.

use clap::Parser;
use equimod_train::nearest;
use toml::de::{DeTable, DeValue};

use super::reader::{Problems, Setting, Value};
use crate::cli::{Cli, Command, EvalCommand};
use crate::commands::eval::protocol_of;

/// A study as its file describes it.
#[derive(Default)]
pub struct StudyFile {
    /// Name.
    pub name: String,
    /// One-line description.
    pub about: String,
    /// Recipe of every cell: a built-in one or a file.
    pub recipe: String,
    /// Rule by which the cells are matched.
    pub matched_by: Match,
    /// Seeds of each cell.
    pub seeds: Vec<u64>,
    /// Settings of every cell.
    pub shared: Vec<Setting>,
    /// Axes of the grid.
    pub axes: Vec<Axis>,
    /// Whether the cells include the product of all axes.
    pub product: bool,
    /// Cells that are listed one by one.
    pub listed: Vec<ListedCell>,
    /// Baselines.
    pub baselines: Vec<Baseline>,
    /// Evaluations of each run.
    pub evaluations: Vec<Evaluated>,
}

/// Rule by which cells are matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Match {
    /// The same number of steps on the same images.
    #[default]
    Steps,
    /// The FLOPs of the baseline, on the same images.
    Flops,
    /// None.
    Nothing,
}

impl Match {
    /// Name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Flops => "flops",
            Self::Nothing => "none",
        }
    }
}

/// An axis of the grid.
pub struct Axis {
    /// Name.
    pub name: String,
    /// Variants.
    pub variants: Vec<Variant>,
}

/// A variant of an axis: settings with a name.
pub struct Variant {
    /// Name.
    pub name: String,
    /// Settings.
    pub settings: Vec<Setting>,
    /// Line in the file.
    pub line: usize,
}

/// A cell that is listed in the file.
pub struct ListedCell {
    /// Name.
    pub name: String,
    /// Variants of axes.
    pub choices: Choices,
    /// Settings on top of those of the variants.
    pub settings: Vec<Setting>,
    /// Line in the file.
    pub line: usize,
}

/// Pairs of an axis and a variant.
pub type Choices = Vec<(String, String)>;

/// Which cell others are compared with.
pub struct Baseline {
    /// The cell, by its name or by variants.
    pub chosen: ChosenCell,
    /// Line in the file.
    pub line: usize,
}

/// A choice of cells.
pub enum ChosenCell {
    /// The cell of this name.
    Named(String),
    /// For each cell, the one with these variants and the same ones of all other axes.
    With(Choices),
}

/// An evaluation of each run.
pub struct Evaluated {
    /// Arguments of `equimod eval` without MODEL, e.g. `knn --k 5`.
    pub line: String,
}

/// Stands for the run in an evaluation that is checked.
pub const ANY_RUN: &str = "RUN";

impl Evaluated {
    /// Words of the command `equimod eval … run`, written into the folder `out`.
    pub fn command(&self, run: &str, out: &str) -> Vec<String> {
        let mut words: Vec<String> = vec!["equimod".into(), "eval".into()];
        let mut line = self.line.split_whitespace();
        words.extend(line.next().map(str::to_owned));
        words.push(run.to_owned());
        words.extend(line.map(str::to_owned));
        words.extend(["--map", "none", "--out", out].map(str::to_owned));
        words
    }

    /// Name of its folder in a run.
    pub fn folder(&self) -> String {
        let parts = self.line.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join("-")
    }

    /// The parsed command, on a device.
    ///
    /// # Errors
    ///
    /// If the arguments are not those of an evaluation; in one sentence.
    pub fn parse(&self, run: &str, out: &str, device: &str) -> Result<EvalCommand, String> {
        let mut words = self.command(run, out);
        words.extend(["--device", device].map(str::to_owned));
        let first_line = |error: clap::Error| {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        };
        match Cli::try_parse_from(&words).map_err(first_line)?.command {
            Command::Eval(eval) => Ok(eval.command),
            _ => Err("is no evaluation".into()),
        }
    }

    fn problem(&self) -> Option<String> {
        let line = &self.line;
        if ["compare", "transfer"].iter().any(|name| line.split_whitespace().next() == Some(name)) {
            return Some(format!(
                "the evaluation {line:?} compares several models; a study evaluates each run by itself and compares \
                 the results"
            ));
        }
        let command = match self.parse(ANY_RUN, ANY_RUN, "cpu") {
            Ok(command) => command,
            Err(reason) => return Some(format!("the evaluation {line:?} cannot be used: {reason}")),
        };
        match protocol_of(&command) {
            Ok(Some(chosen)) if chosen.arguments.json => Some(format!("the evaluation {line:?} cannot print --json")),
            Ok(_) => None,
            Err(error) => Some(format!("the evaluation {line:?}: {error}")),
        }
    }
}

/// Keys of the file.
const KEYS: [&str; 11] =
    ["name", "about", "recipe", "data", "match", "seeds", "product", "baseline", "evaluate", "set", "grid"];
/// Key of listed cells.
const CELL: &str = "cell";

impl StudyFile {
    /// Reads the text of a file as far as it can be read, and adds all problems; `None` if it is not TOML.
    pub fn read(text: &str, problems: &mut Problems) -> Option<Self> {
        let mut file = Self { product: true, ..Self::default() };
        match DeTable::parse(text) {
            Ok(table) => file.fill(table.get_ref(), problems),
            Err(error) => {
                let line = error.span().map_or(0, |span| problems.line(&span));
                problems.add(line, error.message().trim().replace('\n', "; "));
                return None;
            }
        }
        for (key, missing) in
            [("name", file.name.is_empty()), ("recipe", file.recipe.is_empty()), ("seeds", file.seeds.is_empty())]
        {
            if missing {
                problems.add(0, format!("it has no {key}"));
            }
        }
        if file.evaluations.is_empty() {
            problems.add(0, "it has no evaluations: add e.g. evaluate = [\"knn\"]");
        }
        Some(file)
    }

    fn fill(&mut self, table: &DeTable, problems: &mut Problems) {
        // Cells are read after the grid, which they refer to.
        for (key, value) in table {
            let (name, line) = (key.get_ref().as_ref(), problems.line(&key.span()));
            match name {
                "name" => self.name = problems.string(value, "a name").unwrap_or_default(),
                "about" => self.about = problems.string(value, "a description").unwrap_or_default(),
                "recipe" => self.recipe = problems.string(value, "the name of a recipe").unwrap_or_default(),
                "data" => self.data(value, line, problems),
                "match" => self.matching(value, problems),
                "seeds" => self.seeds = seeds(value, problems),
                "product" => match value.get_ref() {
                    DeValue::Boolean(product) => self.product = *product,
                    _ => problems.wrong(value, "true or false"),
                },
                "baseline" => self.baselines = baselines(value, problems),
                "evaluate" => self.evaluations = evaluations(value, problems),
                "set" => {
                    if let Some(table) = problems.table(value, "a table of settings") {
                        let more = problems.settings(table);
                        self.shared.extend(more);
                    }
                }
                "grid" => self.axes = axes(value, problems),
                CELL => {
                    let cells = problems.one_or_more(value);
                    self.listed = cells.into_iter().filter_map(|cell| listed(cell, problems)).collect();
                }
                _ => {
                    let hint = match nearest(name, KEYS.into_iter().chain([CELL])) {
                        Some(near) => format!("did you mean {near}?"),
                        None => format!("there are {}, {CELL}", KEYS.join(", ")),
                    };
                    problems.add(line, format!("there is no key {name}; {hint}"));
                }
            }
        }
        self.check_names(problems);
    }

    fn data(&mut self, value: &Value, line: usize, problems: &mut Problems) {
        if let Some(data) = problems.string(value, "a data source") {
            self.shared.push(Setting { name: "data.source".into(), text: format!("data.source={data:?}"), line });
        }
    }

    fn matching(&mut self, value: &Value, problems: &mut Problems) {
        let all = [Match::Steps, Match::Flops, Match::Nothing];
        let name = match value.get_ref() {
            DeValue::String(name) => name.as_ref(),
            _ => "",
        };
        match all.into_iter().find(|rule| rule.name() == name) {
            Some(rule) => self.matched_by = rule,
            None => problems.wrong(value, "a rule; match is \"steps\", \"flops\" or \"none\""),
        }
    }

    /// Names become parts of paths.
    fn check_names(&self, problems: &mut Problems) {
        let variants = self.axes.iter().flat_map(|axis| &axis.variants).map(|variant| (&variant.name, variant.line));
        let cells = self.listed.iter().map(|cell| (&cell.name, cell.line));
        let study = (!self.name.is_empty()).then_some((&self.name, 0));
        for (name, line) in variants.chain(cells).chain(study) {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
                problems
                    .add(line, format!("{name:?} is no name: use letters, digits, hyphens, points and underscores"));
            }
        }
    }
}

fn seeds(value: &Value, problems: &mut Problems) -> Vec<u64> {
    let what = "a seed: give a list of whole numbers, such as [0, 1, 2]";
    let DeValue::Array(array) = value.get_ref() else {
        problems.wrong(value, what);
        return Vec::new();
    };
    let mut seeds = Vec::new();
    for value in array.iter() {
        let Some(seed) = problems.number(value, what) else { continue };
        if seeds.contains(&seed) {
            let line = problems.line(&value.span());
            problems.add(line, format!("the seed {seed} is given twice"));
        }
        seeds.push(seed);
    }
    seeds
}

fn evaluations(value: &Value, problems: &mut Problems) -> Vec<Evaluated> {
    let mut evaluations: Vec<Evaluated> = Vec::new();
    for value in problems.one_or_more(value) {
        let Some(line) = problems.string(value, "an evaluation such as \"knn --k 5\"") else { continue };
        let (evaluated, number) = (Evaluated { line }, problems.line(&value.span()));
        if let Some(problem) = evaluated.problem() {
            problems.add(number, problem);
        } else if evaluations.iter().any(|other| other.folder() == evaluated.folder()) {
            problems.add(number, format!("the evaluation {:?} is given twice", evaluated.line));
        }
        evaluations.push(evaluated);
    }
    evaluations
}

fn axes(value: &Value, problems: &mut Problems) -> Vec<Axis> {
    let mut axes = Vec::new();
    for (key, value) in problems.table(value, "a table of axes").into_iter().flatten() {
        let mut axis = Axis { name: key.get_ref().to_string(), variants: Vec::new() };
        for (key, value) in problems.table(value, "a table of variants").into_iter().flatten() {
            let Some(table) = problems.table(value, "a table of settings") else { continue };
            let (settings, line) = (problems.settings(table), problems.line(&key.span()));
            axis.variants.push(Variant { name: key.get_ref().to_string(), settings, line });
        }
        if axis.variants.is_empty() {
            let line = problems.line(&key.span());
            problems.add(line, format!("the axis {} has no variants", axis.name));
        }
        axes.push(axis);
    }
    axes
}

fn listed(value: &Value, problems: &mut Problems) -> Option<ListedCell> {
    let table = problems.table(value, "a cell: write it as [[cell]]")?;
    let line = problems.line(&value.span());
    let mut cell = ListedCell { name: String::new(), choices: Vec::new(), settings: Vec::new(), line };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "name" => cell.name = problems.string(value, "a name")?,
            "set" => {
                let table = problems.table(value, "a table of settings")?;
                cell.settings = problems.settings(table);
            }
            axis => cell.choices.push((axis.to_owned(), problems.string(value, "a variant")?)),
        }
    }
    if cell.name.is_empty() {
        problems.add(line, "the cell has no name");
        return None;
    }
    Some(cell)
}

fn baselines(value: &Value, problems: &mut Problems) -> Vec<Baseline> {
    let mut baselines = Vec::new();
    for value in problems.one_or_more(value) {
        let line = problems.line(&value.span());
        let chosen = match value.get_ref() {
            DeValue::String(name) => ChosenCell::Named(name.to_string()),
            DeValue::Table(table) => {
                let choice = |(axis, variant): (&toml::Spanned<toml::de::DeString>, &Value)| {
                    Some((axis.get_ref().to_string(), problems.string(variant, "a variant")?))
                };
                ChosenCell::With(table.iter().filter_map(choice).collect())
            }
            _ => {
                let what = "a baseline: give a cell's name, or variants as { module = \"plain\" }";
                problems.wrong(value, what);
                continue;
            }
        };
        baselines.push(Baseline { chosen, line });
    }
    baselines
}
