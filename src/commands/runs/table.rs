//! Table of runs for a terminal.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use equimod_eval::results::aligned;

use super::summary::{Score, Summary};
use crate::outputs::console::duration;
use crate::process::exit::Usage;
use crate::reference::shown;
use crate::run::differences::follows;

/// Names of the columns that are not settings.
const COLUMNS: [&str; 9] = ["run", "status", "started", "time", "epoch", "step", "loss", "probe", "eval"];
/// Width into which columns go as far as they can.
const WIDTH: usize = 80;
/// Longest value of a setting that is shown whole.
const LONGEST: usize = 24;

/// Value of a column for one run.
enum Cell {
    Missing,
    Text(String),
    /// A time, of which the minute is shown.
    Time(String),
    /// A number by which runs are sorted, and its text.
    Number(f64, String),
}

impl Cell {
    fn of(value: Option<f64>, text: impl Fn(f64) -> String) -> Self {
        value.map_or(Self::Missing, |value| Self::Number(value, text(value)))
    }

    fn text(&self) -> &str {
        match self {
            Self::Missing => "–",
            Self::Text(text) | Self::Number(_, text) => text,
            Self::Time(time) => time.get(..MINUTE).unwrap_or(time),
        }
    }

    /// Order by size or alphabet, with the largest first if `descending`; missing values are last in any case.
    fn order(&self, other: &Self, descending: bool) -> Ordering {
        let order = match (self, other) {
            (Self::Missing, Self::Missing) => return Ordering::Equal,
            (Self::Missing, _) => return Ordering::Greater,
            (_, Self::Missing) => return Ordering::Less,
            (Self::Number(a, _), Self::Number(b, _)) => a.total_cmp(b),
            (Self::Time(a), Self::Time(b)) => a.cmp(b),
            _ => self.text().cmp(other.text()),
        };
        if descending { order.reverse() } else { order }
    }
}

/// Runs, with the settings in which they differ.
pub struct Table {
    /// The runs; each has only those settings.
    pub runs: Vec<Summary>,
    /// Full names of the settings.
    settings: Vec<String>,
    /// Full names of all settings, also of those in which the runs are the same.
    all: Vec<String>,
}

/// Place of the minute's end in a time.
const MINUTE: usize = "2026-01-02 03:04".len();

impl Table {
    /// A table of these runs.
    pub fn of(mut runs: Vec<Summary>) -> Self {
        let names: BTreeSet<String> = runs.iter().flat_map(|run| run.settings.keys().cloned()).collect();
        let settings: Vec<String> = names.iter().filter(|name| differs(&runs, name)).cloned().collect();
        choose_accuracies(&mut runs);
        runs.iter_mut().for_each(|run| run.settings.retain(|name, _| settings.contains(name)));
        Self { runs, settings, all: names.into_iter().collect() }
    }

    /// Sorts by a column; runs with equal values keep the order of their paths.
    ///
    /// # Errors
    ///
    /// If there is no such column.
    pub fn sort(&mut self, column: &str, descending: bool) -> Result<(), Usage> {
        let columns = || COLUMNS.into_iter().chain(self.settings.iter().map(String::as_str));
        let is_meant = |name: &&str| *name == column || self.heading(name) == column;
        // Runs that are the same in a setting stay in their order.
        if self
            .all
            .iter()
            .map(String::as_str)
            .any(|name| is_meant(&name) && !self.settings.iter().any(|own| own == name))
        {
            return Ok(());
        }
        let Some(column) = columns().find(is_meant).map(str::to_owned) else {
            let known = columns().map(|name| self.heading(name)).collect::<Vec<_>>().join(", ");
            return Err(Usage(format!("there is no column {column:?} to sort by; there are {known}")));
        };
        self.runs.sort_by(|a, b| cell(a, &column).order(&cell(b, &column), descending));
        Ok(())
    }

    /// The table, in several parts if it is wider than a terminal; each begins with the names of the runs.
    pub fn text(&self) -> String {
        let settings = self.settings.iter().map(String::as_str).filter(|name| !follows(name, &self.settings));
        let columns = COLUMNS.into_iter().chain(settings).map(|name| self.column(name));
        // A column without a value says nothing.
        let columns = columns.filter(|column| column.iter().skip(1).any(|text| text != "–"));
        let parts: Vec<String> = parts(&columns.collect::<Vec<_>>()).iter().map(|part| lines(part)).collect();
        parts.join("\n") + &self.legend()
    }

    /// Heading and texts of a column.
    fn column(&self, name: &str) -> Vec<String> {
        let named = self.names(name).len() > 1;
        let text = |run: &Summary| match score(run, name) {
            Some(score) if named => format!("{} {}", cell(run, name).text(), score.name),
            _ => cell(run, name).text().to_owned(),
        };
        let texts = self.runs.iter().map(text);
        std::iter::once(self.heading(name).to_owned()).chain(texts).collect()
    }

    /// Heading of a column.
    fn heading<'a>(&self, name: &'a str) -> &'a str {
        if COLUMNS.contains(&name) { name } else { short(name, &self.all) }
    }

    /// What the accuracies of a column are of.
    fn names(&self, column: &str) -> BTreeSet<&str> {
        self.runs.iter().filter_map(|run| Some(score(run, column)?.name.as_str())).collect()
    }

    /// Explanation of the accuracies that do not name what they are of.
    fn legend(&self) -> String {
        let line = |column: &str| match self.names(column).into_iter().collect::<Vec<_>>().as_slice() {
            [] => String::new(),
            [name] => format!("{column}: top-1 accuracy of {name}\n"),
            _ => format!("{column}: top-1 accuracy, with its protocol and task behind it\n"),
        };
        let mut lines = line("probe") + &line("eval");
        let has_accuracy = |run: &&Summary| run.probe.is_some() || run.eval.is_some();
        let images: BTreeSet<&str> =
            self.runs.iter().filter(has_accuracy).map(|run| run.data_fingerprint.as_str()).collect();
        if !lines.is_empty() && images.len() > 1 {
            lines += "the runs have different images: their accuracies have no common order\n";
        }
        if lines.is_empty() { lines } else { format!("\n{lines}") }
    }
}

/// Sections of recipes that do not change what is learned.
const BESIDE: [&str; 4] = ["log.", "log_every_steps", "checkpoint.", "probe."];

/// Whether runs differ in a setting. Those without its table, e.g. without the module that it belongs to, do not count.
fn differs(runs: &[Summary], name: &str) -> bool {
    let table = name.rfind('.').map_or("", |dot| &name[..=dot]);
    let has_table = |run: &&Summary| run.settings.keys().any(|other| other.starts_with(table));
    let values: BTreeSet<Option<&String>> = runs.iter().filter(has_table).map(|run| run.settings.get(name)).collect();
    values.len() > 1 && !BESIDE.iter().any(|section| name.starts_with(section))
}

/// Gives every run the accuracy of the protocol and task that most runs have, or its best founded one.
fn choose_accuracies(runs: &mut [Summary]) {
    // Trials with other settings stand only for runs without any other.
    let usual = |score: &&Score| !score.name.ends_with(')');
    let all = runs.iter().flat_map(|run| run.accuracies.iter().filter(usual));
    let all: Vec<&str> = all.map(|score| score.name.as_str()).collect();
    let count = |name: &str| all.iter().filter(|other| **other == name).count();
    // Of several, the first is the best founded.
    let Some(most) = all.iter().rev().max_by_key(|name| count(name)).map(|name| (*name).to_owned()) else { return };
    for run in runs {
        run.eval = run.accuracies.iter().find(|score| score.name == most).or(run.accuracies.first()).cloned();
    }
}

/// The accuracy in a column of accuracies.
fn score<'a>(run: &'a Summary, column: &str) -> Option<&'a Score> {
    match column {
        "probe" => run.probe.as_ref(),
        "eval" => run.eval.as_ref(),
        _ => None,
    }
}

/// Value of a column.
fn cell(run: &Summary, column: &str) -> Cell {
    match column {
        "run" => Cell::Text(run.run.clone()),
        "status" => Cell::Text(run.status.clone()),
        // RFC 3339 is in the order of time.
        "started" => run.started.as_ref().map_or(Cell::Missing, |time| Cell::Time(time.replace('T', " "))),
        "time" => {
            Cell::of(Some(run.seconds), |seconds| duration(Duration::try_from_secs_f64(seconds).unwrap_or_default()))
        }
        "epoch" => Cell::of(Some(run.epoch as f64), |epoch| format!("{epoch}/{}", run.epochs)),
        "step" => Cell::of(Some(run.step as f64), |step| step.to_string()),
        "loss" => Cell::of(run.loss, |loss| format!("{loss:.4}")),
        "probe" | "eval" => {
            Cell::of(score(run, column).map(|score| score.value), |value| format!("{:.1} %", 100.0 * value))
        }
        setting => run.settings.get(setting).map_or(Cell::Missing, |value| value_of(value)),
    }
}

/// Value of a setting: a number, or a text without quotes that is cut if it is long, of a path at its start.
fn value_of(value: &str) -> Cell {
    if let Ok(number) = value.parse::<f64>() {
        return Cell::Number(number, if value.len() > LONGEST { format!("{number:e}") } else { value.into() });
    }
    let value = &shown(value.trim_matches('"'));
    let count = value.chars().count();
    Cell::Text(match count {
        0 => return Cell::Missing,
        1..=LONGEST => value.into(),
        _ if value.contains(['/', '\\']) => {
            std::iter::once('…').chain(value.chars().skip(count + 1 - LONGEST)).collect()
        }
        _ => value.chars().take(LONGEST - 1).chain(['…']).collect(),
    })
}

/// The shortest ending of a setting's name that no other setting has.
fn short<'a>(name: &'a str, all: &[String]) -> &'a str {
    let ends = |other: &str, end: &str| other == end || other.ends_with(&format!(".{end}"));
    let endings = name.rmatch_indices('.').map(|(dot, _)| &name[dot + 1..]);
    let unique = |end: &&str| !COLUMNS.contains(end) && all.iter().filter(|other| ends(other, end)).count() == 1;
    endings.into_iter().find(unique).unwrap_or(name)
}

/// Columns in parts that fit the width, as far as they can, each behind the first column.
fn parts(columns: &[Vec<String>]) -> Vec<Vec<&Vec<String>>> {
    let width = |column: &Vec<String>| 2 + column.iter().map(|text| text.chars().count()).max().unwrap_or(0);
    let Some((first, others)) = columns.split_first() else { return Vec::new() };
    let mut parts = vec![vec![first]];
    let mut used = width(first);
    for column in others {
        // The last column has no gap behind it.
        if used + width(column) - 2 > WIDTH && parts.last().is_some_and(|part| part.len() > 1) {
            parts.push(vec![first]);
            used = width(first);
        }
        used += width(column);
        parts.last_mut().into_iter().for_each(|part| part.push(column));
    }
    parts
}

/// Text of columns beside each other.
fn lines(columns: &[&Vec<String>]) -> String {
    let count = columns.first().map_or(0, |column| column.len());
    let row = |row: usize| columns.iter().map(|column| column[row].clone()).collect::<Vec<_>>();
    aligned(&row(0), &(1..count).map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_the_shortest_name_that_is_their_own() {
        let names = ["a.weight", "b.weight", "schedule.epochs", "seed", "x.time"].map(str::to_owned);
        let shortest = names.each_ref().map(|name| short(name, &names));
        assert_eq!(shortest, ["a.weight", "b.weight", "epochs", "seed", "x.time"]);
    }

    #[test]
    fn accuracies_on_different_images_have_no_order() {
        let run = |images: &str, accuracies: bool| Summary {
            data_fingerprint: images.into(),
            accuracies: if accuracies { vec![Score { name: "knn class".into(), value: 0.5 }] } else { Vec::new() },
            ..Summary::default()
        };
        let says = |runs: Vec<Summary>| Table::of(runs).text().contains("have no common order");
        assert!(says(vec![run("birds", true), run("cars", true)]));
        assert!(!says(vec![run("birds", true), run("birds", true)]));
        assert!(!says(vec![run("birds", false), run("cars", false)]));
        assert!(!says(vec![run("birds", true), run("cars", false)]));
    }

    #[test]
    fn runs_are_sorted_by_seconds_and_by_settings_that_they_share() {
        let run = |name: &str, time: &str| Summary {
            run: name.into(),
            started: Some(format!("2026-01-02T03:04:{time}Z")),
            settings: [("seed".to_owned(), "1".to_owned())].into(),
            ..Summary::default()
        };
        let sorted = |column: &str, descending: bool| {
            let mut table = Table::of(vec![run("b", "07"), run("a", "16"), run("c", "05")]);
            table.sort(column, descending).map(|()| table.runs.iter().map(|run| run.run.clone()).collect::<String>())
        };
        assert_eq!((sorted("started", false).unwrap(), sorted("started", true).unwrap()), ("cba".into(), "abc".into()));
        assert_eq!(sorted("seed", false).unwrap(), "bac");
        assert!(sorted("seeds", false).is_err());
    }

    #[test]
    fn settings_that_follow_from_others_are_no_columns() {
        let run = |settings: &[(&str, &str)]| Summary {
            settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Summary::default()
        };
        let text = |first: &[(&str, &str)], second: &[(&str, &str)]| Table::of(vec![run(first), run(second)]).text();
        let of = |kind, mean| [("objective.kind", kind), ("objective.momentum", mean), ("objective.view", "1")];
        assert!(text(&of("a", "1"), &of("a", "2")).contains("momentum"));
        let kinds = text(&of("a", "1"), &of("b", "2"));
        assert!(kinds.contains("kind") && !kinds.contains("momentum"));
        let on = |source, mean| [("data.source", source), ("normalization.mean", mean)];
        assert!(text(&on("birds", "1"), &on("birds", "2")).contains("mean"));
        let sources = text(&on("birds", "1"), &on("cars", "2"));
        assert!(sources.contains("source") && !sources.contains("mean"));
    }

    #[test]
    fn missing_values_are_last_in_either_order() {
        let cells = || [Cell::Missing, value_of("10"), value_of("9.5"), value_of("\"text\"")];
        for (descending, want) in [(false, ["9.5", "10", "–"]), (true, ["10", "9.5", "–"])] {
            let [missing, ten, nine, _] = cells();
            let mut sorted = [missing, ten, nine];
            sorted.sort_by(|a, b| a.order(b, descending));
            assert_eq!(sorted.each_ref().map(Cell::text), want);
        }
        assert_eq!(value_of(&format!("\"{}\"", "x".repeat(30))).text(), format!("{}…", "x".repeat(23)));
        assert_eq!(cells()[3].text(), "text");
        assert_eq!(value_of(&format!("1{}.0", "0".repeat(30))).text(), "1e30");
        let path = value_of("\"/home/me/images/birds-and-owls\"");
        assert_eq!((path.text(), path.text().chars().count()), ("…e/images/birds-and-owls", LONGEST));
        assert_eq!(value_of("\"\"").text(), "–");
    }

    #[test]
    fn wide_tables_are_parted_and_every_part_names_the_runs() {
        let column = |heading: &str, width: usize| vec![heading.to_owned(), "x".repeat(width)];
        let columns = [column("run", 10), column("a", 30), column("b", 36), column("c", 40), column("d", 100)];
        let text: Vec<Vec<&str>> =
            parts(&columns).iter().map(|part| part.iter().map(|column| column[0].as_str()).collect()).collect();
        assert_eq!(text, [vec!["run", "a", "b"], vec!["run", "c"], vec!["run", "d"]]);
        assert!(lines(&parts(&columns)[0]).lines().all(|line| line.chars().count() <= WIDTH));
    }
}
