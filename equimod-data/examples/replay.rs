//! Augments the images of a folder, writes the sampled parameters to `parameters.json`, and makes the same views from
//! this file again: `cargo run --release -p equimod-data --example replay -- IMAGES OUT`.
#![allow(missing_docs, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use equimod_data::{Dataset, FolderDataset, Policy, ViewParams, view_rng};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [images, out] = arguments.as_slice() else { return Err("usage: replay IMAGES OUT".into()) };
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    let images = FolderDataset::open(Path::new(images))?;
    let policy = Policy::built_in("byol-cifar10", 96)?;

    let mut sampled: BTreeMap<String, Vec<ViewParams>> = BTreeMap::new();
    for index in 0..images.len() {
        let size = images.size(index)?;
        let views = policy.views.iter().zip(0..);
        let draw =
            |(view, number)| equimod_data::ViewPolicy::sample(view, size, &mut view_rng(7, 0, index as u64, number));
        sampled.insert(index.to_string(), views.map(draw).collect());
    }
    fs::write(out.join("parameters.json"), serde_json::to_vec_pretty(&sampled)?)?;

    let written: BTreeMap<String, Vec<ViewParams>> = serde_json::from_slice(&fs::read(out.join("parameters.json"))?)?;
    for (index, views) in &written {
        let image = images.image(index.parse()?)?;
        for (number, (view, params)) in policy.views.iter().zip(views).enumerate() {
            fs::write(out.join(format!("{index}-{number}.png")), view.apply(&image, params).encode_png()?)?;
        }
    }
    println!("{} views of {} images in {}", written.len() * policy.views.len(), written.len(), out.display());
    Ok(())
}
