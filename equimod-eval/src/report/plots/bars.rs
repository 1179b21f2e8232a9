//! Horizontal bars.

use std::fmt::Write;

use super::axes::Range;
use super::{entry, escape, framed, open};
use crate::report::{Bar, Bars};

const WIDTH: f64 = 480.0;
/// Left and right end of the longest bar.
const LEFT: f64 = 176.0;
const RIGHT: f64 = WIDTH - 56.0;
/// Height of a bar, of the bar of a reference value, and of the space below both.
const BAR: f64 = 12.0;
const THIN: f64 = 5.0;
const GAP: f64 = 8.0;
/// Height of a line of a label of several.
const LINE: f64 = 11.0;
/// Colors of the reference values.
const COLORS: [&str; 4] = ["--c1", "--c2", "--c3", "--c4"];
/// Maximum number of characters of a label, and the number from which it is squeezed into its place.
const LABEL: usize = 36;
const WIDE_LABEL: usize = 26;

/// The bar chart; `None` if there is no bar. Reference values that no bar has take no place, and leave the colors of the
/// others as they are.
pub fn draw(bars: &Bars) -> Option<String> {
    let has = |place: &usize| bars.bars.iter().any(|bar| bar.references.get(*place).copied().flatten().is_some());
    let used: Vec<usize> = (0..bars.references.len().min(COLORS.len())).filter(has).collect();
    let finite: Vec<&Bar> = bars.bars.iter().filter(|bar| bar.value.is_finite()).collect();
    if finite.is_empty() {
        return None;
    }
    let ends = |bar: &&Bar| {
        let (low, high) = bar.interval.unwrap_or((bar.value, bar.value));
        bar.references.iter().map(|value| value.unwrap_or(0.0)).chain([0.0, bar.value, low, high]).collect::<Vec<_>>()
    };
    let range = Range::of(finite.iter().flat_map(ends).filter(|v| v.is_finite()));
    let position = |value: f64| LEFT + range.share(value) * (RIGHT - LEFT);
    let lines = finite.iter().map(|bar| lines_of(&bar.label, used.len()).len()).max().unwrap_or_default();
    let step = (BAR + used.len() as f64 * (THIN + 1.0)).max(lines as f64 * LINE) + GAP;
    let height = step * finite.len() as f64 + 8.0;
    let mut svg = open(&bars.title, WIDTH, height);
    for (i, bar) in finite.into_iter().enumerate() {
        one(&mut svg, bar, &used, 4.0 + step * i as f64, position);
        let (x, y) = (RIGHT + 8.0, 4.0 + step * i as f64 + 11.0);
        // Writing to a string does not fail.
        let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{:.1$}</text>", bar.value, bars.decimals);
    }
    let zero = position(0.0);
    // Bars on both sides need a clear line between them.
    let line = if range.share(0.0) > 0.0 { "interval" } else { "axis" };
    // Writing to a string does not fail.
    let _ = write!(svg, "<line class=\"{line}\" x1=\"{zero:.1}\" x2=\"{zero:.1}\" y1=\"0\" y2=\"{height}\"/></svg>");
    let name = |&place: &usize| entry(&format!("var({})", COLORS[place]), &bars.references[place]);
    let references: String = used.iter().map(name).collect();
    Some(framed(&bars.title, &svg, &(entry("var(--c0)", &bars.name) + &references)))
}

fn one(svg: &mut String, bar: &Bar, used: &[usize], top: f64, position: impl Fn(f64) -> f64) {
    let rectangle = |value: f64, y: f64, thick: f64, color: &str| {
        let (from, to) = (position(value.min(0.0)), position(value.max(0.0)));
        let length = to - from;
        format!("<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{thick}\" fill=\"var({color})\"/>")
    };
    *svg += &rectangle(bar.value, top, BAR, "--c0");
    for (number, &place) in used.iter().enumerate() {
        if let Some(value) = bar.references.get(place).copied().flatten().filter(|value| value.is_finite()) {
            *svg += &rectangle(value, top + BAR + 1.0 + number as f64 * (THIN + 1.0), THIN, COLORS[place]);
        }
    }
    if let Some((low, high)) = bar.interval {
        let (low, high, y) = (position(low), position(high), top + 6.0);
        let _ = write!(svg, "<line class=\"interval\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
    }
    let lines = lines_of(&bar.label, used.len());
    let first = if lines.len() > 1 { top + 8.0 } else { top + 11.0 };
    for (number, line) in lines.iter().enumerate() {
        *svg += &label(line, first + number as f64 * LINE, &bar.label);
    }
}

/// A label on one line, or, if it is long, on as many more as there are bars of reference values beside it, each of which
/// begins behind a comma or colon.
fn lines_of(label: &str, more: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = label;
    while lines.len() < more && rest.chars().count() > WIDE_LABEL {
        let is_end = |place: &usize| {
            matches!(rest.as_bytes()[*place], b',' | b':') && rest[..*place].chars().count() <= WIDE_LABEL
        };
        let mut breaks = rest.match_indices(' ').filter_map(|(place, _)| place.checked_sub(1)).filter(is_end);
        let Some(place) = breaks.next_back() else { break };
        lines.push(&rest[..=place]);
        rest = &rest[place + 2..];
    }
    lines.push(rest);
    lines
}

/// A line of a label with its end at the bars; one that is too long ends in an ellipsis, and has the whole as a tooltip.
fn label(line: &str, base: f64, whole: &str) -> String {
    let (text, tooltip): (String, String) = match line.chars().count() > LABEL {
        true => {
            let tooltip = format!("<title>{}</title>", escape(whole));
            (line.chars().take(LABEL - 1).chain(['…']).collect(), tooltip)
        }
        false => (line.to_owned(), String::new()),
    };
    let squeezed = match text.chars().count() > WIDE_LABEL {
        true => format!(" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\"", LEFT - 12.0),
        false => String::new(),
    };
    let end = LEFT - 8.0;
    let text = escape(&text);
    format!("<text x=\"{end:.1}\" y=\"{base:.1}\" text-anchor=\"end\"{squeezed}>{tooltip}{text}</text>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_labels_break_after_a_comma_or_colon_where_there_is_room() {
        let label = "class, finetune, 10 % of the labels";
        assert_eq!(lines_of(label, 2), ["class, finetune,", "10 % of the labels"]);
        assert_eq!(lines_of(label, 0), [label]);
        assert_eq!(lines_of("class, knn", 3), ["class, knn"]);
        let flag = "horizontal-flip: horizontal_flip (0 or 1), accuracy of the flag";
        assert_eq!(lines_of(flag, 2), ["horizontal-flip:", "horizontal_flip (0 or 1),", "accuracy of the flag"]);
        assert_eq!(lines_of(flag, 1), ["horizontal-flip:", "horizontal_flip (0 or 1), accuracy of the flag"]);
        let unbroken = "a-name-of-a-task-that-is-long-without-a-comma";
        assert_eq!(lines_of(unbroken, 2), [unbroken]);
        assert!(super::label(unbroken, 0.0, unbroken).contains("…</text>"));
    }
}
