//! Rules on the training of a run.

/// Facts about the training of a run, besides its results.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingFacts {
    /// Steps of the run.
    pub steps: u64,
    /// Steps in which the learning rate rose.
    pub warmup_steps: u64,
    /// Name of a metric that was below its threshold for collapsed embeddings at the end, and its median there.
    pub collapsed: Option<(String, f64)>,
    /// Relative decrease of the loss from the last fifth but one of the run to its last fifth.
    pub still_falling: Option<f64>,
    /// Mean losses of the first twentieth and of the last fifth of the run, if the loss rose.
    pub risen: Option<(f64, f64)>,
    /// Mean losses of the first twentieth, of the highest twentieth and of the last fifth of the run, if the loss rose in
    /// between and ended where it began.
    pub unchanged: Option<(f64, f64, f64)>,
    /// Mean losses of the first and of the last fifth of the run, if they differ by no more than single losses.
    pub flat: Option<(f64, f64)>,
    /// How the training of its baseline failed, if it did.
    pub baseline_failure: Option<&'static str>,
    /// Model whose weights training started from.
    pub started_from: Option<String>,
    /// State of a run that is not finished: `running`, `interrupted`, `killed` or `diverged`.
    pub unfinished: Option<String>,
    /// Absolute equivariance of each module at the last log step, with its name.
    pub equivariance: Vec<(String, f64)>,
}

impl TrainingFacts {
    /// Whether embeddings collapsed or the loss rose, which longer training does not mend.
    pub fn has_failed(&self) -> bool {
        self.collapsed.is_some() || self.has_risen()
    }

    /// How training failed, if it did.
    pub fn failure(&self) -> Option<&'static str> {
        match (self.has_risen(), self.collapsed.is_some()) {
            (true, _) => Some("the loss rose"),
            (false, true) => Some("embeddings collapsed"),
            (false, false) => None,
        }
    }

    /// Whether the loss rose, or rose and came back to its start.
    pub fn has_risen(&self) -> bool {
        self.risen.is_some() || self.unchanged.is_some()
    }

    /// Whether the loss rose or did not change: the learning rate is the first question then.
    pub fn did_not_fall(&self) -> bool {
        self.has_risen() || self.flat.is_some()
    }

    /// Whether longer training may give other results.
    pub fn is_unsettled(&self) -> bool {
        self.steps < SHORT_RUN || self.is_falling()
    }

    /// Whether longer training would give other results, however good these are.
    pub fn is_too_short(&self) -> bool {
        self.steps < VERY_SHORT || self.is_falling()
    }

    /// Whether the loss had not settled at the end.
    pub fn is_falling(&self) -> bool {
        self.still_falling.is_some_and(|decrease| decrease > FALLING)
    }
}

/// Steps below which a run that did not help is called short.
pub const SHORT_RUN: u64 = 2000;

/// Steps below which a run is called short whatever its results.
pub const VERY_SHORT: u64 = 100;

/// Relative decrease of the loss from the last fifth but one of a run to its last fifth above which it had not settled.
pub const FALLING: f64 = 0.02;

/// Whether the loss ended above its start, or where it began, or did not change.
pub(super) fn rise(training: &TrainingFacts) -> Option<String> {
    let why = "the learning rate is too high, or training is unstable";
    match (training.risen, training.unchanged) {
        (Some((start, end)), _) => Some(format!("The loss rose from {start:.2} to {end:.2}: {why}.")),
        (None, Some((start, highest, end))) => {
            Some(format!("The loss rose from {start:.2} to {highest:.2}, and ended at {end:.2}, hardly lower: {why}."))
        }
        (None, None) => {
            let (start, end) = training.flat?;
            Some(format!(
                "The loss did not clearly fall: it was {start:.2} in the first fifth and {end:.2} in the last, a \
                 difference within the noise of single steps; the learning rate may be too low, or too high."
            ))
        }
    }
}

pub(super) fn collapse(training: &TrainingFacts) -> Option<String> {
    let (metric, value) = training.collapsed.as_ref()?;
    Some(format!(
        "Embeddings collapsed in training: {metric} was low in most of the last steps, with a median of {value:.3}; \
         `equimod eval health` says whether features did."
    ))
}

/// A baseline whose training failed, so that differences from it say little.
pub(super) fn failed_baseline(training: &TrainingFacts) -> Option<String> {
    let how = training.baseline_failure?;
    Some(format!("The baseline failed in training, because {how}: differences from it say little of the module."))
}

/// The state of a run that is not finished.
pub fn unfinished(training: &TrainingFacts) -> Option<String> {
    let steps = training.steps;
    Some(match training.unfinished.as_deref()? {
        "diverged" => "Training diverged: the learning rate is too high, or training is unstable.".into(),
        "running" => format!("The run goes on: so far, it has {steps} steps."),
        status => {
            let steps = if steps == 1 { "1 step".into() } else { format!("{steps} steps") };
            format!("The run was not finished ({status}): it has {steps}.")
        }
    })
}

/// What a reader of results is to know of the training, whatever they are: that it failed, or was too short.
pub fn caveat(training: &TrainingFacts) -> Option<String> {
    collapse(training).or_else(|| rise(training)).or_else(|| pace(training, false))
}

/// Most runs that a sentence names.
const MOST_NAMES: usize = 3;

/// The weights that training started from, which differences from the untrained network include, and those from a baseline
/// do not.
pub(super) fn start(training: &TrainingFacts, has_baseline: bool) -> Option<String> {
    let from = training.started_from.as_ref()?;
    let baseline = match has_baseline {
        true => "; the baseline started from them, too, so that differences from it are of this training alone",
        false => "",
    };
    Some(format!(
        "Training started from the weights of {from}: differences from the untrained network include what these \
         had{baseline}."
    ))
}

/// Whether the training of runs that are compared, each with its name, failed, did not end, or was too brief for their
/// differences to last.
pub fn of_trainings(runs: &[(String, TrainingFacts)]) -> Option<String> {
    let all = runs.len();
    let whose = |names: &[&str]| match (names.len(), all) {
        (2, 2) => "Both runs".to_owned(),
        (count, all) if count == all && count > 1 => format!("All {all} runs"),
        (count, _) if count <= MOST_NAMES => names.join(", "),
        (count, all) => format!("{count} of {all} runs"),
    };
    let those = |are: &dyn Fn(&TrainingFacts) -> bool| -> Vec<&str> {
        runs.iter().filter(|(_, facts)| are(facts)).map(|(name, _)| name.as_str()).collect()
    };
    let failed = those(&TrainingFacts::has_failed);
    if !failed.is_empty() {
        let mut how: Vec<&str> = runs.iter().filter_map(|(_, facts)| facts.failure()).collect();
        how.sort_unstable();
        how.dedup();
        return Some(format!("{} failed in training: {}.", whose(&failed), how.join(", or ")));
    }
    let unfinished = those(&|facts| facts.unfinished.is_some());
    if !unfinished.is_empty() {
        let were = if unfinished.len() == 1 { "was" } else { "were" };
        let whose = whose(&unfinished);
        return Some(format!("{whose} {were} not finished: the differences say nothing of finished ones."));
    }
    let is_short = |facts: &TrainingFacts| facts.steps < VERY_SHORT;
    let short = those(&is_short);
    let steps = || runs.iter().filter(|(_, facts)| is_short(facts)).map(|(_, facts)| facts.steps);
    let short = steps().min().zip(steps().max()).map(|(least, most)| {
        let are = if short.len() == 1 { "is" } else { "are" };
        let steps = if least == most { least.to_string() } else { format!("{least} to {most}") };
        format!("{} {are} short ({steps} {})", whose(&short), if most == 1 { "step" } else { "steps" })
    });
    let falling = those(&|facts| facts.is_falling() && !is_short(facts));
    let falling = (!falling.is_empty()).then(|| format!("{} ended while the loss still fell", whose(&falling)));
    let why: Vec<String> = short.into_iter().chain(falling).collect();
    (!why.is_empty()).then(|| format!("{}: longer training may change the differences.", why.join(", and ")))
}

/// Whether the run was too short, where its results are not as hoped for.
pub(super) fn pace(training: &TrainingFacts, disappointing: bool) -> Option<String> {
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
            "The run is under-trained: it has {steps} {}, and its loss was still {:.0} % lower in the last fifth than in the \
             one before.",
            if steps == 1 { "step" } else { "steps" },
            100.0 * decrease
        )),
        (Some(decrease), false) if disappointing => {
            let percent = 100.0 * decrease;
            Some(format!(
                "The loss was still {percent:.0} % lower in the last fifth of the {steps} steps than in the one before."
            ))
        }
        (None, true) if disappointing || steps < VERY_SHORT => {
            Some(format!("The run is short: it has {steps} {}.", if steps == 1 { "step" } else { "steps" }))
        }
        _ => None,
    }
}
