//! Classifiers on frozen features.

use super::{Classification, Classify, Evaluation, LabeledTask};
use crate::Result;
use crate::knn::{self, KnnConfig};
use crate::logistic::{LogisticConfig, sweep_observed};
use crate::report::{Plot, Series};
use crate::results::AT_AN_END;

impl Classify for KnnConfig {
    fn protocol(&self) -> &'static str {
        "knn"
    }

    fn classify(&self, evaluation: &Evaluation) -> Result<Vec<Classification>> {
        let classification = |task: LabeledTask| {
            Ok(Classification {
                predictions: knn::predict(&task.train, &task.test, self)?,
                protocol: self.protocol().into(),
                variant: String::new(),
                chosen: None,
                detail: format!("k {}, T {}", self.k, self.temperature),
                curves: Vec::new(),
                task,
            })
        };
        evaluation.labeled_tasks()?.into_iter().map(classification).collect()
    }
}

impl Classify for LogisticConfig {
    fn protocol(&self) -> &'static str {
        "logistic"
    }

    fn classify(&self, evaluation: &Evaluation) -> Result<Vec<Classification>> {
        let classification = |task: LabeledTask| {
            let fits = self.l2_strengths.len() as u64 + 1;
            // A search that goes on beyond its range has more.
            let progress = |done: usize| evaluation.observer.progress("logistic", done as u64, fits.max(done as u64));
            let sweep = sweep_observed(&task.fit, &task.validation, self, &progress)?;
            let chosen = format!(
                "L2 strength {:.2e}, the best of {} on {}, {:.1} % there{}",
                sweep.l2_strength,
                sweep.curve.len(),
                task.validation_description(),
                100.0 * sweep.validation_accuracy,
                if sweep.is_at_an_end() { format!(", {AT_AN_END}") } else { String::new() }
            );
            let point = |&(strength, accuracy): &(f64, f64)| (strength.log10(), accuracy);
            let series = Series { name: "validation".into(), points: sweep.curve.iter().map(point).collect() };
            Ok(Classification {
                predictions: sweep.classifier.predict(&task.test)?,
                protocol: self.protocol().into(),
                variant: String::new(),
                chosen: Some(chosen),
                detail: "L-BFGS".into(),
                curves: vec![Plot {
                    title: format!("{}: accuracy on validation", task.name),
                    x_label: "log10 of the L2 strength w".into(),
                    series: vec![series],
                    ..Plot::default()
                }],
                task,
            })
        };
        evaluation.labeled_tasks()?.into_iter().map(classification).collect()
    }
}
