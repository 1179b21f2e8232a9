//! Effect plots: differences as dots with intervals on both sides of 0.

use std::fmt::Write;

use super::axes::{Range, number};
use super::{entry, escape, framed, open};
use crate::report::{EffectRow, Effects};

const WIDTH: f64 = 480.0;
/// Left and right end of the axis, the height of a row, and that of the axis below the rows.
const LEFT: f64 = 168.0;
const RIGHT: f64 = WIDTH - 16.0;
const STEP: f64 = 20.0;
const BELOW: f64 = 22.0;
/// Maximum number of characters of a label.
const LABEL: usize = 28;

/// The effect plot; `None` if there is no row.
pub fn draw(effects: &Effects) -> Option<String> {
    let finite: Vec<&EffectRow> = effects.rows.iter().filter(|row| row.value.is_finite()).collect();
    if finite.is_empty() {
        return None;
    }
    let ends = |row: &&EffectRow| {
        let (low, high) = row.interval.unwrap_or((row.value, row.value));
        [0.0, row.value, low, high]
    };
    let range = Range::of(finite.iter().flat_map(ends).filter(|value| value.is_finite()));
    let position = |value: f64| LEFT + range.share(value) * (RIGHT - LEFT);
    let bottom = STEP * finite.len() as f64 + 4.0;
    let mut svg = open(&effects.title, WIDTH, bottom + BELOW);
    for tick in range.ticks() {
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom}\"/><text x=\"{x:.1}\" \
             y=\"{base}\" text-anchor=\"middle\">{}</text>",
            number(tick),
            x = position(tick),
            base = bottom + 16.0,
        );
    }
    let zero = position(0.0);
    let _ = write!(svg, "<line class=\"interval\" x1=\"{zero:.1}\" x2=\"{zero:.1}\" y1=\"0\" y2=\"{bottom}\"/>");
    for (i, row) in finite.into_iter().enumerate() {
        one(&mut svg, row, STEP * (i as f64 + 0.5) + 2.0, position);
    }
    svg += "</svg>";
    let legend = entry("var(--c0)", "stands after the correction") + &entry("var(--quiet)", "does not");
    Some(framed(&effects.title, &svg, &legend))
}

fn one(svg: &mut String, row: &EffectRow, y: f64, position: impl Fn(f64) -> f64) {
    let color = if row.stands { "var(--c0)" } else { "var(--quiet)" };
    if let Some((low, high)) = row.interval {
        let (low, high) = (position(low), position(high));
        let _ = write!(
            svg,
            "<line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke-width=\"2\" \
             style=\"stroke:{color}\"/>"
        );
    }
    let fill = if row.stands { color } else { "var(--page)" };
    let label: String = match row.label.chars().count() > LABEL {
        true => row.label.chars().take(LABEL - 1).chain(['…']).collect(),
        false => row.label.clone(),
    };
    let _ = write!(
        svg,
        "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3.6\" style=\"fill:{fill};stroke:{color};stroke-width:1.6\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        position(row.value),
        LEFT - 10.0,
        y + 4.0,
        escape(&label),
    );
}
