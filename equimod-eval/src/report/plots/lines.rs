//! Line plots.

use std::fmt::Write;

use super::axes::{HEIGHT, MARGINS, Range, WIDTH, axes, x_position, y_position};
use super::{COLORS, entry, escape, framed, open};
use crate::report::{Mark, Plot, Series};

/// Maximum number of points of a line; longer lines are averaged over equal intervals.
const POINTS: usize = 400;

/// Height of the label of a mark.
const MARK_HEIGHT: f64 = 14.0;

/// Width of the longest label of a mark.
const LONGEST_MARK: f64 = 80.0;

/// The line plot; `None` if no line has a point.
pub fn draw(plot: &Plot) -> Option<String> {
    let place = |x: f64| if plot.log_x { x.log10() } else { x };
    let lines = plot.series.iter().map(|series| (series.name.clone(), thinned(series, place)));
    let lines: Vec<(String, Vec<(f64, f64)>)> = lines.filter(|(_, points)| !points.is_empty()).collect();
    if lines.is_empty() {
        return None;
    }
    let all = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let (xs, ys) = (Range::of(all().map(|p| p.0)), Range::of(all().map(|p| p.1)));
    let marks: Vec<&Mark> = plot.marks.iter().filter(|mark| (xs.low..=xs.high).contains(&place(mark.x))).collect();
    let head = MARK_HEIGHT * marks.len() as f64;
    let mut svg = open(&plot.title, WIDTH, head + HEIGHT);
    // Writing to a string does not fail.
    let _ = write!(svg, "<g transform=\"translate(0 {head})\">");
    axes(&mut svg, if plot.log_x { xs.log_ticks() } else { xs.labeled_ticks() }, (xs, ys), &plot.x_label);
    for (number, mark) in marks.iter().enumerate() {
        svg += &vertical(x_position(xs, place(mark.x)), number as f64 * MARK_HEIGHT - head, &mark.label);
    }
    let mut legend = String::new();
    for (i, (name, points)) in lines.iter().enumerate() {
        let color = format!("var(--c{})", i % COLORS);
        let path: Vec<String> =
            points.iter().map(|&(x, y)| format!("{:.1},{:.1}", x_position(xs, x), y_position(ys, y))).collect();
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke-width=\"1.6\" stroke-linejoin=\"round\" style=\"stroke:{color}\" \
             points=\"{}\"/>",
            path.join(" ")
        );
        legend += &entry(&color, name);
    }
    svg += "</g></svg>";
    Some(framed(&plot.title, &svg, &legend))
}

/// A vertical line from the height `top`, above the curves, with its label beside its upper end.
fn vertical(x: f64, top: f64, label: &str) -> String {
    let bottom = HEIGHT - MARGINS.3;
    let is_at_the_end = x > WIDTH - LONGEST_MARK;
    format!(
        "<line class=\"axis\" stroke-dasharray=\"4 3\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\"{}>{}</text>",
        top + 2.0,
        if is_at_the_end { x - 4.0 } else { x + 4.0 },
        top + 12.0,
        if is_at_the_end { " text-anchor=\"end\"" } else { "" },
        escape(label)
    )
}

/// The finite points, at their places on the axis.
fn thinned(series: &Series, place: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let placed = series.points.iter().map(|&(x, y)| (place(x), y));
    let finite: Vec<(f64, f64)> = placed.filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
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
        assert_eq!(thinned(&Series { name: String::new(), points }, |x| x).len(), 334);
        assert!(draw(&Plot::default()).is_none());
    }

    #[test]
    fn logarithmic_axes_have_powers_of_ten_and_marks() {
        let points = vec![(0.0, 3.0), (0.01, 2.0), (1.0, 1.0), (100.0, 4.0)];
        let marks = [("lowest", 1.0), ("outside", 1000.0)].map(|(label, x)| Mark { label: label.into(), x });
        let series = vec![Series { name: "loss".into(), points }];
        let plot = Plot { series, log_x: true, marks: marks.into(), ..Plot::default() };
        let svg = draw(&plot).unwrap();
        for tick in ["0.01", "0.1", "1", "10", "100"] {
            assert!(svg.contains(&format!("text-anchor=\"middle\">{tick}</text>")), "{tick} in {svg}");
        }
        assert!(svg.contains(">lowest</text>") && !svg.contains("outside"));
        let middle = (MARGINS.0 + WIDTH - MARGINS.1) / 2.0;
        assert!(svg.contains(&format!("x1=\"{middle:.1}\" x2=\"{middle:.1}\"")), "{svg}");
    }
}
