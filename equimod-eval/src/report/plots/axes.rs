//! Axes with ticks at round values.

use std::fmt::Write;

use super::escape;

pub const WIDTH: f64 = 480.0;
pub const HEIGHT: f64 = 260.0;
/// Margins: left, right, top, bottom.
pub const MARGINS: (f64, f64, f64, f64) = (52.0, 18.0, 10.0, 36.0);

/// A range of values on an axis.
#[derive(Clone, Copy)]
pub struct Range {
    pub low: f64,
    pub high: f64,
}

impl Range {
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        match high > low {
            true => Self { low, high },
            false => Self { low: low - 0.5, high: high + 0.5 },
        }
    }

    /// The position of `value` between `low` (0) and `high` (1).
    pub fn share(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// About five round values in the range.
    pub fn ticks(self) -> Vec<f64> {
        let rough = (self.high - self.low) / 5.0;
        let magnitude = 10f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * magnitude >= rough).unwrap_or(10.0);
        let step = factor * magnitude;
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }

    /// [`ticks`](Self::ticks) with their labels.
    pub fn labeled_ticks(self) -> Vec<(f64, String)> {
        self.ticks().into_iter().map(|tick| (tick, number(tick))).collect()
    }

    /// Ticks of a range of decimal logarithms: powers of ten, or 1, 2 and 5 times these in a short range.
    pub fn log_ticks(self) -> Vec<(f64, String)> {
        let powers = self.low.floor() as i32..=self.high.ceil() as i32;
        let factors: &[f64] = if self.high - self.low >= 2.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        let inside = all.filter(|value| (self.low - 1e-9..=self.high + 1e-9).contains(&value.log10()));
        inside.map(|value| (value.log10(), number(value))).collect()
    }
}

pub fn x_position(range: Range, x: f64) -> f64 {
    MARGINS.0 + range.share(x) * (WIDTH - MARGINS.0 - MARGINS.1)
}

pub fn y_position(range: Range, y: f64) -> f64 {
    HEIGHT - MARGINS.3 - range.share(y) * (HEIGHT - MARGINS.2 - MARGINS.3)
}

/// Draws both axes, the horizontal one with these ticks. (Writing to a string does not fail.)
pub fn axes(svg: &mut String, x_ticks: Vec<(f64, String)>, (xs, ys): (Range, Range), label: &str) {
    let (right, bottom) = (WIDTH - MARGINS.1, HEIGHT - MARGINS.3);
    for tick in ys.ticks() {
        let y = y_position(ys, tick);
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
    for (tick, name) in x_ticks {
        let x = x_position(xs, tick);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{end}\"/>\
             <text x=\"{x:.1}\" y=\"{base}\" text-anchor=\"middle\">{name}</text>",
            end = bottom + 4.0,
            base = bottom + 16.0
        );
    }
    let middle = (MARGINS.0 + right) / 2.0;
    let _ = write!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT - 4.0, escape(label));
}

/// A value as short text, without trailing zeros.
pub fn number(value: f64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let ticks = Range { low: 0.13, high: 0.87 }.ticks();
        assert_eq!(ticks.iter().map(|t| number(*t)).collect::<Vec<_>>(), ["0.2", "0.4", "0.6", "0.8"]);
        assert!(!Range::of([3.0, 3.0].into_iter()).ticks().is_empty());
    }
}
