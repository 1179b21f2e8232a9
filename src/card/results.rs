//! The results on a card: which rows it shows, and the sentences on them.

use std::cmp::Reverse;

use equimod_eval::ResultRow;
use equimod_eval::evaluation::MEAN_PER_CLASS;
use equimod_eval::results::{
    ABSOLUTE, EQUIVARIANCE, HELD_OUT, Results, SHUFFLED, SUITE_MEAN, TOP_1, headline_accuracy, is_better_founded,
    is_reduced, markdown,
};

use serde::Serialize;

use crate::artifact::{Files, RESULTS_FILE, other_test, read};
use crate::reference::{plain_name, shown};

/// Results of the export: those of the run itself come first, those with the default settings of a protocol, whose
/// folders have short names, last.
pub fn results(files: &Files) -> anyhow::Result<Vec<Results>> {
    let mut names: Vec<&String> = files.keys().filter(|name| name.ends_with(RESULTS_FILE)).collect();
    names.sort_by_key(|name| (name.contains('/'), Reverse(name.len()), name.as_str()));
    names.into_iter().map(|name| read(files, name)).collect()
}

/// Headline rows without duplicates; a separate evaluation replaces the one at the end of the run. Evaluations with other
/// settings than the defaults stand only for numbers without one that has these. The mean over classes stands only for data sets without a top-1 accuracy.
pub fn headlines(results: &[Results]) -> Vec<ResultRow> {
    let mut rows: Vec<ResultRow> = Vec::new();
    let (suites, own): (Vec<&Results>, Vec<&Results>) = results.iter().partition(|results| is_suite(results));
    let own: Vec<ResultRow> = own.into_iter().flat_map(of_model).filter(is_headline).collect();
    // A task of a suite may be an evaluation of its own under another name.
    let default = || own.iter().filter(|row| row.settings.is_empty());
    let repeats = |row: &ResultRow| default().any(|other| is_same_measurement(row, other));
    let of_suites: Vec<ResultRow> = suites.into_iter().flat_map(of_model).filter(is_headline).collect();
    let (repeated, of_suites): (Vec<ResultRow>, Vec<ResultRow>) = of_suites.into_iter().partition(|row| repeats(row));
    // The suite may have the value of the untrained network.
    let own = own.iter().map(|row| {
        let same = repeated.iter().filter(|other| is_same_measurement(row, other));
        let untrained = row.untrained.or_else(|| same.filter_map(|other| other.untrained).next());
        ResultRow { untrained, ..row.clone() }
    });
    let measured: Vec<ResultRow> = own.chain(of_suites).collect();
    // A number with the defaults stands alone; without one, each trial stands with its settings. On other test images, it
    // is another number.
    let number = |row: &ResultRow| (row.key().map(str::to_owned), other_test(row).map(str::to_owned));
    let is_default = |row: &ResultRow| other_test(row).unwrap_or_default() == row.settings;
    let with_defaults =
        |row: &ResultRow| measured.iter().any(|other| is_default(other) && number(other) == number(row));
    for row in measured.iter().filter(|row| is_default(row) || !with_defaults(row)) {
        match rows.iter_mut().find(|other| other.key() == row.key() && other.settings == row.settings) {
            Some(other) if replaces(row, other) => *other = row.clone(),
            Some(_) => {}
            None => rows.push(row.clone()),
        }
    }
    let top_1: Vec<[String; 3]> = rows.iter().filter(|row| row.metric == TOP_1).map(classified).collect();
    rows.retain(|row| row.metric != MEAN_PER_CLASS || !top_1.contains(&classified(row)));
    // Trials come last.
    rows.sort_by_key(|row| !row.settings.is_empty());
    rows
}

/// Whether results are those of a suite of tasks.
fn is_suite(results: &Results) -> bool {
    results.rows.iter().any(|row| row.metric == SUITE_MEAN)
}

/// Whether two rows have the same number, of the same images.
fn is_same_measurement(row: &ResultRow, other: &ResultRow) -> bool {
    let of = |row: &ResultRow| (row.protocol.clone(), row.data.clone(), row.metric.clone(), row.value, row.interval);
    of(row) == of(other)
}

/// The rows of the exported model, with the values of its untrained network if that was evaluated as another model.
fn of_model(results: &Results) -> Vec<ResultRow> {
    let untrained = results.models.get(1).map(|untrained| untrained.name.as_str());
    let of_untrained = |row: &&ResultRow| Some(row.model.as_str()) == untrained;
    let value = |row: &ResultRow| {
        results.rows.iter().filter(of_untrained).find(|other| other.key() == row.key()).map(|other| other.value)
    };
    let of_card =
        |row: &ResultRow| ResultRow { untrained: row.untrained.or(value(row)), model: String::new(), ..row.clone() };
    results.of_first().map(of_card).collect()
}

/// The classification that an accuracy is of.
fn classified(row: &ResultRow) -> [String; 3] {
    [&row.protocol, &row.data, &row.task].map(String::clone)
}

/// Whether a row of a later evaluation replaces that of an earlier one: if it is better founded, or as well founded and no
/// repetition that lacks the value of the untrained network.
fn replaces(row: &ResultRow, earlier: &ResultRow) -> bool {
    let measured = |row: &ResultRow| (row.settings.clone(), row.detail.clone(), row.chosen.clone());
    let is_same = measured(row) == measured(earlier);
    let adds = row.untrained.is_some() || earlier.untrained.is_none() || !is_same;
    is_better_founded(row, earlier) || (adds && !is_better_founded(earlier, row))
}

fn is_headline(row: &ResultRow) -> bool {
    let whole = !row.task.ends_with(" alone");
    let metric = row.metric.as_str();
    row.value.is_finite()
        && ([TOP_1, MEAN_PER_CLASS, "recall@1", "MRR", "pooled R²"].contains(&metric)
            || metric.ends_with("-shot accuracy")
            || (whole && (metric == ABSOLUTE || metric == SHUFFLED)))
}

/// Images that the features were learned on, and that numbers are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeenImages {
    /// Training images that are held out for classifiers, since the images have no test split.
    HeldOut,
    /// Training images in other rows alone.
    Training,
}

impl SeenImages {
    /// Those of `rows` on images of the source `own`, if any.
    pub fn of(rows: &[ResultRow], own: &str) -> Option<Self> {
        let is_own = |row: &&ResultRow| plain_name(&row.data) == plain_name(own) && other_test(row).is_none();
        let has = |part: &str| rows.iter().filter(is_own).any(|row| row.detail.contains(part));
        match has(HELD_OUT) {
            true => Some(Self::HeldOut),
            false => has("training images,").then_some(Self::Training),
        }
    }
}

/// One sentence with the headline result: the best founded one on the images `own` of training if there is any, else on
/// others, or else on test images of another source.
pub fn claim(rows: &[ResultRow], own: Option<&str>, network: &str, method: Option<&str>) -> Option<String> {
    // Test images of another source are not those of the data set.
    let (of_data, elsewhere): (Vec<ResultRow>, Vec<ResultRow>) =
        rows.iter().cloned().partition(|row| other_test(row).is_none());
    let is_own = |row: &&ResultRow| own.is_some_and(|own| plain_name(&row.data) == plain_name(own));
    let on_own: Vec<ResultRow> = of_data.iter().filter(is_own).cloned().collect();
    let row = [&on_own, &of_data, &elsewhere].into_iter().find_map(|rows| headline_accuracy(rows))?;
    let protocol = match row.protocol.as_str() {
        "linear" => "a linear layer on frozen features",
        "logistic" if is_reduced(row) => "a quick search of logistic regression on frozen features",
        "logistic" => "logistic regression on frozen features",
        _ => "k-nearest-neighbor classification of frozen features",
    };
    let mut also = Vec::new();
    also.extend(row.interval_text().map(|interval| match row.interval.is_some_and(|(low, high)| low == high) {
        true => format!(
            "every image {}, so that the interval has no width",
            if row.value > 0.0 { "right" } else { "wrong" }
        ),
        false => format!("95 % interval {interval}"),
    }));
    also.extend(row.baseline.map(|value| format!("{} without the module's loss", row.text(value))));
    also.extend(row.untrained.map(|value| format!("{} with random weights", row.text(value))));
    also.extend(row.chance.map(|value| format!("chance {}", row.text(value))));
    also.extend((!row.settings.is_empty()).then(|| format!("other settings: {}", row.settings)));
    let task = if row.task.is_empty() { String::new() } else { format!(", task {}", row.task) };
    let by = method.map_or_else(String::new, |method| format!(" trained with {method}"));
    Some(format!(
        "**{} {}** ({}) with {protocol} of a {network}{by}, on `{}`{task}.",
        row.text(row.value),
        row.metric,
        also.join("; "),
        shown(&row.data)
    ))
}

/// One sentence with the equivariance results.
pub fn equivariance(rows: &[ResultRow]) -> Option<String> {
    let measured = |metric: &str| rows.iter().find(|row| row.protocol == EQUIVARIANCE && row.metric == metric);
    let row = measured(ABSOLUTE)?;
    let data = shown(&row.data);
    let shuffled = measured(SHUFFLED)
        .map_or_else(String::new, |row| format!(", with the parameters of other views {}", row.text(row.value)));
    if row.interval.is_some_and(|(low, high)| low <= 0.0 && high >= 0.0) {
        return Some(format!(
            "On `{data}`, the prediction from an image and the parameters of a view is not clearly closer to the \
             embedding of the view than the embedding of the image is: absolute equivariance {} (95 % interval {}).",
            row.text(row.value),
            row.interval_text().unwrap_or_default()
        ));
    }
    let side = if row.value > 0.0 { "closer to" } else { "farther from" };
    Some(format!(
        "On `{data}`, the prediction from an image and the parameters of a view is {side} the embedding of the view \
         than the embedding of the image is: absolute equivariance {}{shuffled}.",
        row.text(row.value)
    ))
}

/// The rows as a table in Markdown.
pub fn table(rows: &[ResultRow]) -> String {
    let shown: Vec<ResultRow> = rows.iter().map(|row| ResultRow { data: shown(&row.data), ..row.clone() }).collect();
    markdown(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use equimod_eval::results::EvaluatedModel;

    fn row(metric: &str, value: f64, strengths: usize, untrained: Option<f64>) -> ResultRow {
        ResultRow {
            protocol: "logistic".into(),
            metric: metric.into(),
            value,
            untrained,
            chosen: Some(format!("w 1, the best of {strengths} on validation")),
            ..ResultRow::default()
        }
    }

    fn values(files: Vec<Vec<ResultRow>>) -> Vec<f64> {
        let files: Vec<Results> = files.into_iter().map(|rows| Results { rows, ..Results::default() }).collect();
        headlines(&files).iter().map(|row| row.value).collect()
    }

    #[test]
    fn images_that_training_saw_are_known_from_the_details_on_its_data() {
        let row = |data: &str, detail: &str| ResultRow {
            data: data.into(),
            detail: detail.into(),
            ..row(TOP_1, 0.5, 45, None)
        };
        let own = |rows: &[ResultRow]| SeenImages::of(rows, "birds");
        let params = row("birds", "432 training images, 54 for validation, 54 held out");
        assert_eq!(own(&[row("birds", "L-BFGS; 176 test images of 9 classes")]), None);
        assert_eq!(own(&[row("birds", "L-BFGS; 176 test images"), params.clone()]), Some(SeenImages::Training));
        assert_eq!(own(&[row("birds", "L-BFGS; 36 held-out images"), params.clone()]), Some(SeenImages::HeldOut));
        assert_eq!(own(&[row("cars", "L-BFGS; 36 held-out images")]), None);
    }

    #[test]
    fn the_whole_search_replaces_a_quick_look_and_not_the_other_way_around() {
        let (quick, whole) = (row(TOP_1, 0.46, 4, Some(0.4)), row(TOP_1, 0.45, 45, None));
        assert_eq!(values(vec![vec![quick.clone()], vec![whole.clone()]]), [0.45]);
        assert_eq!(values(vec![vec![whole.clone()], vec![quick]]), [0.45]);
        // A repetition without the untrained network replaces nothing.
        let with_untrained = row(TOP_1, 0.44, 45, Some(0.4));
        assert_eq!(values(vec![vec![with_untrained], vec![whole]]), [0.44]);
    }

    #[test]
    fn trials_are_no_headline_beside_others_and_an_untrained_model_is_a_reference() {
        let whole = |model: &str, value| ResultRow { model: model.into(), ..row(TOP_1, value, 45, None) };
        let model = |name: &str| EvaluatedModel { name: name.into(), ..Default::default() };
        let trial = ResultRow { settings: "size-48".into(), ..whole("", 0.9) };
        let trial = Results { rows: vec![trial], ..Results::default() };
        let found = headlines(std::slice::from_ref(&trial));
        assert!(
            found.len() == 1 && claim(&found, None, "ResNet-18", None).unwrap().contains("other settings: size-48")
        );
        let linear = Results {
            rows: vec![ResultRow { protocol: "linear".into(), settings: "lr-1".into(), ..whole("", 0.9) }],
            ..Results::default()
        };
        let published = Results { rows: vec![whole("", 0.5)], ..Results::default() };
        let rows = headlines(&[published, linear]);
        assert!(rows.len() == 2 && headline_accuracy(&rows).unwrap().protocol == "logistic");
        let suite = Results {
            models: vec![model("mine"), model("mine untrained")],
            rows: vec![whole("mine", 0.5), whole("mine untrained", 0.4)],
            ..Results::default()
        };
        let found = headlines(&[suite, trial]);
        let [row] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((row.value, row.untrained, row.model.as_str()), (0.5, Some(0.4), ""));
        // Without a number with the defaults, all trials stand.
        let of = |settings: &str, value| ResultRow { settings: settings.into(), ..whole("", value) };
        let trials = || vec![vec![of("size-48", 0.9)], vec![of("size-64", 0.8)], vec![of("size-48", 0.7)]];
        assert_eq!(values(trials()), [0.7, 0.8]);
        assert_eq!(values([trials(), vec![vec![of("", 0.5)]]].concat()), [0.5]);
        // Other test images give another number, with trials of its own.
        let shifted = || vec![vec![of("test-sketches", 0.3)], vec![of("size-48, test-sketches", 0.2)]];
        assert_eq!(values([shifted(), vec![vec![of("", 0.5)]]].concat()), [0.5, 0.3]);
        assert_eq!(values([vec![shifted()[1].clone()], vec![vec![of("", 0.5)]]].concat()), [0.5, 0.2]);
    }

    #[test]
    fn a_task_of_a_suite_that_repeats_an_evaluation_stands_once() {
        let of = |task: &str, value| ResultRow { task: task.into(), ..row(TOP_1, value, 45, None) };
        let mean = || ResultRow { protocol: "suite".into(), metric: SUITE_MEAN.into(), ..ResultRow::default() };
        let own = || vec![of("class", 0.5), of("color", 0.7)];
        assert_eq!(values(vec![own(), vec![of("Birds", 0.5), of("Pets", 0.6), mean()]]), [0.5, 0.7, 0.6]);
        // The control of the suite stays.
        let with_control = ResultRow { untrained: Some(0.6), ..of("Birds", 0.5) };
        let files = [vec![of("class", 0.5)], vec![with_control, mean()]];
        let found = headlines(&files.map(|rows| Results { rows, ..Results::default() }));
        assert_eq!(found.iter().map(|row| row.untrained).collect::<Vec<_>>(), [Some(0.6)]);
        // A trial does not stand for the task.
        let trial = ResultRow { settings: "by-class".into(), ..of("class", 0.5) };
        assert_eq!(values(vec![vec![trial], vec![of("Birds", 0.5), mean()]]), [0.5, 0.5]);
        // Two tasks of a data set may have the same accuracy.
        assert_eq!(values(vec![own(), vec![of("size", 0.5)]]), [0.5, 0.7, 0.5]);
    }

    #[test]
    fn the_headline_is_on_the_images_of_training_if_there_is_one() {
        let on = |data: &str, value, strengths| ResultRow { data: data.into(), ..row(TOP_1, value, strengths, None) };
        let of = |rows: &[ResultRow], own| claim(rows, Some(own), "ResNet-18", None).unwrap();
        let rows = [on("birds", 0.9, 45), on("logos", 0.5, 4)];
        assert!(of(&rows, "logos/").starts_with("**50.0 %") && of(&rows, "flowers").starts_with("**90.0 %"));
        let elsewhere = ResultRow { settings: "test-sketches".into(), ..on("flowers", 0.8, 45) };
        assert!(of(&[rows[1].clone(), elsewhere.clone()], "flowers").starts_with("**50.0 %"));
        assert!(of(&[elsewhere], "flowers").contains("other settings: test-sketches"));
    }

    #[test]
    fn the_mean_over_classes_stands_for_data_without_a_top_1_accuracy() {
        let other = ResultRow { data: "birds".into(), ..row(MEAN_PER_CLASS, 0.3, 45, None) };
        let rows = vec![row(TOP_1, 0.5, 45, None), row(MEAN_PER_CLASS, 0.4, 45, None), other];
        assert_eq!(values(vec![rows]), [0.5, 0.3]);
    }
}
