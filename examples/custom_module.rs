//! A custom equivariance module with SimCLR: a linear layer that predicts a view's augmentation parameters from its
//! features. `cargo run --release --example custom_module` trains it on bundled images and prints the first and the
//! last step.
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use candle_core::Device;
use equimod::core::nn::Linear;
use equimod::core::objective::mean_over_rows;
use equimod::core::optim::Weight;
use equimod::core::{EquivarianceModule, NamedModule, Needs, Result, StepContext, Term};
use equimod::data::ParquetDataset;
use equimod::train::{JsonLines, RunDirectory, TrainContext, Trainer, resolve};

struct ReadOff(Linear);

impl EquivarianceModule for ReadOff {
    fn needs(&self) -> Needs {
        Needs { parameters: true, ..Needs::default() }
    }

    /// Mean squared error of the normalized parameters; about 1 for a layer that predicts their mean.
    fn forward(&self, step: &StepContext) -> Result<Term> {
        let errors = (self.0.forward(&step.view_features()?)? - step.params()?)?.sqr()?.mean(1)?;
        Ok(Term { loss: mean_over_rows(&errors, step.collective.as_ref())?, metrics: Vec::new() })
    }
}

const RECIPE: &str = r#"
data = { batch = 32 }
backbone = { width = 4 }
augmentation = { size = 16 }
objective = { kind = "simclr", projection_head = "64-16 bn-" }
optimizer = { kind = "sgd" }
schedule = { epochs = 8, warmup_epochs = 0.2, learning_rate = 0.05 }
"#;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let recipe = resolve(&[], "the example", RECIPE, &[])?;
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/emoji/noto-test.parquet");
    let dataset = Arc::new(ParquetDataset::open(images.as_ref(), None)?);
    let context = TrainContext::alone(Device::Cpu, 2, "example");
    let mut trainer = Trainer::with_modules(recipe, dataset, context, &|build, scope| {
        let layer = Linear::new(build.features, build.view_width()?, true, &mut scope.scope("read_off"))?;
        Ok(vec![NamedModule { name: "read_off".into(), weight: Weight::Fixed(1.0), module: Box::new(ReadOff(layer)) }])
    })?;
    let folder = std::env::temp_dir().join(format!("equimod-custom-module-{}", std::process::id()));
    let run = RunDirectory::create(&folder, &trainer.info(), RECIPE, trainer.recipe())?;
    trainer.run(&run, &mut [Box::new(JsonLines::open(&folder.join("metrics.jsonl"))?)], None)?;
    let metrics = std::fs::read_to_string(folder.join("metrics.jsonl"))?;
    println!("{}\n{}", metrics.lines().next().unwrap_or_default(), metrics.lines().last().unwrap_or_default());
    Ok(())
}

#[test]
fn it_trains() {
    main().unwrap_or_else(|error| panic!("{error}"));
    // The run can be loaded like any other.
    let folder = std::env::temp_dir().join(format!("equimod-custom-module-{}", std::process::id()));
    let model = equimod::core::Model::load(&folder, &Device::Cpu).unwrap_or_else(|error| panic!("{error}"));
    assert!(model.params().iter().all(|(name, _)| !name.starts_with("equivariance.")));
}
