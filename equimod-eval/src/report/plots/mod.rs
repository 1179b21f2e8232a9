//! Figures as SVG inside the page.

mod axes;
mod bars;
mod lines;
mod map;
mod reliability;

use super::{Figure, escape};

/// Colours of lines and classes that the page's style names.
const COLOURS: usize = 5;

/// A drawn figure with its caption, `None` where there is nothing to draw or where it is no drawing.
pub fn figure(figure: &Figure) -> Option<String> {
    match figure {
        Figure::Lines(plot) => lines::draw(plot),
        Figure::Bars(bars) => bars::draw(bars),
        Figure::Reliability(diagram) => reliability::draw(diagram),
        Figure::Map(map) => map::draw(map),
        Figure::Table(_) | Figure::Pictures(_) | Figure::Text(_) => None,
    }
}

/// A caption above a drawing, a legend below it.
fn framed(title: &str, svg: &str, legend: &str) -> String {
    let legend = if legend.is_empty() { String::new() } else { format!("<div class=\"legend\">{legend}</div>") };
    format!("<figure><figcaption>{}</figcaption>{svg}{legend}</figure>", escape(title))
}

/// An entry of a legend.
fn entry(colour: &str, name: &str) -> String {
    format!("<span><i style=\"background:{colour}\"></i>{}</span>", escape(name))
}

/// The head of a drawing.
fn open(title: &str, width: f64, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">", escape(title))
}
