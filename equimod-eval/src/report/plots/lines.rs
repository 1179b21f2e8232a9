//! Line plots.

use std::fmt::Write;

use super::axes::{HEIGHT, Range, WIDTH, axes, x_position, y_position};
use super::{COLORS, entry, framed, open};
use crate::report::{Plot, Series};

/// Maximum number of points of a line; longer lines are averaged over equal intervals.
const POINTS: usize = 400;

/// The line plot; `None` if no line has a point.
pub fn draw(plot: &Plot) -> Option<String> {
    let lines: Vec<(String, Vec<(f64, f64)>)> =
        plot.series.iter().map(|s| (s.name.clone(), thinned(s))).filter(|(_, points)| !points.is_empty()).collect();
    if lines.is_empty() {
        return None;
    }
    let all = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let (xs, ys) = (Range::of(all().map(|p| p.0)), Range::of(all().map(|p| p.1)));
    let mut svg = open(&plot.title, WIDTH, HEIGHT);
    axes(&mut svg, xs, ys, &plot.x_label);
    let mut legend = String::new();
    for (i, (name, points)) in lines.iter().enumerate() {
        let color = format!("var(--c{})", i % COLORS);
        let path: Vec<String> =
            points.iter().map(|&(x, y)| format!("{:.1},{:.1}", x_position(xs, x), y_position(ys, y))).collect();
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke-width=\"1.6\" stroke-linejoin=\"round\" style=\"stroke:{color}\" \
             points=\"{}\"/>",
            path.join(" ")
        );
        legend += &entry(&color, name);
    }
    svg += "</svg>";
    Some(framed(&plot.title, &svg, &legend))
}

fn thinned(series: &Series) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> =
        series.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let run = finite.len().div_ceil(POINTS).max(1);
    let mean =
        |points: &[(f64, f64)], f: fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>() / points.len() as f64;
    finite.chunks(run).map(|points| (mean(points, |p| p.0), mean(points, |p| p.1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_thinned_and_empty_plots_left_out() {
        let points = (0..1000).map(|i| (f64::from(i), 1.0)).collect();
        assert_eq!(thinned(&Series { name: String::new(), points }).len(), 334);
        assert!(draw(&Plot::default()).is_none());
    }
}
