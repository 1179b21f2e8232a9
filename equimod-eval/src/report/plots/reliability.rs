//! Reliability diagrams.

use std::fmt::Write;

use super::axes::{HEIGHT, Range, WIDTH, axes, x_position, y_position};
use super::{entry, framed, open};
use crate::report::Reliability;

/// A bar for each bin of confidence, as high as its accuracy and darker the more images it holds. The line is perfect
/// calibration, dots are the mean confidence. `None` if no bin holds an image.
pub fn draw(diagram: &Reliability) -> Option<String> {
    let most = diagram.bins.iter().map(|bin| bin.count).max().filter(|count| *count > 0)?;
    let unit = Range { low: 0.0, high: 1.0 };
    let mut svg = open(&diagram.title, WIDTH, HEIGHT);
    axes(&mut svg, unit.labeled_ticks(), (unit, unit), "confidence");
    let width = 1.0 / diagram.bins.len() as f64;
    for (i, bin) in diagram.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
        let (left, right) = (x_position(unit, i as f64 * width), x_position(unit, (i + 1) as f64 * width));
        let (top, bottom) = (y_position(unit, bin.accuracy), y_position(unit, 0.0));
        let shade = 0.25 + 0.75 * (bin.count as f64 / most as f64).sqrt();
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"var(--c0)\" \
             opacity=\"{shade:.2}\">\
             <title>{} images: confidence {:.3}, accuracy {:.3}</title></rect><circle cx=\"{:.1}\" cy=\"{:.1}\" \
              r=\"2.5\" \
             fill=\"var(--c1)\"/>",
            left + 1.0,
            right - left - 2.0,
            bottom - top,
            bin.count,
            bin.confidence,
            bin.accuracy,
            x_position(unit, bin.confidence),
            y_position(unit, bin.confidence),
        );
    }
    let _ = write!(
        svg,
        "<line class=\"interval\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/></svg>",
        x_position(unit, 0.0),
        y_position(unit, 0.0),
        x_position(unit, 1.0),
        y_position(unit, 1.0)
    );
    let legend = entry("var(--c0)", "accuracy (darker: more images)") + &entry("var(--c1)", "mean confidence");
    Some(framed(&diagram.title, &svg, &legend))
}
