//! Event files, read by an independent reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;

use equimod_train::{ProbeReport, Sink, StepReport, TensorBoard};
use tfrecord::EventIter;
use tfrecord::protobuf::event::What;
use tfrecord::protobuf::summary::value::Value;

#[test]
fn another_reader_finds_every_scalar() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = TensorBoard::open(folder.path(), 0).unwrap();
    for step in 1..=3u64 {
        let metrics = vec![("invariance_loss".into(), 0.5), ("equimod.loss".into(), 0.25 * step as f64)];
        let report = StepReport { step, loss: 2.0 / step as f64, learning_rate: 0.125, metrics, ..Default::default() };
        sink.step(&report).unwrap();
    }
    sink.probe(&ProbeReport { step: 3, epoch: 1, scores: vec![("knn".into(), 0.75)] }).unwrap();
    sink.flush().unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert!(files[0].file_name().unwrap().to_string_lossy().starts_with("events.out.tfevents."));
    let events: Vec<_> = EventIter::open(&files[0], Default::default()).unwrap().map(Result::unwrap).collect();
    assert!(matches!(&events[0].what, Some(What::FileVersion(version)) if version == "brain.Event:2"));
    let mut scalars = Vec::new();
    for event in &events[1..] {
        assert!(event.wall_time > 1.7e9);
        let Some(What::Summary(summary)) = &event.what else { panic!("{event:?}") };
        for value in &summary.value {
            let Some(Value::SimpleValue(scalar)) = value.value else { panic!("{value:?}") };
            scalars.push((event.step, value.tag.as_str(), scalar));
        }
    }
    for want in [
        (1, "train/loss", 2.0),
        (2, "train/loss", 1.0),
        (2, "train/learning_rate", 0.125),
        (3, "equimod/loss", 0.75),
        (3, "train/invariance_loss", 0.5),
        (3, "probe/knn", 0.75),
    ] {
        assert!(scalars.contains(&want), "{want:?} in {scalars:?}");
    }
}
