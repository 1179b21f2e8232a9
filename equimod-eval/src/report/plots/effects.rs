//! Effect plots: differences as dots with intervals on both sides of 0, in a page and as files of their own.

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

/// Height of the lines above the plot and below it in a file of its own.
const TITLE: f64 = 24.0;
const LEGEND: f64 = 20.0;
/// Colors of the page's style sheet in light mode, and styles, for programs that do not know variables.
const COLORS: [(&str, &str); 3] = [("var(--c0)", "#2563b8"), ("var(--quiet)", "#5b6470"), ("var(--page)", "#ffffff")];
const STYLE: &str = "text{fill:#5b6470;font:11px system-ui,sans-serif}.title{fill:#1c1f24;font-size:13px}\
                     .axis{stroke:#d8dce2}.interval{stroke:#1c1f24;stroke-width:1.4}";
/// Legend: what the two colors mean.
const STANDS: [(&str, &str); 2] = [("var(--c0)", "stands after the correction"), ("var(--quiet)", "does not")];

/// The effect plot with its caption; `None` if there is no row.
pub fn draw(effects: &Effects) -> Option<String> {
    let (height, content) = drawing(effects)?;
    let svg = format!("{}{content}</svg>", open(&effects.title, WIDTH, height));
    let legend: String = STANDS.iter().map(|(color, name)| entry(color, name)).collect();
    Some(framed(&effects.title, &svg, &legend))
}

/// The effect plot as an SVG file, with title and legend in the drawing; `None` if there is no row.
pub fn effect_file(effects: &Effects) -> Option<String> {
    let (height, content) = drawing(effects)?;
    let whole = TITLE + height + LEGEND;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {whole}\" width=\"{WIDTH}\" \
         height=\"{whole}\" role=\"img\" aria-label=\"{title}\"><style>{STYLE}</style>\
         <rect width=\"{WIDTH}\" height=\"{whole}\" fill=\"var(--page)\"/>\
         <text class=\"title\" x=\"8\" y=\"16\">{title}</text><g transform=\"translate(0 {TITLE})\">{content}</g>",
        title = escape(&effects.title),
    );
    for ((color, name), x) in STANDS.iter().zip([LEFT, LEFT + 184.0]) {
        let y = TITLE + height + 8.0;
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"4\" fill=\"{color}\"/><text x=\"{}\" \
             y=\"{}\">{name}</text>",
            x + 18.0,
            y + 5.0
        );
    }
    svg += "</svg>";
    let svg = COLORS.iter().fold(svg, |svg, (variable, color)| svg.replace(variable, color));
    Some(svg.replace("><", ">\n<") + "\n")
}

/// Height and content of the plot; `None` if there is no row.
fn drawing(effects: &Effects) -> Option<(f64, String)> {
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
    let mut svg = String::new();
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
    Some((bottom + BELOW, svg))
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
