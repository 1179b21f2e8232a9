//! A backbone in plain candle code: a small vision transformer (Dosovitskiy et al., arXiv 2010.11929), differentiated
//! by candle's autograd. `cargo run --release --example custom_backbone` trains it with SimCLR and EquiMod on bundled
//! images, saves it, and loads it again.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{D, Device, Tensor};
use candle_nn::ops::{layer_norm_slow, softmax};
use candle_nn::{Conv2d, Conv2dConfig, Init, Linear, Module, VarBuilder, conv2d, linear};
use equimod::core::backbone::BackboneBuilder;
use equimod::core::{AutogradBackbone, Features, Mode, Model, Network, Result};
use equimod::data::ParquetDataset;
use equimod::train::{JsonLines, RunDirectory, TrainContext, Trainer, resolve};

const WIDTH: usize = 32;
const HEADS: usize = 4;
const DEPTH: usize = 2;
const PATCH: usize = 4;

/// Layer norm without fusion, because candle's fused layer norm has no gradient.
struct LayerNorm(Tensor, Tensor);

impl LayerNorm {
    fn new(vb: VarBuilder) -> Result<Self> {
        Ok(Self(vb.get_with_hints(WIDTH, "weight", Init::Const(1.0))?, vb.get(WIDTH, "bias")?))
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        Ok(layer_norm_slow(xs, &self.0, &self.1, 1e-6)?)
    }
}

struct Block {
    norms: [LayerNorm; 2],
    qkv: Linear,
    proj: Linear,
    mlp: [Linear; 2],
}

impl Block {
    fn new(vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            norms: [LayerNorm::new(vb.pp("norm1"))?, LayerNorm::new(vb.pp("norm2"))?],
            qkv: linear(WIDTH, 3 * WIDTH, vb.pp("attn.qkv"))?,
            proj: linear(WIDTH, WIDTH, vb.pp("attn.proj"))?,
            mlp: [linear(WIDTH, 4 * WIDTH, vb.pp("mlp.fc1"))?, linear(4 * WIDTH, WIDTH, vb.pp("mlp.fc2"))?],
        })
    }

    fn attention(&self, xs: &Tensor) -> Result<Tensor> {
        let (batch, tokens, _) = xs.dims3()?;
        let qkv = self.qkv.forward(xs)?.reshape((batch, tokens, 3, HEADS, WIDTH / HEADS))?.permute((2, 0, 3, 1, 4))?;
        let [q, k, v] = [0, 1, 2].map(|part| qkv.get(part).and_then(|part| part.contiguous()));
        let scores = (q?.matmul(&k?.t()?.contiguous()?)? / ((WIDTH / HEADS) as f64).sqrt())?;
        let mixed = softmax(&scores, D::Minus1)?.matmul(&v?)?;
        Ok(self.proj.forward(&mixed.transpose(1, 2)?.reshape((batch, tokens, WIDTH))?)?)
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = (xs + self.attention(&self.norms[0].forward(xs)?)?)?;
        let hidden = self.mlp[0].forward(&self.norms[1].forward(&xs)?)?.gelu_erf()?;
        Ok((&xs + self.mlp[1].forward(&hidden)?)?)
    }
}

struct Vit {
    patches: Conv2d,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Vit {
    fn new(image_size: usize, vb: VarBuilder) -> Result<Self> {
        let config = Conv2dConfig { stride: PATCH, ..Default::default() };
        let tokens = (image_size / PATCH).pow(2);
        let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
        Ok(Self {
            patches: conv2d(3, WIDTH, PATCH, config, vb.pp("patch_embed.proj"))?,
            positions: vb.get_with_hints((tokens, WIDTH), "pos_embed", normal)?,
            blocks: (0..DEPTH).map(|block| Block::new(vb.pp("blocks").pp(block))).collect::<Result<_>>()?,
            norm: LayerNorm::new(vb.pp("norm"))?,
        })
    }
}

impl Network for Vit {
    /// Images `[batch, 3, height, width]` → the mean token `[batch, WIDTH]`, and the tokens after each block.
    fn forward(&self, images: &Tensor, _: Mode) -> Result<Features> {
        let tokens = self.patches.forward(images)?.flatten_from(2)?.transpose(1, 2)?;
        let mut xs = tokens.broadcast_add(&self.positions)?;
        let mut stages = Vec::new();
        for block in &self.blocks {
            xs = block.forward(&xs)?;
            stages.push(xs.clone());
        }
        Ok(Features { pooled: self.norm.forward(&xs)?.mean(1)?, stages })
    }

    fn features(&self) -> usize {
        WIDTH
    }

    fn stage_widths(&self) -> Vec<usize> {
        vec![WIDTH; DEPTH]
    }
}

const RECIPE: &str = r#"
data = { batch = 32 }
backbone = { kind = "custom", name = "vit-nano" }
augmentation = { size = 16 }
objective = { kind = "simclr", projection_head = "64-16 bn-" }
equivariance = { equimod = { projection_head = "64-16 bn-", parameter_head = "16 bn", predictor = "16 bn-" } }
optimizer = { kind = "adamw" }
schedule = { epochs = 2, warmup_epochs = 0.2, learning_rate = 0.001 }
"#;

fn train() -> std::result::Result<(PathBuf, Model), Box<dyn std::error::Error>> {
    let vit: BackboneBuilder =
        Arc::new(|build, scope| AutogradBackbone::build(scope, |vb| Vit::new(build.image_size, vb)));
    let recipe = resolve(&[], "the example", RECIPE, &[])?;
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/emoji/noto-test.parquet");
    let dataset = Arc::new(ParquetDataset::open(images.as_ref(), None)?);
    let context = TrainContext::alone(Device::Cpu, 2, "example");
    let mut trainer = Trainer::with_backbone(recipe, dataset, context, vit.clone())?;
    let folder = std::env::temp_dir().join(format!("equimod-custom-backbone-{}", std::process::id()));
    let run = RunDirectory::create(&folder, &trainer.info(), RECIPE, trainer.recipe())?;
    trainer.run(&run, &mut [Box::new(JsonLines::open(&folder.join("metrics.jsonl"))?)], None)?;
    let model = Model::load_with_backbone(&folder, &Device::Cpu, vit)?;
    Ok((folder, model))
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (folder, model) = train()?;
    let metrics = std::fs::read_to_string(folder.join("metrics.jsonl"))?;
    println!("{}\n{}", metrics.lines().next().unwrap_or_default(), metrics.lines().last().unwrap_or_default());
    println!("{} parameters in {}", model.params().count("backbone."), folder.display());
    Ok(())
}

#[test]
fn it_trains() {
    let (folder, model) = train().unwrap_or_else(|error| panic!("{error}"));
    let features = model.features(&[128; 2 * 16 * 16 * 3], (2, 16, 16)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((features.pooled.dims(), features.stages[1].dims()), (&[2, WIDTH][..], &[2, 16, WIDTH][..]));
    let losses = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    let loss = |line: Option<&str>| {
        let value: serde_json::Value = serde_json::from_str(line.unwrap_or_default()).unwrap_or_default();
        value["loss"].as_f64().unwrap_or(f64::NAN)
    };
    let (first, last) = (loss(losses.lines().next()), loss(losses.lines().last()));
    assert!(last < first, "the loss went from {first} to {last}");
    // Without the custom backbone, loading fails with its name.
    let error = Model::load(&folder, &Device::Cpu).map(|_| ()).map_err(|error| error.to_string());
    assert!(error.is_err_and(|error| error.contains("vit-nano")));
}
