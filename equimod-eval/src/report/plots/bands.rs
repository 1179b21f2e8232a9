//! Line plots with bands.

use std::fmt::Write;

use super::axes::{HEIGHT, Range, WIDTH, axes, x_position, y_position};
use super::{entry, framed, open};
use crate::report::BandPlot;

/// Hues in an order that separates consecutive lines, in degrees.
const GOLDEN: f64 = 137.508;

/// The plot; `None` if no line has a point.
pub fn draw(plot: &BandPlot) -> Option<String> {
    let finite = |(x, y, half): &(f64, f64, f64)| x.is_finite() && y.is_finite() && half.is_finite();
    let all = || plot.lines.iter().flat_map(|line| line.points.iter().filter(|point| finite(point)));
    all().next()?;
    let xs = Range::of(all().map(|point| point.0));
    let ys = Range::of(all().flat_map(|&(_, y, half)| [y - half, y + half]));
    let mut svg = open(&plot.title, WIDTH, HEIGHT);
    axes(&mut svg, xs.labeled_ticks(), (xs, ys), &plot.x_label);
    let mut legend = String::new();
    // A line without points keeps its color for other plots of the same lines.
    for (i, line) in plot.lines.iter().enumerate().filter(|(_, line)| line.points.iter().any(finite)) {
        let color = format!("hsl({:.0},65%,50%)", (210.0 + i as f64 * GOLDEN) % 360.0);
        let points: Vec<(f64, f64, f64)> = line.points.iter().copied().filter(finite).collect();
        let at = |x: f64, y: f64| format!("{:.1},{:.1}", x_position(xs, x), y_position(ys, y));
        let middle: Vec<String> = points.iter().map(|&(x, y, _)| at(x, y)).collect();
        let upper = points.iter().map(|&(x, y, half)| at(x, y + half));
        let lower = points.iter().rev().map(|&(x, y, half)| at(x, y - half));
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<polygon points=\"{}\" style=\"fill:{color};opacity:.16\"/><polyline fill=\"none\" \
             stroke-width=\"1.5\" style=\"stroke:{color}\" points=\"{}\"/>",
            upper.chain(lower).collect::<Vec<_>>().join(" "),
            middle.join(" ")
        );
        legend += &entry(&color, &line.name);
    }
    svg += "</svg>";
    Some(framed(&plot.title, &svg, &legend))
}
