//! Line plots as SVG inside the page.

use std::fmt::Write;

use super::{Plot, Series, escape};

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 260.0;
/// Left, right, top, bottom.
const MARGINS: (f64, f64, f64, f64) = (52.0, 12.0, 10.0, 36.0);
/// Most points of a line; longer ones are averaged in equal runs.
const POINTS: usize = 400;
const COLOURS: usize = 5;

/// A range of values on an axis.
#[derive(Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        match high > low {
            true => Self { low, high },
            false => Self { low: low - 0.5, high: high + 0.5 },
        }
    }

    fn share(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Round values, about five of them.
    fn ticks(self) -> Vec<f64> {
        let rough = (self.high - self.low) / 5.0;
        let magnitude = 10f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * magnitude >= rough).unwrap_or(10.0);
        let step = factor * magnitude;
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

fn x_place(range: Range, x: f64) -> f64 {
    MARGINS.0 + range.share(x) * (WIDTH - MARGINS.0 - MARGINS.1)
}

fn y_place(range: Range, y: f64) -> f64 {
    HEIGHT - MARGINS.3 - range.share(y) * (HEIGHT - MARGINS.2 - MARGINS.3)
}

/// A figure with caption and legend; `None` where there is nothing to draw.
pub fn line_plot(plot: &Plot) -> Option<String> {
    let lines: Vec<(String, Vec<(f64, f64)>)> =
        plot.series.iter().map(|s| (s.name.clone(), thinned(s))).filter(|(_, points)| !points.is_empty()).collect();
    if lines.is_empty() {
        return None;
    }
    let all = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let (xs, ys) = (Range::of(all().map(|p| p.0)), Range::of(all().map(|p| p.1)));
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(&plot.title));
    axes(&mut svg, xs, ys, &plot.x_label);
    let mut legend = String::new();
    for (i, (name, points)) in lines.iter().enumerate() {
        let colour = format!("var(--c{})", i % COLOURS);
        let path: Vec<String> =
            points.iter().map(|&(x, y)| format!("{:.1},{:.1}", x_place(xs, x), y_place(ys, y))).collect();
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke-width=\"1.6\" stroke-linejoin=\"round\" style=\"stroke:{colour}\" points=\"{}\"/>",
            path.join(" ")
        );
        let _ = write!(legend, "<span><i style=\"background:{colour}\"></i>{}</span>", escape(name));
    }
    Some(format!(
        "<figure><figcaption>{}</figcaption>{svg}</svg><div class=\"legend\">{legend}</div></figure>",
        escape(&plot.title)
    ))
}

fn axes(svg: &mut String, xs: Range, ys: Range, label: &str) {
    let (right, bottom) = (WIDTH - MARGINS.1, HEIGHT - MARGINS.3);
    for tick in ys.ticks() {
        let y = y_place(ys, tick);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{text:.1}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>",
            number(tick),
            left = MARGINS.0,
            text = MARGINS.0 - 6.0,
            base = y + 4.0
        );
    }
    for tick in xs.ticks() {
        let x = x_place(xs, tick);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{end}\"/>\
             <text x=\"{x:.1}\" y=\"{base}\" text-anchor=\"middle\">{}</text>",
            number(tick),
            end = bottom + 4.0,
            base = bottom + 16.0
        );
    }
    let middle = (MARGINS.0 + right) / 2.0;
    let _ = write!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT - 4.0, escape(label));
}

fn number(value: f64) -> String {
    let size = value.abs();
    match value {
        0.0 => "0".into(),
        _ if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        _ => {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
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
    fn ticks_are_round_and_inside() {
        let ticks = Range { low: 0.13, high: 0.87 }.ticks();
        assert_eq!(ticks.iter().map(|t| number(*t)).collect::<Vec<_>>(), ["0.2", "0.4", "0.6", "0.8"]);
        assert!(!Range::of([3.0, 3.0].into_iter()).ticks().is_empty());
    }

    #[test]
    fn long_lines_are_thinned_and_empty_plots_left_out() {
        let points = (0..1000).map(|i| (f64::from(i), 1.0)).collect();
        assert_eq!(thinned(&Series { name: String::new(), points }).len(), 334);
        assert!(line_plot(&Plot::default()).is_none());
    }
}
