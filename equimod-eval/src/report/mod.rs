//! A report as one self-contained HTML file with results, curves and images, without scripts or outside requests.

mod definitions;
mod escape;
mod figures;
mod html;
mod images;
mod plots;
mod results;

use serde::{Deserialize, Serialize};

pub use escape::escape;
pub use html::render;
pub use plots::{effect_file, figure};
pub use results::share_chart;

use crate::predictions::Bin;
use crate::results::ResultRow;

/// The contents of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportData {
    /// Title.
    pub title: String,
    /// Sentence below the title.
    pub summary: String,
    /// Sentences of the verdict, above everything else.
    pub verdict: Vec<String>,
    /// Commands that answer the next questions, below the verdict.
    pub next: Vec<String>,
    /// `(name, value)` pairs: recipe, seed, version, device, time.
    pub facts: Vec<(String, String)>,
    /// Sections above the numbers.
    pub lead: Vec<Section>,
    /// Rows of numbers.
    pub results: Vec<ResultRow>,
    /// Sections below the numbers.
    pub sections: Vec<Section>,
    /// Recipe as TOML; empty for none.
    pub recipe: String,
    /// License notices.
    pub notices: Vec<String>,
}

/// Figures under one heading. A section without anything to show is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Figures below the heading.
    pub figures: Vec<Figure>,
    /// Whether the section opens on a click only.
    pub folded: bool,
}

impl Section {
    /// Figures under the heading `title`.
    pub fn new(title: &str, figures: Vec<Figure>) -> Self {
        Self { title: title.into(), figures, folded: false }
    }

    /// A section with one table.
    pub fn table(title: &str, table: Table) -> Self {
        Self::new(title, vec![Figure::Table(table)])
    }

    /// The same section, which opens on a click only.
    pub fn folded(self) -> Self {
        Self { folded: true, ..self }
    }

    /// A section with line plots side by side.
    pub fn lines(title: &str, plots: Vec<Plot>) -> Self {
        Self::new(title, plots.into_iter().map(Figure::Lines).collect())
    }
}

/// A figure of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Figure {
    /// Table of texts.
    Table(Table),
    /// Line plot.
    Lines(Plot),
    /// Bar chart.
    Bars(Bars),
    /// Line plot with bands.
    Bands(BandPlot),
    /// Differences with intervals.
    Effects(Effects),
    /// Reliability diagram.
    Reliability(Reliability),
    /// Scatter plot, colored by class.
    Map(Map),
    /// Rows of images.
    Images(Vec<ImageRow>),
    /// Paragraph.
    Text(String),
    /// Definitions of the measures in these rows.
    Definitions(Vec<ResultRow>),
}

/// A table of texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Column headings.
    pub headings: Vec<String>,
    /// Rows of cells, each as long as the headings.
    pub rows: Vec<Vec<String>>,
}

/// A line plot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// Title above the plot.
    pub title: String,
    /// Label of the horizontal axis.
    pub x_label: String,
    /// Lines.
    pub series: Vec<Series>,
    /// Whether the horizontal axis is logarithmic; points and marks at x ≤ 0 are then left out.
    pub log_x: bool,
    /// Marked places on the horizontal axis.
    pub marks: Vec<Mark>,
}

/// A marked place on the horizontal axis: a vertical line with a label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Label.
    pub label: String,
    /// Place.
    pub x: f64,
}

/// A line of a plot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points `(x, y)` in ascending order of x; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A chart of horizontal bars from 0, each with a thin bar for each of its reference values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bars {
    /// Title above the plot.
    pub title: String,
    /// Name of the values in the legend.
    pub name: String,
    /// Names of the reference values in the legend, e.g. a control.
    pub references: Vec<String>,
    /// Bars from top to bottom.
    pub bars: Vec<Bar>,
    /// Decimals of the values beside them.
    pub decimals: usize,
}

/// A bar of a chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Label on the left.
    pub label: String,
    /// Length of the bar.
    pub value: f64,
    /// 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Reference values in the order of their names.
    pub references: Vec<Option<f64>>,
}

/// A line plot with a band around each line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BandPlot {
    /// Title above the plot.
    pub title: String,
    /// Label of the horizontal axis.
    pub x_label: String,
    /// Lines.
    pub lines: Vec<BandLine>,
}

/// A line with a band.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BandLine {
    /// Name in the legend.
    pub name: String,
    /// Points `(x, y, half width of the band)` in ascending order of x; those that are not finite are left out.
    pub points: Vec<(f64, f64, f64)>,
}

/// An effect plot: differences on both sides of 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Effects {
    /// Title above the plot.
    pub title: String,
    /// Differences from top to bottom.
    pub rows: Vec<EffectRow>,
}

/// A difference of an effect plot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EffectRow {
    /// Label on the left.
    pub label: String,
    /// Difference.
    pub value: f64,
    /// 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Whether the difference stands after a correction for multiple comparisons; its dot is filled.
    pub stands: bool,
}

/// A reliability diagram (Guo et al., arXiv 1706.04599).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Title above the plot.
    pub title: String,
    /// Bins of equal width in confidence.
    pub bins: Vec<Bin>,
}

/// A two-dimensional map of features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Map {
    /// Title above the plot.
    pub title: String,
    /// Name and points `(x, y)` of each class.
    pub classes: Vec<(String, Vec<(f64, f64)>)>,
}

/// A row of related images: an image with its views, its nearest neighbors, or what its class is confused with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageRow {
    /// Images, the main one first.
    pub images: Vec<ReportImage>,
}

/// An image of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportImage {
    /// Title above the image.
    pub title: String,
    /// Bytes of a PNG file.
    pub png: Vec<u8>,
    /// `(name, value)` pairs below the image, e.g. its augmentation parameters.
    pub parameters: Vec<(String, String)>,
    /// Whether a prediction for it is correct; `None` if it is not about a prediction.
    pub correct: Option<bool>,
}
