//! Tables of an examination.

use super::checks::{Checked, Comparison};
use super::steps::{Speed, WHAT};
use super::text::section;
use crate::process::memory::mebibytes;

/// One line for each check, with tolerance, error and agreement in each element type.
pub fn checks(comparisons: &[Comparison]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for Comparison { check, .. } in comparisons {
        if !names.contains(&check.as_str()) {
            names.push(check);
        }
    }
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let precisions = [Checked::F32, Checked::Bf16];
    let precisions = precisions.into_iter().filter(|p| comparisons.iter().any(|c| c.precision == *p));
    let precisions: Vec<Checked> = precisions.collect();
    let heading = |p: &Checked| format!("  {:>14} {:>8} {:>6}", format!("{} tolerance", p.name()), "error", "agrees");
    let mut text = format!("  {:width$}{}\n", "check", precisions.iter().map(heading).collect::<String>());
    for name in names {
        let cells = |p: &Checked| cells(comparisons.iter().find(|c| c.check == name && c.precision == *p));
        let line = format!("  {name:width$}{}", precisions.iter().map(cells).collect::<String>());
        text += &format!("{}\n", line.trim_end());
    }
    text
}

/// Tolerance, error and agreement; nothing for a check that does not exist in an element type.
fn cells(comparison: Option<&Comparison>) -> String {
    let Some(Comparison { tolerance, error, agrees, failure, .. }) = comparison else { return " ".repeat(32) };
    let number = |value: Option<f64>, digits: usize| match value {
        Some(0.0) => "0".to_owned(),
        Some(value) => format!("{value:.digits$e}"),
        None if failure.is_some() => "failed".to_owned(),
        None => "NaN".to_owned(),
    };
    let agrees = if *agrees { "yes" } else { "NO" };
    format!("  {:>14} {:>8} {agrees:>6}", number(*tolerance, 0), number(*error, 1))
}

/// Speed and memory of a training step in each element type.
pub fn steps(speeds: &[Speed], tf32: bool) -> String {
    let tf32 = if tf32 { "on" } else { "off" };
    let row = |speed: &Speed| {
        let value = match (speed.images_per_second, &speed.failure) {
            (Some(rate), _) => {
                let memory = speed.memory_bytes.map_or_else(|| "memory unknown".to_owned(), mebibytes);
                let steps =
                    if speed.steps == 1 { "one step".to_owned() } else { format!("median of {} steps", speed.steps) };
                format!("{rate:.1} images/s, {memory} at the peak ({steps})")
            }
            (None, reason) => format!("failed: {}", reason.as_deref().unwrap_or("unknown reason")),
        };
        (speed.precision.name(), value)
    };
    let rows: Vec<(&str, String)> = speeds.iter().map(row).collect();
    section(&format!("training step ({WHAT}; TF32 is {tf32})"), &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_has_one_line_for_both_element_types() {
        let of = |check: &str, precision, error, agrees| Comparison {
            check: check.into(),
            precision,
            tolerance: Some(1e-5),
            error,
            agrees,
            failure: None,
        };
        let text = checks(&[
            of("product", Checked::F32, Some(2.5e-7), true),
            of("LARS", Checked::F32, None, false),
            of("product", Checked::Bf16, Some(0.0), true),
        ]);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<Vec<String>> = text.lines().map(words).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1], ["product", "1e-5", "2.5e-7", "yes", "1e-5", "0", "yes"]);
        assert_eq!(lines[2], ["LARS", "1e-5", "NaN", "NO"]);
    }

    #[test]
    fn steps_say_their_speed_or_why_there_is_none() {
        let speed = |precision, images_per_second, failure: Option<&str>| Speed {
            precision,
            images_per_second,
            steps: 1,
            memory_bytes: Some(3 << 20),
            failure: failure.map(str::to_owned),
        };
        let text =
            steps(&[speed(Checked::F32, Some(41.26), None), speed(Checked::Bf16, None, Some("no memory"))], false);
        assert!(text.contains("TF32 is off") && text.contains("41.3 images/s, 3 MiB at the peak (one step)"), "{text}");
        assert!(text.contains("failed: no memory"), "{text}");
    }
}
