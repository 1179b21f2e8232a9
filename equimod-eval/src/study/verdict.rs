//! The verdict of a study: sentences computed from its numbers.

use super::effects::baselines;
use super::{Cell, Effect, State, StudyRecord, effects, headline};

/// Sentences on what the numbers of the study show.
pub fn verdict(record: &StudyRecord) -> Vec<String> {
    let main = headline(record);
    let mut sentences: Vec<String> = Vec::new();
    for (number, name) in baselines(record) {
        let all = effects(record, number, &main);
        sentences.extend(counted(record, &all, &name));
        sentences.extend(extremes(record, &all));
    }
    sentences.extend(bad_runs(record));
    sentences
}

/// What is said of differences that stand with two seeds, whose spread two values cannot tell.
const TWO_SEEDS: &str = " Two seeds can agree by chance: confirm with a third.";

/// What gives a study more seeds.
const MORE_SEEDS: &str = "add some to `seeds` in the study's file, and run it again, which keeps finished runs";

/// How many differences stand, and how many cannot be separated.
fn counted(record: &StudyRecord, all: &[Effect], name: &str) -> Option<String> {
    if all.is_empty() {
        return None;
    }
    if record.seeds.len() < 2 {
        return Some(format!("One seed a cell: differences from {name} say nothing about other seeds; {MORE_SEEDS}."));
    }
    let up = all.iter().filter(|effect| effect.stands() && effect.mean > 0.0).count();
    let down = all.iter().filter(|effect| effect.stands() && effect.mean < 0.0).count();
    let few = match up + down {
        0 => within(record, all).unwrap_or_default(),
        _ if record.seeds.len() == 2 => TWO_SEEDS.to_owned(),
        _ => String::new(),
    };
    Some(format!(
        "Differences from {name}: {up} of {} are above 0 and {down} below after Holm's correction; {} cannot be separated \
         from 0 with {} seeds.{few}",
        all.len(),
        all.len() - up - down,
        record.seeds.len()
    ))
}

/// How large differences in per cent may be that these seeds do not show, and what shows them.
fn within(record: &StudyRecord, all: &[Effect]) -> Option<String> {
    let shares = all.iter().filter(|effect| record.measures[effect.measure].is_share());
    let half = |effect: &Effect| effect.over_seeds.map(|(low, high)| 50.0 * (high - low));
    let widths: Vec<f64> = shares.filter_map(half).collect();
    let [least, most] = [f64::min, f64::max].map(|of: fn(f64, f64) -> f64| widths.iter().copied().reduce(of));
    let (least, most) = least.zip(most)?;
    let to = if most - least < 0.05 { String::new() } else { format!(" to {most:.1}") };
    Some(format!(" Their intervals are ±{least:.1}{to} points wide; more seeds narrow them: {MORE_SEEDS}."))
}

/// The largest differences in per cent that stand, on both sides.
fn extremes(record: &StudyRecord, all: &[Effect]) -> Option<String> {
    let shares = || all.iter().filter(|effect| effect.stands() && record.measures[effect.measure].is_share());
    let most = shares().filter(|effect| effect.mean > 0.0).max_by(|a, b| a.mean.total_cmp(&b.mean));
    let least = shares().filter(|effect| effect.mean < 0.0).min_by(|a, b| a.mean.total_cmp(&b.mean));
    let named = |what: &str, effect: &Effect| {
        let measure = &record.measures[effect.measure];
        let (low, high) = effect.over_seeds.unwrap_or((effect.mean, effect.mean));
        let interval = format!("{} to {}", measure.signed(low), measure.signed(high));
        let cell = &record.cells[effect.cell].name;
        format!("{what} {} of {cell} in {} ({interval})", measure.signed(effect.mean), measure.title())
    };
    let parts: Vec<String> = [("the largest gain is", most), ("the largest loss is", least)]
        .into_iter()
        .filter_map(|(what, effect)| Some(named(what, effect?)))
        .collect();
    (!parts.is_empty()).then(|| format!("In points, {}.", parts.join("; ")))
}

/// Runs that diverged, collapsed or are open.
fn bad_runs(record: &StudyRecord) -> Option<String> {
    let named = |cell: &Cell| (!cell.state().is_empty()).then(|| format!("{} ({})", cell.name, cell.state()));
    let cells: Vec<String> = record.cells.iter().filter_map(named).collect();
    let runs = || record.cells.iter().flat_map(|cell| &cell.runs);
    let bad = runs().filter(|run| run.state != State::Finished).count();
    (bad > 0).then(|| format!("{bad} of {} runs did not finish soundly: {}.", runs().count(), cells.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::effects::tests::example;

    #[test]
    fn the_verdict_counts_what_stands() {
        let sentences = verdict(&example());
        assert!(sentences[0].starts_with("Differences from plain: 0 of 1 are above 0 and 0 below"), "{sentences:?}");
        let text = "1 cannot be separated from 0 with 3 seeds. Their intervals are ±";
        assert!(sentences[0].contains(text) && sentences[0].ends_with("which keeps finished runs."), "{sentences:?}");
        // Differences of 0.2 and 0.3: a half width of 12.706 times the error of 0.05.
        assert!(sentences[0].contains("±63.5 points wide; more seeds"), "{sentences:?}");
        assert_eq!(sentences[1], "1 of 6 runs did not finish soundly: equimod (1 of 3 diverged).");
        let mut sure = example();
        sure.cells[1].runs[0].values[0] = Some(0.8001);
        assert!(verdict(&sure)[1].starts_with("In points, the largest gain is +30.0 of equimod in birds"));
        assert!(!verdict(&sure)[0].contains("by chance"));
        sure.seeds = vec![0, 1];
        assert!(verdict(&sure)[0].ends_with("with 2 seeds. Two seeds can agree by chance: confirm with a third."));
        assert!(!verdict(&StudyRecord { seeds: vec![0, 1], ..example() })[0].contains("by chance"));
        sure.seeds = vec![0];
        assert!(verdict(&sure)[0].starts_with("One seed a cell"));
    }
}
