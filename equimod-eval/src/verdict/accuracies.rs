//! Rules on accuracies and recalls: against the untrained network, the baseline and chance, and how far they can be trusted.

use std::cmp::Ordering;

use super::sides::{Against, Reference, Side, against, capitalized, is_judged, is_over_images, name};
use crate::results::{
    ACCURACY_OF_FLAG, AT_AN_END, DIFFERENCE, FEW_SHOT, FEW_STEPS, OTHER_EPOCHS, ResultRow, searched_whole_range, signed,
};

/// Half width of an interval, in points, above which the test set is called small.
pub const WIDE: f64 = 12.5;

/// Measures with a value of the untrained network.
pub(super) struct Gains<'a> {
    pub(super) measures: Vec<Against<'a>>,
    pub(super) could_have_untrained: bool,
}

impl<'a> Gains<'a> {
    pub(super) fn of(rows: &'a [ResultRow]) -> Self {
        let measures = features(against(rows, Reference::Untrained));
        let single = rows.iter().filter(|row| row.is_share() && row.model.is_empty() && row.chance.is_some());
        let evaluated = rows.iter().any(|row| row.untrained.is_some());
        let could_have_untrained = !evaluated && single.count() > 0;
        Self { measures, could_have_untrained }
    }

    pub(super) fn count(&self, side: Side) -> usize {
        self.measures.iter().filter(|one| one.side == side).count()
    }

    pub(super) fn is_disappointing(&self) -> bool {
        // Where every test image is right, there is nothing to gain.
        let could_gain = self.measures.iter().any(|one| one.row.value < 1.0);
        could_gain && (self.count(Side::Above) == 0 || self.count(Side::Below) > 0)
    }

    pub(super) fn sentence(&self) -> Option<String> {
        let (above, below, all) = (self.count(Side::Above), self.count(Side::Below), self.measures.len());
        let part = |count: usize| match all {
            1 => every(&self.measures),
            _ => format!("{count} of {}", counted(&self.measures)),
        };
        // The largest gain is one of those that are called gains, and the largest loss one of the losses.
        let of = |side: Side| {
            let some = self.measures.iter().any(|one| one.side == side);
            self.measures.iter().filter(move |one| one.side == side || !some)
        };
        let by_points = |a: &&Against, b: &&Against| a.points.total_cmp(&b.points);
        let most = of(Side::Above).max_by(by_points)?.points;
        let &Against { row: worst, points: least, .. } = of(Side::Below).min_by(by_points)?;
        let untrained = worst.untrained.map_or_else(String::new, |value| worst.text(value));
        Some(match (above, below) {
            (above, 0) if above == all => format!(
                "Features gained by training in {}: {} points over the untrained network.",
                every(&self.measures),
                if most - least < 0.05 {
                    range(least, most)
                } else {
                    format!("at least {least:+.1} and at most {most:+.1}")
                }
            ),
            (_, 0) if above > 0 => format!(
                "Features gained by training in {}, by up to {most:+.1} points over the untrained \
                 network; the other differences are not clear.",
                part(above)
            ),
            (_, 0) => format!(
                "Features neither gained nor lost by training as far as {} can tell: {} points against the untrained \
                 network {}.",
                if all == 1 { every(&self.measures) } else { counted(&self.measures) },
                range(least, most),
                self.uncertainty(),
            ),
            _ => {
                let gained = match above {
                    0 => String::new(),
                    _ => format!(" and gained in {above}, by up to {most:+.1} points"),
                };
                format!(
                    "Features lost by training in {}{gained}: {} is {} against {untrained} of the \
                     untrained network, {least:+.1} points.",
                    part(below),
                    name(worst),
                    worst.text(worst.value),
                )
            }
        })
    }

    /// Why differences that are not clear are so.
    fn uncertainty(&self) -> String {
        let all = self.measures.len();
        let confirmed = "the interval excludes 0, but McNemar's exact test has p above 0.05";
        match self.measures.iter().filter(|one| one.is_borderline).count() {
            0 if all == 1 => "lie within the uncertainty of the test images".into(),
            0 => "all lie within the uncertainty of the test images".into(),
            count if count == all => format!("are borderline: {confirmed}"),
            count => format!("are not clear, {count} of them borderline: {confirmed}"),
        }
    }
}

/// The noun for one of some measures, and for several.
fn nouns(measures: &[Against]) -> (&'static str, &'static str) {
    let accuracies = measures.iter().filter(|one| one.row.metric.contains("accuracy")).count();
    match accuracies {
        0 => ("first-rank measure", "first-rank measures"),
        some if some == measures.len() => ("accuracy", "accuracies"),
        _ => ("accuracy or first-rank measure", "accuracies and first-rank measures"),
    }
}

fn counted(measures: &[Against]) -> String {
    let (one, several) = nouns(measures);
    if measures.len() == 1 { format!("one {one}") } else { format!("{} {several}", measures.len()) }
}

fn every(measures: &[Against]) -> String {
    let (_, several) = nouns(measures);
    match measures.len() {
        1 => measures[0].row.metric.clone(),
        2 => format!("both {several}"),
        count => format!("all {count} {several}"),
    }
}

fn range(least: f64, most: f64) -> String {
    if most - least < 0.05 { signed(most, 1) } else { format!("{} to {}", signed(least, 1), signed(most, 1)) }
}

/// Measures against the baseline, a run with the same seed.
pub(super) fn baseline(rows: &[ResultRow]) -> Option<String> {
    let said = of_baseline(rows)?;
    Some(format!("Against the baseline without the module's loss, with this one seed, {said}."))
}

/// Measures against the baseline, as a clause.
pub fn of_baseline(rows: &[ResultRow]) -> Option<String> {
    let all = features(against(rows, Reference::Baseline));
    let of = |side: Side| all.iter().filter(move |one| one.side == side);
    let part = |side: Side, word: &str| {
        let Against { row, points, .. } = of(side).max_by(|a, b| a.points.abs().total_cmp(&b.points.abs()))?;
        let count = if all.len() == 1 { String::new() } else { format!(" in {}", of(side).count()) };
        Some(format!("{word}{count} ({points:+.1} points on {}, {})", row.task, row.protocol_name()))
    };
    let open = of(Side::Around).count();
    if open == all.len() {
        let points = || all.iter().map(|one| one.points);
        let (least, most) = points().min_by(f64::total_cmp).zip(points().max_by(f64::total_cmp))?;
        return Some(format!("there is no clear difference ({} points)", range(least, most)));
    }
    let open = (open > 0).then(|| format!("no clear difference in {open}"));
    let parts = [part(Side::Above, "higher"), part(Side::Below, "lower"), open];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| {
        let all = if all.len() == 1 { format!("{} is", every(&all)) } else { format!("of {}:", counted(&all)) };
        format!("{all} {}", parts.join(", "))
    })
}

/// The measures of features alone: nothing trains the predictor of an untrained network, or without the module's loss.
fn features(measures: Vec<Against>) -> Vec<Against> {
    measures.into_iter().filter(|one| !one.row.is_of_predictor()).collect()
}

/// Few-shot accuracies against the untrained network: their intervals say nothing about other images.
pub(super) fn few_shot(rows: &[ResultRow]) -> Option<String> {
    let few: Vec<&ResultRow> = rows.iter().filter(|row| !is_over_images(row)).collect();
    let points_over = |reference: fn(&ResultRow) -> Option<f64>| {
        let points = || few.iter().filter_map(|row| Some(100.0 * (row.value - reference(row)?)));
        points().min_by(f64::total_cmp).zip(points().max_by(f64::total_cmp))
    };
    let Some((least, most)) = points_over(|row| row.untrained) else {
        if let Some((least, most)) = points_over(|row| row.baseline) {
            return Some(format!(
                "Few-shot accuracy minus that of the baseline is {} points, and the untrained network was not evaluated; \
                 intervals are over episodes that share the test images, so other images may say otherwise.",
                range(least, most)
            ));
        }
        let text = "Few-shot accuracy may come from the network's structure as well as from its training: the untrained \
                    network was not evaluated.";
        return (!few.is_empty()).then(|| text.into());
    };
    // Of both signs, which is which.
    let over = |row: &ResultRow| row.untrained.map(|value| row.value - value);
    let classifier = |row: &&ResultRow| {
        format!("{} by {}", row.metric.trim_end_matches(" accuracy"), row.protocol.trim_start_matches(FEW_SHOT))
    };
    let judged = || few.iter().copied().filter(|row| row.untrained.is_some());
    let by_gain = |a: &&ResultRow, b: &&ResultRow| over(a).partial_cmp(&over(b)).unwrap_or(Ordering::Equal);
    let ends = judged().min_by(by_gain).zip(judged().max_by(by_gain)).filter(|_| least < 0.0 && most > 0.0);
    let ends = ends.map_or_else(String::new, |(low, high)| {
        format!(" (lowest: {}; highest: {})", classifier(&low), classifier(&high))
    });
    Some(format!(
        "Few-shot accuracy minus that of the untrained network is {} points{ends}{}; intervals are over episodes that share \
         the test images, so other images may say otherwise.",
        range(least, most),
        points_over(|row| row.baseline).map_or_else(String::new, |(least, most)| {
            format!(", and minus that of the baseline {} points", range(least, most))
        })
    ))
}

/// Few-shot accuracies that are not above chance, even on these images.
pub(super) fn few_shot_chance(rows: &[ResultRow]) -> Option<String> {
    let few: Vec<&ResultRow> = rows.iter().filter(|row| !is_over_images(row) && row.chance.is_some()).collect();
    let is_above = |row: &&&ResultRow| {
        row.interval.zip(row.chance).is_some_and(|(interval, chance)| Side::of(interval, chance) == Side::Above)
    };
    let below = few.len() - few.iter().filter(is_above).count();
    (below > 0).then(|| match few.len() {
        all if all == below => "Few-shot accuracy is not clearly above chance.".to_owned(),
        all => format!("Few-shot accuracy is clearly above chance in {} of {all} settings only.", all - below),
    })
}

/// Whether the test set is small, by the widest interval of a share, or by one without width.
pub(super) fn precision(rows: &[ResultRow]) -> Option<String> {
    let is_other = |row: &ResultRow| row.metric == ACCURACY_OF_FLAG || row.metric.starts_with(DIFFERENCE);
    let of_one = |row: &&ResultRow| row.is_share() && is_over_images(row) && !is_other(row);
    let shares = || rows.iter().filter(of_one);
    let half = |row: &ResultRow| row.interval.map(|(low, high)| 50.0 * (high - low));
    let widest = shares().filter_map(half).max_by(f64::total_cmp)?;
    if widest > WIDE {
        return Some(format!(
            "The test set is small: intervals reach up to ±{widest:.0} points; more test images would tell more."
        ));
    }
    // Resampling images of which all are right, or none, gives the same share every time.
    let is_certain = |row: &&ResultRow| is_judged(row, rows) && (row.value <= 0.0 || row.value >= 1.0);
    let same = shares().find(is_certain)?;
    // A paired difference may be clear nevertheless.
    let others = [
        ("the untrained network", same.untrained, same.over_untrained),
        ("the baseline", same.baseline, same.over_baseline),
    ];
    let open = others.into_iter().filter(|(_, _, paired)| !paired.is_some_and(|paired| paired.is_clear()));
    let others: Vec<String> =
        open.filter_map(|(name, value, _)| Some(format!("{name} ({})", same.text(value?)))).collect();
    if others.is_empty() && [same.untrained, same.baseline].iter().any(Option::is_some) {
        return None;
    }
    let from = if others.is_empty() { String::new() } else { format!(" from {}", others.join(" and ")) };
    Some(format!(
        "The interval of {} has no width, because {} test image is right: only more or harder images can show a \
         difference{from}.",
        name(same),
        if same.value > 0.5 { "every" } else { "no" }
    ))
}

/// A classifier that was trained for other epochs than the published ones.
pub(super) fn other_epochs(rows: &[ResultRow]) -> Option<String> {
    let is_judged = |row: &&ResultRow| is_judged(row, rows);
    let row = rows.iter().filter(is_judged).find(|row| row.detail.contains(OTHER_EPOCHS))?;
    let classifier = if row.protocol == "linear" { "linear layer" } else { "fine-tuned network" };
    Some(format!(
        "The {classifier} of {} was not trained for the published number of epochs, with which accuracies and their \
         differences may be others.",
        row.task
    ))
}

/// A linear layer with too few steps to converge: which features it fits faster is not which are better.
pub(super) fn few_steps(rows: &[ResultRow]) -> Option<String> {
    let row = rows.iter().filter(|row| is_judged(row, rows)).find(|row| row.detail.contains(FEW_STEPS))?;
    let steps = row.detail.split(FEW_STEPS).next()?.trim_end().rsplit('(').next()?;
    Some(format!(
        "The linear layer of {} had only {steps} steps, too few to converge: a higher accuracy may be one of faster \
         fitting; logistic regression fits to the optimum.",
        row.task
    ))
}

/// Whether none of several measures is clearly above chance.
pub(super) fn is_all_chance(rows: &[ResultRow]) -> bool {
    let judged = against(rows, Reference::Chance);
    !judged.is_empty() && judged.iter().all(|one| one.side != Side::Above)
}

/// Measures that are not clearly above chance. If there are none, and the untrained network was not evaluated, that.
pub(super) fn chance(rows: &[ResultRow], alone: bool) -> Option<String> {
    let judged = against(rows, Reference::Chance);
    let below: Vec<&Against> = judged.iter().filter(|one| one.side != Side::Above).collect();
    let Some(first) = below.first() else {
        let all = capitalized(&every(&judged));
        let lies = if judged.len() == 1 { "lies" } else { "lie" };
        return (alone && !judged.is_empty()).then(|| {
            format!("{all} {lies} clearly above chance; the untrained network may, too, and was not evaluated.")
        });
    };
    let more = match below.len() {
        1 => " is".to_owned(),
        others => format!(" and {} more are", others - 1),
    };
    Some(format!("{}{more} not clearly above chance.", capitalized(&name(first.row))))
}

/// Hyperparameters at an end of the range that was searched.
pub(super) fn range_end(rows: &[ResultRow]) -> Option<String> {
    let at_end = |row: &&ResultRow| row.chosen.as_ref().is_some_and(|chosen| chosen.contains(AT_AN_END));
    let mut tasks: Vec<&str> = Vec::new();
    for row in rows.iter().filter(at_end) {
        if !tasks.contains(&row.task.as_str()) {
            tasks.push(&row.task);
        }
    }
    let strengths = if tasks.len() == 1 { "strength" } else { "strengths" };
    // The whole range has no wider one.
    let searched_all = rows.iter().filter(at_end).all(searched_whole_range);
    let wider = if searched_all { "" } else { "; a wider range may do better, also for the networks beside it" };
    let is = if tasks.len() == 1 { "is" } else { "are" };
    (!tasks.is_empty()).then(|| {
        format!("The L2 {strengths} of {} {is} at an end of the range that was searched{wider}.", tasks.join(", "))
    })
}
