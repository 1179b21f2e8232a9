//! Progress of training: two lines on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use equimod_train::{ProbeReport, Result, Sink, StepReport};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::{duration, note};
use super::terminal::{columns, wrapped};

/// Shortest time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Columns of the bar with the space behind it.
const BAR: usize = 18;
/// Space between two parts of a line.
const GAP: &str = "  ";

/// Progress of training.
pub struct Progress {
    lines: Lines,
    /// What the time left is of, where it is not all.
    part: &'static str,
}

enum Lines {
    /// A bar with two lines on a terminal.
    Bar(ProgressBar),
    /// Plain lines; holds the time and epoch of the last one.
    Plain(Option<Instant>, u64),
}

impl Progress {
    /// Progress of a run of `total` steps that is at `step`. `part` stands behind the time left, where more work follows.
    pub fn new(step: u64, total: u64, part: &'static str) -> Self {
        Self { lines: Lines::new(step, total), part }
    }
}

impl Lines {
    fn new(step: u64, total: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Plain(None, 0);
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        // The template is a constant that parses.
        if let Ok(style) = ProgressStyle::with_template("{bar:16}  {prefix}\n{msg}") {
            bar.set_style(style);
        }
        bar.set_position(step);
        Self::Bar(bar)
    }
}

impl Sink for Progress {
    fn step(&mut self, report: &StepReport) -> Result<()> {
        let part = self.part;
        match &mut self.lines {
            Lines::Bar(bar) => {
                let width = columns(&io::stderr()).unwrap_or_default();
                bar.set_prefix(fitting(pace(report, part), width.saturating_sub(BAR)));
                bar.set_message(fitting(terms(report), width));
                bar.set_position(report.step);
                if report.step == report.total_steps {
                    bar.finish();
                }
            }
            Lines::Plain(last, epoch) => {
                let due = last.is_none_or(|last| last.elapsed() >= PLAIN_EVERY);
                if due || *epoch != report.epoch || report.step == report.total_steps {
                    (*last, *epoch) = (Some(Instant::now()), report.epoch);
                    note(&[pace(report, part), terms(report)].concat().join(GAP));
                }
            }
        }
        Ok(())
    }

    fn probe(&mut self, report: &ProbeReport) -> Result<()> {
        let scores = report.scores.iter().map(|(name, score)| format!("{name} {:.1} %", 100.0 * score));
        self.note(&format!("probe after epoch {}: {}", report.epoch, scores.collect::<Vec<_>>().join(", ")))
    }

    fn note(&mut self, text: &str) -> Result<()> {
        match &self.lines {
            Lines::Bar(bar) => bar.println(wrapped(text, columns(&io::stderr()))),
            Lines::Plain(..) => note(text),
        }
        Ok(())
    }
}

/// Time left, throughput and position, the most important part first.
fn pace(report: &StepReport, part: &str) -> Vec<String> {
    let left = match report.step == report.total_steps {
        true => "done".into(),
        false => format!("{} left{part}", duration(report.remaining)),
    };
    vec![
        left,
        format!("{:.0} images/s", report.pace.images_per_second),
        format!("epoch {}/{}", report.epoch, report.epochs),
        format!("step {}/{}", report.step, report.total_steps),
    ]
}

/// Losses, equivariance, learning rate, waiting for data and the slowest rank, the most important part first.
fn terms(report: &StepReport) -> Vec<String> {
    let mut parts = vec![format!("loss {:.3}", report.loss)];
    if let Some(value) = report.metric("invariance_loss") {
        parts.push(format!("invariance {value:.3}"));
    }
    for (name, value) in &report.metrics {
        match name.split_once('.') {
            Some((module, "loss")) => parts.push(format!("{module} {value:.3}")),
            Some((_, "absolute_equivariance")) => parts.push(format!("equivariance {value:+.3}")),
            _ => {}
        }
    }
    parts.extend(report.pace.slowest.map(|slowest| slowest.to_string()));
    parts.push(format!("rate {:.3}", report.learning_rate));
    parts.push(format!("wait {:.0} %", 100.0 * report.pace.shares.data));
    parts
}

/// The first parts that fit into `width` columns.
fn fitting(parts: Vec<String>, width: usize) -> String {
    let mut line = String::new();
    for part in parts {
        let gap = if line.is_empty() { "" } else { GAP };
        if line.chars().count() + gap.len() + part.chars().count() > width {
            break;
        }
        line += gap;
        line += &part;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn parts_that_do_not_fit_are_dropped_from_the_end() {
        let parts = || ["12 s left", "800 images/s", "epoch 1/2"].map(str::to_owned).to_vec();
        assert_eq!(fitting(parts(), 34), "12 s left  800 images/s  epoch 1/2");
        assert_eq!(fitting(parts(), 33), "12 s left  800 images/s");
        assert_eq!(fitting(parts(), 9), "12 s left");
        assert_eq!(fitting(parts(), 8), "");
    }
}
