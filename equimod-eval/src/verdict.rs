//! The verdict: a few sentences that say what result rows mean, computed from their values and intervals.
//!
//! Each sentence follows from a rule on numbers; a rule that cannot be decided says so or stays silent.

use crate::results::{
    ABSOLUTE, AT_AN_END, DIFFERENCE, EFFECTIVE_RANK, FEW_SHOT, NORMALIZED_STD, NOT_CONFIRMED, POOLED_R2, R2, ResultRow,
    SHUFFLED, SUITE_MEAN, TOP_1,
};

/// Facts about the training of a run, besides its results.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingFacts {
    /// Steps of the run.
    pub steps: u64,
    /// Steps in which the learning rate rose.
    pub warmup_steps: u64,
    /// Name and last value of a metric that fell below its threshold for collapsed embeddings.
    pub collapsed: Option<(String, f64)>,
    /// Relative decrease of the loss from the last fifth but one of the run to its last fifth.
    pub still_falling: Option<f64>,
    /// Mean losses of the first twentieth and of the last fifth of the run, if the loss rose.
    pub risen: Option<(f64, f64)>,
}

impl TrainingFacts {
    /// Whether the loss had not settled at the end.
    pub fn is_falling(&self) -> bool {
        self.still_falling.is_some_and(|decrease| decrease > FALLING)
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Train with a lower learning rate.
    LowerRate,
    /// Train for more epochs.
    TrainLonger,
    /// Compare with the same run without the module's loss.
    CompareBaseline,
    /// Train run and baseline with another seed.
    RepeatWithSeed,
    /// Evaluate with the whole range of L2 strengths.
    WidenRange,
    /// Evaluate the untrained network as well.
    EvaluateUntrained,
}

/// Sentences, most important first, and the advice that follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// At most [`MOST_SENTENCES`] sentences.
    pub sentences: Vec<String>,
    /// The next step, if the numbers suggest one.
    pub advice: Option<Advice>,
}

/// Largest number of sentences of a verdict.
pub const MOST_SENTENCES: usize = 5;

/// Steps below which a run that did not help is called short.
pub const SHORT_RUN: u64 = 2000;
/// Steps below which a run is called short whatever its results.
pub const VERY_SHORT: u64 = 100;
/// Effective rank of features below which they collapsed, as in the guard of training.
pub const COLLAPSED_RANK: f64 = 2.0;
/// Relative decrease of the loss over the last fifth of a run above which it had not settled.
pub const FALLING: f64 = 0.02;

/// Half width of an interval, in points, above which the test set is called small.
pub const WIDE: f64 = 12.5;

/// A value against a reference: whether its interval lies above, around or below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Above,
    Around,
    Below,
}

impl Side {
    fn of((low, high): (f64, f64), reference: f64) -> Self {
        match (low > reference, high < reference) {
            (true, _) => Self::Above,
            (_, true) => Self::Below,
            _ => Self::Around,
        }
    }
}

/// The verdict on the rows of a run, an evaluation or a comparison.
pub fn verdict(rows: &[ResultRow], training: Option<&TrainingFacts>) -> Verdict {
    let (gains, predictions) = (Gains::of(rows), Predictions::of(rows));
    let (at_an_end, against_baseline) = (range_end(rows), baseline(rows));
    let disappointing = gains.is_disappointing() || predictions.side == Some(Side::Below);
    let failed = training.is_some_and(|training| training.collapsed.is_some() || training.risen.is_some());
    // In the order of reading. Of too many sentences, the last of the highest number are left out.
    let sentences = [
        (0, training.and_then(collapse)),
        (0, training.and_then(rise)),
        (0, gains.sentence()),
        (2, at_an_end.clone()),
        (2, precision(rows)),
        (1, against_baseline.clone()),
        (0, predictions.sentence.clone()),
        (2, unpredicted(rows)),
        (0, differences(rows)),
        (0, suite(rows)),
        (0, spread(rows)),
        (1, few_shot(rows)),
        (1, readable(rows)),
        (0, training.filter(|_| !failed).and_then(|training| pace(training, disappointing))),
        (1, chance(rows, gains.could_have_untrained)),
    ];
    let sentences = most_important(sentences.into_iter().filter_map(|(rank, text)| Some((rank, text?))).collect());
    let unsettled = training.is_some_and(|training| training.steps < SHORT_RUN || training.is_falling());
    let advice = match () {
        () if failed => Some(Advice::LowerRate),
        () if disappointing && unsettled => Some(Advice::TrainLonger),
        () if against_baseline.is_some() => Some(Advice::RepeatWithSeed),
        () if training.is_some() && predictions.side.is_some() => Some(Advice::CompareBaseline),
        () if at_an_end.is_some() && training.is_some() => Some(Advice::WidenRange),
        () if training.is_none() && gains.could_have_untrained => Some(Advice::EvaluateUntrained),
        () if training.is_none() && predictions.side.is_some_and(|side| side != Side::Above) => {
            Some(Advice::TrainLonger)
        }
        () => None,
    };
    Verdict { sentences, advice }
}

/// The sentences without the least important ones of too many.
fn most_important(mut sentences: Vec<(u8, String)>) -> Vec<String> {
    while sentences.len() > MOST_SENTENCES {
        // The last of the highest rank.
        let place =
            sentences.iter().enumerate().max_by_key(|(place, (rank, _))| (*rank, *place)).map(|(place, _)| place);
        sentences.remove(place.unwrap_or_default());
    }
    sentences.into_iter().map(|(_, text)| text).collect()
}

/// A share against a reference value.
struct Against<'a> {
    row: &'a ResultRow,
    side: Side,
    /// Value minus reference, in points.
    points: f64,
}

/// Whether the interval of a row is over test images, which stand for others.
fn is_over_images(row: &ResultRow) -> bool {
    !row.protocol.starts_with(FEW_SHOT)
}

/// Whether a row is another measure of the predictions or neighbors of a row that is judged.
fn is_secondary(row: &ResultRow, rows: &[ResultRow]) -> bool {
    let beside = |metric: &str| rows.iter().any(|other| other.metric == metric && same_model(other, row));
    [TOP_1, "recall@1", "H@1"].iter().any(|first| row.metric != *first && beside(first))
}

/// The shares that have an interval over test images and this reference value, one of each task and protocol.
fn against(rows: &[ResultRow], reference: fn(&ResultRow) -> Option<f64>) -> Vec<Against<'_>> {
    let one = |row| -> Option<Against> {
        let row: &ResultRow = row;
        let reference = reference(row)?;
        Some(Against { row, side: Side::of(row.interval?, reference), points: 100.0 * (row.value - reference) })
    };
    let judged = rows.iter().filter(|row| row.is_share() && is_over_images(row) && !is_secondary(row, rows));
    judged.filter_map(one).collect()
}

/// Measures with a value of the untrained network.
struct Gains<'a> {
    measures: Vec<Against<'a>>,
    could_have_untrained: bool,
}

impl<'a> Gains<'a> {
    fn of(rows: &'a [ResultRow]) -> Self {
        let measures = against(rows, |row| row.untrained);
        let single = rows.iter().filter(|row| row.is_share() && row.model.is_empty() && row.chance.is_some());
        let evaluated = rows.iter().any(|row| row.untrained.is_some());
        let could_have_untrained = !evaluated && single.count() > 0;
        Self { measures, could_have_untrained }
    }

    fn count(&self, side: Side) -> usize {
        self.measures.iter().filter(|one| one.side == side).count()
    }

    fn is_disappointing(&self) -> bool {
        !self.measures.is_empty() && (self.count(Side::Above) == 0 || self.count(Side::Below) > 0)
    }

    fn sentence(&self) -> Option<String> {
        let (above, below, all) = (self.count(Side::Above), self.count(Side::Below), self.measures.len());
        let by_points = |a: &&Against, b: &&Against| a.points.total_cmp(&b.points);
        let most = self.measures.iter().max_by(by_points)?.points;
        let &Against { row: worst, points: least, .. } = self.measures.iter().min_by(by_points)?;
        let untrained = worst.untrained.map_or_else(String::new, |value| worst.text(value));
        Some(match (above, below) {
            (above, 0) if above == all => format!(
                "Features gained by training in {}: {} points over the untrained network.",
                every(all),
                range(least, most)
            ),
            (_, 0) if above > 0 => format!(
                "Features gained by training in {above} of {all} measures, by up to {most:+.1} points over the untrained \
                 network; the other intervals contain its value."
            ),
            (_, 0) => {
                let contain =
                    if all == 1 { "its interval contains the value" } else { "the intervals contain the values" };
                format!(
                    "Features neither gained nor lost by training as far as {} can tell: {contain} of the untrained \
                     network.",
                    measures(all)
                )
            }
            _ => format!(
                "Features lost by training in {below} of {all} measures: {} is {} against {untrained} of the untrained \
                 network, {:+.1} points.",
                name(worst),
                worst.text(worst.value),
                least
            ),
        })
    }
}

fn measures(count: usize) -> String {
    if count == 1 { "one measure".into() } else { format!("{count} measures") }
}

fn every(count: usize) -> String {
    if count == 1 { "the only measure".into() } else { format!("all {count} measures") }
}

fn range(least: f64, most: f64) -> String {
    if most - least < 0.05 { format!("{most:+.1}") } else { format!("{least:+.1} to {most:+.1}") }
}

fn name(row: &ResultRow) -> String {
    format!("{} of {} ({})", row.metric, row.task, row.protocol)
}

/// Measures against the baseline, a run with the same seed.
fn baseline(rows: &[ResultRow]) -> Option<String> {
    // Without the module's loss, nothing trains its predictor.
    let all: Vec<Against> =
        against(rows, |row| row.baseline).into_iter().filter(|one| !one.row.protocol.ends_with(BY_PREDICTOR)).collect();
    let of = |side: Side| all.iter().filter(move |one| one.side == side);
    let part = |side: Side, word: &str| {
        let Against { row, points, .. } = of(side).max_by(|a, b| a.points.abs().total_cmp(&b.points.abs()))?;
        Some(format!("{word} in {} ({points:+.1} points on {}, {})", of(side).count(), row.task, row.protocol))
    };
    let open = of(Side::Around).count();
    if open == all.len() {
        let text = "Against the baseline without the module's loss, with this one seed, there is no clear difference.";
        return (open > 0).then(|| text.into());
    }
    let open = (open > 0).then(|| format!("no clear difference in {open}"));
    let parts = [part(Side::Above, "higher"), part(Side::Below, "lower"), open];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| {
        let all = measures(all.len());
        format!("Against the baseline without the module's loss, with this one seed, of {all}: {}.", parts.join(", "))
    })
}

/// Overall absolute equivariance of the predictions.
struct Predictions {
    /// The worst module against 0 and its control; `None` if nothing was measured.
    side: Option<Side>,
    sentence: Option<String>,
}

impl Predictions {
    fn of(rows: &[ResultRow]) -> Self {
        let overall = |row: &&ResultRow| row.metric == ABSOLUTE && !row.task.ends_with(ALONE);
        let judged = rows.iter().filter(overall).filter_map(|row| {
            let interval = row.interval?;
            let control = control(rows, row);
            let useful = Side::of(interval, 0.0);
            let informed = control.map_or(Side::Above, |control| Side::of(interval, control));
            let side = if informed == Side::Above { useful } else { Side::Below };
            Some((row, useful, informed, side, control))
        });
        let rank = |side: Side| [Side::Below, Side::Around, Side::Above].iter().position(|one| *one == side);
        let Some((row, useful, informed, side, control)) = judged.min_by_key(|judged| rank(judged.3)) else {
            return Self { side: None, sentence: None };
        };
        let (task, value) = (&row.task, row.text(row.value));
        let control = control.map_or_else(String::new, |control| row.text(control));
        let sentence = match (useful, informed) {
            (Side::Above, Side::Above) => format!(
                "The predictions of {task} are closer to the views than the un-augmented images are: absolute \
                 equivariance {value}, above 0 and above its control with shuffled parameters ({control})."
            ),
            (Side::Above, _) => format!(
                "The predictions of {task} beat the un-augmented images (absolute equivariance {value}), but not its \
                 control with shuffled parameters ({control}): they do not use the parameters."
            ),
            (Side::Around, _) => format!(
                "The predictions of {task} are no closer to the views than the un-augmented images, as far as the \
                 interval of absolute equivariance ({value}) can tell."
            ),
            (Side::Below, _) => format!(
                "The predictions of {task} are farther from the views than the un-augmented images (absolute \
                 equivariance {value}): copying the image would be better."
            ),
        };
        Self { side: Some(side), sentence: Some(sentence) }
    }
}

/// Value of the control of a row of absolute equivariance.
fn control(rows: &[ResultRow], row: &ResultRow) -> Option<f64> {
    let is_control = |other: &&ResultRow| other.metric == SHUFFLED && same_model(other, row);
    rows.iter().find(is_control).map(|control| control.value)
}

/// End of the task of rows on a single augmentation.
const ALONE: &str = " alone";

/// Augmentations that, alone, the predictions do not follow.
fn unpredicted(rows: &[ResultRow]) -> Option<String> {
    let named = |row: &ResultRow| {
        let name = row.task.strip_suffix(ALONE).filter(|_| row.metric == ABSOLUTE)?;
        let informed = Side::of(row.interval?, control(rows, row)?) == Side::Above;
        let (module, augmentation) = name.split_once(", ")?;
        (!informed).then(|| format!("{augmentation} ({module})"))
    };
    let names: Vec<String> = rows.iter().filter_map(named).collect();
    let (are, their) = if names.len() == 1 { ("is", "its") } else { ("are", "their") };
    (!names.is_empty()).then(|| {
        format!(
            "Alone, {} {are} not predicted clearly better with {their} own parameters than with wrong ones.",
            names.join(", ")
        )
    })
}

fn same_model(a: &ResultRow, b: &ResultRow) -> bool {
    a.task == b.task && a.model == b.model && a.protocol == b.protocol
}

/// End of the protocol of rows that need a trained predictor.
const BY_PREDICTOR: &str = "by the predictor";

/// Whether the loss ended above its start.
fn rise(training: &TrainingFacts) -> Option<String> {
    let (start, end) = training.risen?;
    Some(format!("The loss rose from {start:.2} to {end:.2}: the learning rate is too high, or training is unstable."))
}

/// The means over a suite of data sets, and how many of its columns each model leads.
fn suite(rows: &[ResultRow]) -> Option<String> {
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
    let leads = |&task: &(&String, &String)| value(&first.model, task) > value(&second.model, task);
    let count = tasks.iter().copied().filter(leads).count();
    Some(format!(
        "By the mean over {}, {} is {} points above {} ({} and {}), and higher in {count} of {}; the intervals of the \
         tasks say how much of it is chance.",
        first.task,
        first.model,
        first.difference(second).trim_end_matches(" points").trim_start_matches('+'),
        second.model,
        first.text(first.value),
        second.text(second.value),
        tasks.len(),
    ))
}

fn collapse(training: &TrainingFacts) -> Option<String> {
    let (metric, value) = training.collapsed.as_ref()?;
    Some(format!("Embeddings collapsed: {metric} is {value:.3}; the features below mean little."))
}

/// Whether the run was too short, where its results are not as hoped for.
fn pace(training: &TrainingFacts, disappointing: bool) -> Option<String> {
    let steps = training.steps;
    if 2 * training.warmup_steps > steps {
        return Some(format!(
            "The learning rate rose in {} of {steps} steps: the run is too short.",
            training.warmup_steps
        ));
    }
    let falling = training.still_falling.filter(|_| training.is_falling());
    match (falling, steps < SHORT_RUN) {
        (Some(decrease), true) => Some(format!(
            "The run is under-trained: it has {steps} steps, and its loss still fell by {:.0} % in the last fifth.",
            100.0 * decrease
        )),
        (Some(decrease), false) if disappointing => {
            Some(format!("The loss still fell by {:.0} % in the last fifth of the {steps} steps.", 100.0 * decrease))
        }
        (None, true) if disappointing || steps < VERY_SHORT => Some(format!("The run is short: it has {steps} steps.")),
        _ => None,
    }
}

/// Whether features collapsed, by their effective rank.
fn spread(rows: &[ResultRow]) -> Option<String> {
    let rank = rows.iter().find(|row| row.metric == EFFECTIVE_RANK)?;
    let beside = rank.untrained.map_or_else(String::new, |untrained| format!(" (untrained: {untrained:.1})"));
    let rank = rank.value;
    let narrower = narrower(rows).unwrap_or_default();
    Some(match rank < COLLAPSED_RANK {
        true => {
            format!("Features collapsed: their effective rank is {rank:.1}{beside}, and a useful network has more.")
        }
        false => {
            format!(
                "Features have not collapsed: they use about {rank:.1} dimensions, their effective rank{beside}{narrower}."
            )
        }
    })
}

/// Share of the untrained network's standard deviation below which features lie closer together than before training.
pub const NARROWER: f64 = 0.5;

/// Whether features lie much closer together than before training, as a clause.
fn narrower(rows: &[ResultRow]) -> Option<String> {
    let std = rows.iter().find(|row| row.metric == NORMALIZED_STD)?;
    let untrained = std.untrained.filter(|untrained| std.value < NARROWER * untrained)?;
    Some(format!(
        ", but lie closer together than before training: standard deviation × √D {:.2}, untrained {untrained:.2}",
        std.value
    ))
}

/// Few-shot accuracies against the untrained network: their intervals say nothing about other images.
fn few_shot(rows: &[ResultRow]) -> Option<String> {
    let points = |row: &ResultRow| Some(100.0 * (row.value - row.untrained?));
    let few: Vec<&ResultRow> = rows.iter().filter(|row| !is_over_images(row)).collect();
    let points: Vec<f64> = few.iter().copied().filter_map(points).collect();
    let ends = (points.iter().copied().min_by(f64::total_cmp), points.iter().copied().max_by(f64::total_cmp));
    let (Some(least), Some(most)) = ends else {
        let text =
            "Whether few-shot accuracy comes from training, that of the untrained network tells; it was not evaluated.";
        return (!few.is_empty()).then(|| text.into());
    };
    Some(format!(
        "Few-shot accuracy minus that of the untrained network is {} points; intervals are over episodes that share the \
         test images, so other images may say otherwise.",
        range(least, most)
    ))
}

/// Whether the parameters of augmentations can be read off the features, by the pooled R² of each probe.
fn readable(rows: &[ResultRow]) -> Option<String> {
    let pooled: Vec<&ResultRow> = rows.iter().filter(|row| row.metric == POOLED_R2).collect();
    let one = |row: &&ResultRow| {
        let untrained = row.untrained.map_or_else(String::new, |untrained| format!(", untrained {untrained:.2}"));
        let said = if row.value > READABLE { "explain" } else { "hardly explain" };
        let what = if row.protocol.ends_with("relative") { "from view to view" } else { "of a view" };
        format!("{said} the parameters {what} together (pooled R² {:.2}{untrained}{})", row.value, best(rows, row))
    };
    let said: Vec<String> = pooled.iter().map(one).collect();
    (!said.is_empty()).then(|| format!("Features {}; 1 is perfect, and guessing the mean gives 0.", said.join(", ")))
}

/// The parameters that can be read off best, as a clause.
fn best(rows: &[ResultRow], pooled: &ResultRow) -> String {
    let of_one = |row: &&ResultRow| row.metric == R2 && row.protocol == pooled.protocol && row.value > READABLE;
    let mut found: Vec<&ResultRow> = rows.iter().filter(of_one).collect();
    found.sort_by(|a, b| b.value.total_cmp(&a.value));
    let named: Vec<String> = found.iter().take(2).map(|row| format!("{} {:.2}", row.task, row.value)).collect();
    if named.is_empty() { String::new() } else { format!("; best {}", named.join(", ")) }
}

/// Pooled R² above which features say something about parameters.
pub const READABLE: f64 = 0.05;

/// Whether the test set is small, by the widest interval of a share.
fn precision(rows: &[ResultRow]) -> Option<String> {
    let half = |row: &ResultRow| row.interval.map(|(low, high)| 50.0 * (high - low));
    let shares = rows.iter().filter(|row| row.is_share() && is_over_images(row));
    let widest = shares.filter_map(half).max_by(f64::total_cmp)?;
    (widest > WIDE).then(|| {
        format!(
            "The test set is small: intervals reach up to ±{widest:.0} points, and differences within them mean little."
        )
    })
}

/// Measures that are not clearly above chance. If there are none, and the untrained network was not evaluated, that.
fn chance(rows: &[ResultRow], alone: bool) -> Option<String> {
    let judged = against(rows, |row| row.chance);
    let below: Vec<&Against> = judged.iter().filter(|one| one.side != Side::Above).collect();
    let Some(first) = below.first() else {
        let all = capitalized(&every(judged.len()));
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

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Number of L2 strengths of the published range.
const WHOLE_RANGE: usize = 45;

/// Hyperparameters at an end of the range that was searched.
fn range_end(rows: &[ResultRow]) -> Option<String> {
    let at_end = |row: &&ResultRow| row.chosen.as_ref().is_some_and(|chosen| chosen.contains(AT_AN_END));
    let mut tasks: Vec<&str> = Vec::new();
    for row in rows.iter().filter(at_end) {
        if !tasks.contains(&row.task.as_str()) {
            tasks.push(&row.task);
        }
    }
    let strengths = if tasks.len() == 1 { "strength" } else { "strengths" };
    // The whole range has no wider one.
    let whole = format!("the best of {WHOLE_RANGE} ");
    let searched_all = rows.iter().filter(at_end).all(|row| row.chosen.as_ref().is_some_and(|by| by.contains(&whole)));
    let wider = if searched_all { "" } else { "; a wider range may do better, also for the networks beside it" };
    let is = if tasks.len() == 1 { "is" } else { "are" };
    (!tasks.is_empty()).then(|| {
        format!("The L2 {strengths} of {} {is} at an end of the range that was searched{wider}.", tasks.join(", "))
    })
}

/// Differences of a paired comparison.
fn differences(rows: &[ResultRow]) -> Option<String> {
    let compared = rows.iter().filter(|row| row.metric.starts_with(DIFFERENCE));
    let sides: Vec<(&ResultRow, Side)> = compared.filter_map(|row| Some((row, Side::of(row.interval?, 0.0)))).collect();
    if sides.is_empty() {
        return None;
    }
    // The model of a difference is `B − A`.
    let (b, a) = sides[0].0.model.split_once(" − ").unwrap_or(("B", "A"));
    let named = |of: &dyn Fn(&ResultRow, Side) -> bool| -> Vec<String> {
        let named = sides.iter().filter(|(row, side)| of(row, *side));
        named.map(|(row, _)| format!("{} ({:+.1} points)", row.task, 100.0 * row.value)).collect()
    };
    let confirmed = |row: &ResultRow| !row.detail.contains(NOT_CONFIRMED);
    let clear = |wanted: Side| named(&|row, side| side == wanted && confirmed(row));
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
    let open = named(&|_, side| side == Side::Around);
    if !open.is_empty() {
        said.push(format!("no clear difference on {}", open.join(", ")));
    }
    let said = said.join("; ");
    let is_name = !said.starts_with("no ") && !said.starts_with("borderline ");
    Some(format!("{}.", if is_name { said } else { capitalized(&said) }))
}
