//! Evaluates a model on the bundled emoji or a folder of images: k-NN and logistic regression on frozen features,
//! with 95 % intervals. `cargo run --release --example evaluate [MODEL] [FOLDER]`; without a model, an untrained
//! network.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use candle_core::Device;
use equimod::core::Model;
use equimod::data::{FolderDataset, Splits};
use equimod::eval::Evaluation;
use equimod::eval::results::plain;
use equimod::train::{TrainContext, Trainer};

fn evaluate(model: Option<&str>, folder: Option<&str>) -> Result<String, Box<dyn std::error::Error>> {
    let splits = match folder {
        Some(folder) => Splits::new(folder, Arc::new(FolderDataset::open(folder.as_ref())?)),
        None => equimod::bundled::emoji()?,
    };
    let model = match model {
        Some(model) => Model::load(model.as_ref(), &Device::Cpu)?,
        None => {
            let recipe = equimod::recipes::built_in("quick", &["backbone.width=4", "augmentation.size=16"])?;
            Trainer::new(recipe, splits.train.clone(), TrainContext::alone(Device::Cpu, 2, "example"))?.model()?
        }
    };
    let evaluation = Evaluation::new(&model, &splits).seed(1);
    let mut rows = evaluation.knn()?.rows;
    rows.extend(evaluation.logistic()?.rows);
    Ok(plain(&rows, true))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    print!("{}", evaluate(arguments.first().map(String::as_str), arguments.get(1).map(String::as_str))?);
    Ok(())
}

#[test]
fn it_prints_numbers_with_intervals() {
    let table = evaluate(None, None).unwrap_or_else(|error| panic!("{error}"));
    assert!(table.contains("95 % interval") && table.contains("L-BFGS"), "{table}");
    // A heading, then three label columns by two protocols with four numbers each.
    assert_eq!(table.lines().count(), 1 + 3 * 2 * 4, "{table}");
}
