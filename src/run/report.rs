//! HTML report of a run, made from its files and results.

use std::path::Path;

use equimod_core::{Method, Model};
use equimod_data::{Dataset, Image, Policy, clean_view, view_rng};
use equimod_eval::ResultRow;
use equimod_eval::evaluation::{equivariance_section, predictions_section};
use equimod_eval::report::{Figure, ImageRow, Plot, ReportData, ReportImage, Section, Series, render};
use equimod_eval::shown::shown_images;
use equimod_train::{Recipe, RunInfo};

use crate::run::files::Metrics;

/// Content of a report.
pub struct RunReport<'a> {
    /// Run directory.
    pub run: &'a Path,
    /// Content of `run.json`.
    pub info: &'a RunInfo,
    /// Recipe of the run.
    pub recipe: &'a Recipe,
    /// Trained model.
    pub model: &'a Model,
    /// Durations of training and evaluation, as text.
    pub times: Vec<(String, String)>,
    /// Evaluation results.
    pub results: &'a [ResultRow],
    /// Sentences of the verdict.
    pub verdict: &'a [String],
    /// Commands that answer the next questions.
    pub next: Vec<String>,
    /// Training images.
    pub dataset: &'a dyn Dataset,
    /// Augmentation policy.
    pub policy: &'a Policy,
}

impl RunReport<'_> {
    /// Renders the page.
    ///
    /// # Errors
    ///
    /// If the metrics or an image cannot be read, or the model fails on an image.
    pub fn html(&self) -> anyhow::Result<String> {
        let info = self.info;
        let mut facts: Vec<(String, String)> = vec![
            ("data".into(), format!("{}, {} images", self.dataset.name(), self.dataset.len())),
            ("seed".into(), info.seed.to_string()),
            ("version".into(), info.version.clone()),
            ("device".into(), info.device.clone()),
            ("host".into(), info.host.clone()),
            ("data fingerprint".into(), info.data_fingerprint.chars().take(16).collect()),
            ("command".into(), info.command.join(" ")),
        ];
        let git = info.git.as_ref().map(ToString::to_string);
        let known = [("started", info.started.clone()), ("ended", info.ended.clone()), ("git", git)];
        facts.extend(known.into_iter().filter_map(|(name, value)| Some((name.into(), value?))));
        facts.extend(self.times.iter().cloned());
        Ok(render(&ReportData {
            title: format!("equimod: {}", self.run.file_name().unwrap_or_default().to_string_lossy()),
            summary: self.recipe.about.clone(),
            verdict: self.verdict.to_vec(),
            next: self.next.clone(),
            facts,
            lead: Vec::new(),
            results: self.results.to_vec(),
            sections: vec![
                equivariance_section(self.results),
                self.views()?,
                Section::lines("Curves", plots(self.run)?),
            ],
            recipe: self.recipe.to_toml(),
            notices: self.dataset.notice().map(str::to_owned).into_iter().collect(),
        }))
    }

    /// Views with their parameters and, if a module predicts their embeddings, what is nearest to the predictions.
    fn views(&self) -> anyhow::Result<Section> {
        let predicts = |method: &Method| method.modules().iter().any(|module| module.module.start().is_some());
        if self.model.method().is_some_and(predicts) {
            return Ok(predictions_section(self.model, self.dataset, self.info.seed)?);
        }
        Ok(Section::new("Views and their parameters", vec![Figure::Images(self.images()?)]))
    }

    /// Rows of images with their views.
    fn images(&self) -> anyhow::Result<Vec<ImageRow>> {
        let row = |sample: usize| self.image_row(sample, &self.dataset.image(sample)?);
        shown_images(self.dataset).into_iter().map(row).collect()
    }

    fn image_row(&self, sample: usize, image: &Image) -> anyhow::Result<ImageRow> {
        let title = self.dataset.text("name", sample).map_or_else(|| self.dataset.key(sample), str::to_lowercase);
        let clean = clean_view(image, &self.policy.clean);
        let mut images = vec![ReportImage { title, png: clean.encode_png()?, ..Default::default() }];
        for (number, view) in self.policy.views.iter().enumerate() {
            let params = view.sample(image.size(), &mut view_rng(self.info.seed, 0, sample as u64, number as u64));
            images.push(ReportImage {
                title: format!("view {}", number + 1),
                png: view.apply(image, &params).encode_png()?,
                parameters: view.describe(&params),
                correct: None,
            });
        }
        Ok(ImageRow { images })
    }
}

/// Plots of losses, equivariance, probes, learning rate and gradient norm over steps.
fn plots(run: &Path) -> anyhow::Result<Vec<Plot>> {
    let metrics = Metrics::read(run)?;
    let series = |key: &str| metrics.series(&key.replace('_', " ").replace('.', ": "), key);
    let plot = |title: &str, series: Vec<Series>| Plot {
        title: title.into(),
        x_label: "step".into(),
        series,
        ..Plot::default()
    };
    let names = metrics.names();
    let named = |part: &str| -> Vec<Series> { names.iter().filter(|k| k.contains(part)).map(|k| series(k)).collect() };
    Ok(vec![
        plot("loss", named("loss")),
        plot("absolute equivariance during training", named("absolute_equivariance")),
        plot("probe accuracy", named("probe.")),
        plot("learning rate", vec![series("learning_rate")]),
        plot("gradient norm", vec![series("gradient_norm")]),
    ])
}
