//! Scatter plots, colored by class.

use std::fmt::Write;

use super::axes::Range;
use super::{entry, escape, framed, open};
use crate::report::Map;

const SIDE: f64 = 480.0;
const EDGE: f64 = 8.0;
/// Maximum number of classes in the legend: those with the most points.
const NAMED: usize = 12;

/// The scatter plot; `None` if it has no point.
pub fn draw(map: &Map) -> Option<String> {
    let all = || map.classes.iter().flat_map(|(_, points)| points.iter().copied());
    all().next()?;
    let (xs, ys) = (Range::of(all().map(|p| p.0)), Range::of(all().map(|p| p.1)));
    let position = |range: Range, value: f64| EDGE + range.share(value) * (SIDE - 2.0 * EDGE);
    let mut svg = open(&map.title, SIDE, SIDE);
    for (i, (name, points)) in map.classes.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = write!(svg, "<g fill=\"{}\"><title>{}</title>", color(i, map.classes.len()), escape(name));
        for &(x, y) in points {
            let _ =
                write!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\"/>", position(xs, x), SIDE - position(ys, y));
        }
        svg += "</g>";
    }
    svg += "</svg>";
    let mut largest: Vec<usize> = (0..map.classes.len()).collect();
    largest.sort_by_key(|&i| (std::cmp::Reverse(map.classes[i].1.len()), i));
    let named = |&i: &usize| entry(&color(i, map.classes.len()), &map.classes[i].0);
    let mut legend: String = largest.iter().take(NAMED).map(named).collect();
    if largest.len() > NAMED {
        legend += &format!("<span>and {} more</span>", largest.len() - NAMED);
    }
    Some(framed(&map.title, &svg, &legend))
}

/// Evenly spaced hues in an order that separates consecutive classes, readable on light and dark backgrounds.
fn color(class: usize, classes: usize) -> String {
    let hue = (class as f64 * 137.508) % 360.0;
    let light = if classes > 8 && class % 2 == 1 { 42 } else { 56 };
    format!("hsl({hue:.0},65%,{light}%)")
}
