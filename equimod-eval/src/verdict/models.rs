//! Rules on several models: differences of pairs, and means over a suite.

use super::sides::{Side, capitalized, is_saturated};
use crate::results::{DIFFERENCE, NOT_CONFIRMED, OVER_TWO, ResultRow, SUITE_MEAN};

/// The mean of a model against that of its network before training, if that was evaluated and is not one of the two best.
fn untrained(means: &[&ResultRow]) -> Option<String> {
    let (place, row) = means.iter().enumerate().find(|(_, row)| row.model.ends_with(UNTRAINED))?;
    let model = row.model.strip_suffix(UNTRAINED)?;
    let of = means.iter().find(|other| other.model == model).filter(|_| place > 1)?;
    Some(format!("; {model} minus its untrained network is {}", of.difference(row)))
}

/// End of the name of a network before training.
const UNTRAINED: &str = " untrained";

/// The means over a suite of data sets, and how many of its columns each model leads.
pub(super) fn suite(rows: &[ResultRow]) -> Option<String> {
    let mut means: Vec<&ResultRow> = rows.iter().filter(|row| row.metric == SUITE_MEAN).collect();
    means.sort_by(|a, b| b.value.total_cmp(&a.value));
    let [first, second, ..] = means[..] else {
        let row = means.first()?;
        let text = format!("The mean over {} is {}", row.task, row.text(row.value));
        return Some(format!("{text}; what training has to do with it, another model beside it tells (--untrained)."));
    };
    let tasks: Vec<(&String, &String)> = rows
        .iter()
        .filter(|row| row.model == first.model && row.protocol != first.protocol && row.is_share())
        .map(|row| (&row.task, &row.metric))
        .collect();
    let value = |model: &str, (task, metric): (&String, &String)| {
        let same = |row: &&ResultRow| row.model == model && (&row.task, &row.metric) == (task, metric);
        rows.iter().find(same).map(|row| row.value)
    };
    if 100.0 * (first.value - second.value) < 0.05 {
        return Some(format!("By the mean over {}, {} and {} are equal.", first.task, first.model, second.model));
    }
    let untrained = untrained(&means).unwrap_or_default();
    let leads = |&task: &(&String, &String)| value(&first.model, task) > value(&second.model, task);
    let count = tasks.iter().copied().filter(leads).count();
    let is_clear = |&(task, metric): &(&String, &String)| {
        let same = |row: &&ResultRow| row.model == first.model && (&row.task, &row.metric) == (task, metric);
        // One without width, where every test image is right, says nothing of other images.
        let interval = rows.iter().find(same).and_then(|row| row.interval).filter(|(low, high)| low < high);
        interval.zip(value(&second.model, (task, metric))).is_some_and(|(of, other)| Side::of(of, other) == Side::Above)
    };
    let clear = match tasks.iter().copied().filter(is_clear).count() {
        0 => "in none of them, its whole interval lies above the other value".to_owned(),
        count => {
            format!("in {count} of them, its whole interval lies above the other value, but no paired test was made")
        }
    };
    Some(format!(
        "By the mean over {}, {} is {} points above {} ({} and {}), and higher in {count} of {}; {clear}{untrained}.",
        first.task,
        first.model,
        first.difference(second).trim_end_matches(" points").trim_start_matches('+'),
        second.model,
        first.text(first.value),
        second.text(second.value),
        tasks.len(),
    ))
}

/// Differences of a paired comparison.
pub(super) fn differences(rows: &[ResultRow]) -> Option<String> {
    let compared = rows.iter().filter(|row| row.metric.starts_with(DIFFERENCE));
    let sides: Vec<(&ResultRow, Side)> = compared.filter_map(|row| Some((row, Side::of(row.interval?, 0.0)))).collect();
    if sides.is_empty() {
        return None;
    }
    // The model of a difference is `B − A`.
    let (b, a) = sides[0].0.model.split_once(" − ").unwrap_or(("B", "A"));
    let signed = |row: &ResultRow, sign: f64| format!("{} ({:+.1} points)", row.task, sign * 100.0 * row.value);
    let named = |of: &dyn Fn(&ResultRow, Side) -> bool| -> Vec<String> {
        sides.iter().filter(|(row, side)| of(row, *side)).map(|(row, _)| signed(row, 1.0)).collect()
    };
    let confirmed = |row: &ResultRow| !row.detail.contains(NOT_CONFIRMED);
    // Points are those of the better model over the other one.
    let clear = |wanted: Side| -> Vec<String> {
        let sign = if wanted == Side::Above { 1.0 } else { -1.0 };
        let clear = sides.iter().filter(|(row, side)| *side == wanted && confirmed(row));
        clear.map(|(row, _)| signed(row, sign)).collect()
    };
    let (better, worse) = (clear(Side::Above), clear(Side::Below));
    let parts = [(format!("{b} is better than {a} on "), better), (format!("{a} is better than {b} on "), worse)];
    let mut said: Vec<String> = parts
        .into_iter()
        .filter(|(_, tasks)| !tasks.is_empty())
        .map(|(text, tasks)| format!("{text}{}", tasks.join(", ")))
        .collect();
    let borderline = named(&|row, side| side != Side::Around && !confirmed(row));
    if !borderline.is_empty() {
        let tasks = borderline.join(", ");
        said.push(format!("borderline on {tasks}: the interval excludes 0, but McNemar's exact test has p above 0.05"));
    }
    let (same, open): (Vec<&str>, Vec<&str>) = sides
        .iter()
        .filter(|(_, side)| *side == Side::Around)
        .map(|(row, _)| row.task.as_str())
        .partition(|task| is_saturated(rows.iter().filter(|row| row.task == *task)));
    if !same.is_empty() {
        said.push(format!(
            "no difference on {}, because every test image is right for all models: only more or harder images can show \
             one",
            same.join(", ")
        ));
    }
    let open = named(&|row, side| side == Side::Around && open.contains(&row.task.as_str()));
    if !open.is_empty() {
        said.push(format!("no clear difference on {}", open.join(", ")));
    }
    if sides.iter().any(|(row, side)| *side == Side::Around && row.detail.starts_with(OVER_TWO)) {
        said.push(
            "of two pairs, the interval is wide; with the same spread, a third makes it 3.6 times narrower".into(),
        );
    }
    let said = said.join("; ");
    let is_name = !said.starts_with("no ") && !said.starts_with("borderline ");
    Some(format!("{}.", if is_name { said } else { capitalized(&said) }))
}
