//! Figures as inline SVG.

mod axes;
mod bands;
mod bars;
mod effects;
mod lines;
mod map;
mod reliability;

pub use effects::effect_file;

use super::{Figure, escape};

/// Number of line colors in the page's style sheet.
const COLORS: usize = 5;

/// A figure as SVG with its caption; `None` if there is nothing to draw or the figure is not a drawing.
pub fn figure(figure: &Figure) -> Option<String> {
    match figure {
        Figure::Lines(plot) => lines::draw(plot),
        Figure::Bars(bars) => bars::draw(bars),
        Figure::Bands(plot) => bands::draw(plot),
        Figure::Effects(plot) => effects::draw(plot),
        Figure::Reliability(diagram) => reliability::draw(diagram),
        Figure::Map(map) => map::draw(map),
        Figure::Table(_) | Figure::Images(_) | Figure::Text(_) | Figure::Definitions(_) => None,
    }
}

/// A drawing with its caption above and its legend below.
fn framed(title: &str, svg: &str, legend: &str) -> String {
    let legend = if legend.is_empty() { String::new() } else { format!("<div class=\"legend\">{legend}</div>") };
    format!("<figure><figcaption>{}</figcaption>{svg}{legend}</figure>", escape(title))
}

/// A legend entry.
fn entry(color: &str, name: &str) -> String {
    format!("<span><i style=\"background:{color}\"></i>{}</span>", escape(name))
}

/// The opening tag of a drawing.
fn open(title: &str, width: f64, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">", escape(title))
}
