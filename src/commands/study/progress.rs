//! Progress of a whole study in one line.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use equimod_train::StepReport;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::commands::pretrain::Watcher;
use crate::outputs::console::{duration, note};

/// Shortest time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Length of the bar in steps of its own.
const LENGTH: f64 = 1000.0;

/// Progress of a study: a bar on a terminal, plain lines elsewhere.
pub struct StudyProgress {
    bar: Option<ProgressBar>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Finished runs, and all runs of this call.
    runs: (usize, usize),
    /// Work of finished runs, of the current one, and of all.
    done: f64,
    current: f64,
    all: f64,
    /// Work that was done before this call.
    before: f64,
    /// Name and work of the current run.
    name: String,
    work: f64,
    start: Instant,
    last: Option<Instant>,
}

impl StudyProgress {
    /// Progress of `runs` runs with the work `all` together.
    pub fn new(runs: usize, all: f64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(LENGTH as u64), ProgressDrawTarget::stderr());
            // The template is a constant that parses.
            if let Ok(style) = ProgressStyle::with_template("{bar:16} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        let state = State {
            runs: (0, runs),
            done: 0.0,
            current: 0.0,
            all,
            before: 0.0,
            name: String::new(),
            work: 0.0,
            start: Instant::now(),
            last: None,
        };
        Self { bar, state: Arc::new(Mutex::new(state)) }
    }

    /// Counts a run that an earlier call finished.
    pub fn skip(&self, work: f64) {
        let mut state = lock(&self.state);
        state.runs.0 += 1;
        state.done += work;
        state.before += work;
    }

    /// Begins a run.
    pub fn begin(&self, name: String, work: f64) {
        let mut state = lock(&self.state);
        (state.name, state.work, state.current) = (name, work, 0.0);
    }

    /// Ends the current run.
    pub fn end(&self) {
        let mut state = lock(&self.state);
        state.runs.0 += 1;
        state.done += state.work;
        (state.work, state.current) = (0.0, 0.0);
        show(&self.bar, &mut state, "", true);
    }

    /// Shows an evaluation of the current run.
    pub fn evaluating(&self, what: &str) {
        show(&self.bar, &mut lock(&self.state), what, false);
    }

    /// Receiver of the steps of the current run.
    pub fn watcher(&self) -> Watcher {
        let (bar, state) = (self.bar.clone(), self.state.clone());
        Arc::new(move |report: &StepReport| {
            let mut state = lock(&state);
            state.current = state.work * report.step as f64 / report.total_steps.max(1) as f64;
            show(&bar, &mut state, &format!("epoch {}/{}", report.epoch, report.epochs), false);
        })
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn show(bar: &Option<ProgressBar>, state: &mut State, what: &str, now: bool) {
    let line = line(state, what, state.start.elapsed());
    match bar {
        Some(bar) => {
            bar.set_position((LENGTH * (state.done + state.current) / state.all.max(f64::MIN_POSITIVE)) as u64);
            bar.set_message(line);
        }
        None if now || state.last.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) => {
            state.last = Some(Instant::now());
            note(&line);
        }
        None => {}
    }
}

/// `runs 3/20  1 h 02 min left  equimod seed 1, epoch 2/25`.
fn line(state: &State, what: &str, elapsed: Duration) -> String {
    let made = state.done + state.current - state.before;
    let left = state.all - state.done - state.current;
    let (done, runs) = state.runs;
    let mut parts = vec![format!("runs {done}/{runs}")];
    // The first steps say little about the rest.
    if made > 0.0 && elapsed.as_secs_f64() > 1.0 {
        parts.push(format!("{} left", duration(Duration::from_secs_f64(elapsed.as_secs_f64() * left / made))));
    }
    if state.work > 0.0 {
        let what = if what.is_empty() { String::new() } else { format!(", {what}") };
        parts.push(format!("{}{what}", state.name));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_work_of_this_call() {
        let progress = StudyProgress::new(4, 8.0);
        progress.skip(2.0);
        progress.begin("plain seed 1".into(), 4.0);
        let mut state = lock(&progress.state);
        state.current = 1.0;
        let text = line(&state, "epoch 1/4", Duration::from_secs(60));
        assert_eq!(text, "runs 1/4  5 min 00 s left  plain seed 1, epoch 1/4");
        state.current = 0.0;
        assert_eq!(line(&state, "", Duration::from_secs(60)), "runs 1/4  plain seed 1");
    }
}
