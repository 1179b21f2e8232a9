//! `Evaluation` as a program uses it: every protocol, comparison with the untrained network, and a custom protocol.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::cell::RefCell;

use common::{SIDE, colors, model};
use equimod_core::Model;
use equimod_data::{Policy, Splits};
use equimod_eval::evaluation::{
    EquivarianceProtocol, FewShotProtocol, FinetuneProtocol, HealthProtocol, Measurement, ParameterProtocol, Report,
    RetrievalProtocol, SummaryProtocol, TOP_1,
};
use equimod_eval::finetune::FinetuneConfig;
use equimod_eval::knn::KnnConfig;
use equimod_eval::linear::LinearConfig;
use equimod_eval::logistic::{LogisticConfig, l2_strengths};
use equimod_eval::{Evaluation, Observer, Protocol, Result, ResultRow};

const EQUIMOD: &str = r#"{"equimod": {"projection_head": "16-8", "parameter_head": "16", "predictor": "8 bn-"}}"#;

fn network() -> Model {
    model(Policy::built_in("simclr-cifar10", SIDE).unwrap(), EQUIMOD)
}

/// Images of three colors, which any classifier separates; a fifth of them is held out for testing.
fn splits() -> Splits {
    Splits::new("colors", colors(150, 0, false))
}

fn accuracy(rows: &[ResultRow]) -> f64 {
    rows.iter().find(|row| row.metric == TOP_1).unwrap().value
}

/// Stores messages and the last progress.
#[derive(Default)]
struct Recorder(RefCell<Vec<String>>);

impl Observer for Recorder {
    fn log(&self, message: &str) {
        self.0.borrow_mut().push(message.to_owned());
    }

    fn progress(&self, protocol: &'static str, step: u64, steps: u64) {
        if step == steps {
            self.0.borrow_mut().push(format!("{protocol} {steps}"));
        }
    }
}

#[test]
fn classifiers_give_rows_with_intervals_and_sections() {
    let (model, splits, recorder) = (network(), splits(), Recorder::default());
    let evaluation = Evaluation::new(&model, &splits).seed(3).observer(&recorder);
    let logistic = LogisticConfig { l2_strengths: l2_strengths(3), ..Default::default() };
    let linear = LinearConfig { epochs: 20, batch: 16, learning_rate: 2.0, ..Default::default() };
    let settings = FinetuneConfig { epochs: 8, ..Default::default() };
    let finetune = FinetuneProtocol { label_fractions: vec![0.5], batch: Some(16), settings, ..Default::default() };
    let protocols: [(&str, &dyn Protocol); 4] = [
        ("knn", &KnnConfig { k: 5, ..Default::default() }),
        ("logistic", &logistic),
        ("linear", &linear),
        ("finetune", &finetune),
    ];
    for (name, protocol) in protocols {
        let Report { rows, classifications, sections, summary, .. } = evaluation.run(protocol).unwrap();
        assert_eq!((protocol.name(), classifications.len()), (name, 1));
        assert!(accuracy(&rows) > 0.8, "{name}: {rows:?}");
        assert!(rows[0].interval.is_some() && rows[0].chance.is_some() && !summary.is_empty());
        // 50 images of each color, of which 10 are held out.
        assert!(rows[0].detail.ends_with("30 held-out images of 3 classes"), "{}", rows[0].detail);
        assert!(sections.iter().any(|section| section.title == "Reliability"));
    }
    let steps = recorder.0.borrow();
    assert!(
        steps.iter().any(|step| step.starts_with("linear ")) && steps.iter().any(|step| step.starts_with("finetune "))
    );
}

#[test]
fn measures_give_rows_for_every_module_parameter_and_rank() {
    let (model, splits) = (network(), splits());
    let evaluation = Evaluation::new(&model, &splits).seed(1);
    let metrics = |protocol: &dyn Protocol| -> Vec<String> {
        evaluation.run(protocol).unwrap().rows.into_iter().map(|row| row.metric).collect()
    };
    let has = |metrics: &[String], wanted: &str| metrics.iter().filter(|metric| *metric == wanted).count();
    let overall = metrics(&EquivarianceProtocol { images: 20, each_augmentation: false });
    let each = metrics(&EquivarianceProtocol { images: 20, each_augmentation: true });
    assert_eq!((overall.len(), has(&each, "absolute equivariance")), (4, 1 + 4));
    assert!(has(&metrics(&ParameterProtocol { images: 60 }), "R²") > 20);
    let retrieval = metrics(&RetrievalProtocol { images: 5, views: 6 });
    assert_eq!((has(&retrieval, "MRR"), has(&retrieval, "recall@1")), (1, 1));
    assert_eq!(metrics(&HealthProtocol { images: 20 }).len(), 5);
    let few_shot = FewShotProtocol { ways: 3, queries: 4, episodes: 10, ..Default::default() };
    // Three classifiers for each of two numbers of shots.
    assert_eq!(metrics(&few_shot).len(), 6);
    assert_eq!(metrics(&SummaryProtocol::default()), [TOP_1; 2]);
}

#[test]
fn the_untrained_network_is_measured_beside_the_model() {
    let (model, splits) = (network(), splits());
    let evaluation = Evaluation::new(&model, &splits).with_untrained(true);
    let rows = evaluation.measure(&KnnConfig { k: 5, ..Default::default() }).unwrap().rows;
    // This model was never trained, so both are the same.
    assert!(rows.iter().all(|row| row.untrained == Some(row.value)), "{rows:?}");
}

/// A custom protocol: the number of test images.
struct Count;

impl Protocol for Count {
    fn name(&self) -> &'static str {
        "count"
    }

    fn summary(&self) -> &'static str {
        "Numbers of images."
    }

    fn measure(&self, evaluation: &Evaluation) -> Result<Measurement> {
        let tasks = evaluation.labeled_tasks()?;
        let row = |task: &equimod_eval::evaluation::LabeledTask| ResultRow {
            task: task.name.clone(),
            value: task.test.labels.len() as f64,
            ..Default::default()
        };
        Ok(tasks.iter().map(row).collect::<Vec<_>>().into())
    }
}

#[test]
fn other_protocols_run_and_unknown_tasks_are_refused() {
    let (model, splits) = (network(), splits());
    let rows = Evaluation::new(&model, &splits).run(&Count).unwrap().rows;
    assert_eq!((rows.len(), rows[0].value), (1, 30.0));
    let error = Evaluation::new(&model, &splits).tasks(["species"]).run(&Count).err().unwrap().to_string();
    assert!(error.contains("species") && error.contains("colors"), "{error}");
}
