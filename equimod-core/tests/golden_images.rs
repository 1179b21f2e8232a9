//! Normalized pixels, bitwise equal to the reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use candle_core::{DType, Device};
use common::{Golden, values};
use equimod_core::Normalization;

fn normalization(name: &str) -> Normalization {
    if name.ends_with("/cifar") { Normalization::CIFAR10 } else { Normalization::IMAGENET }
}

#[test]
fn golden_normalized_pixels_are_exact() {
    let (Some(golden), Some(images)) = (Golden::open("tf_normalize.safetensors"), Golden::open("images.safetensors"))
    else {
        return;
    };
    for name in golden.tensors.keys() {
        let want = values(golden.get(name));
        let (image, _) = name.split_once('/').unwrap();
        let got: Vec<f64> = match images.tensors.get(image) {
            // All pixel values in all channels.
            None => normalization(name).table().iter().flatten().map(|&v| f64::from(v)).collect(),
            Some(image) => {
                let (height, width, _) = image.dims3().unwrap();
                let pixels = image.flatten_all().unwrap().to_vec1::<u8>().unwrap();
                let tensor = normalization(name).tensor(&pixels, (1, height, width), &Device::Cpu, DType::F32);
                values(&tensor.unwrap())
            }
        };
        assert!(got == want, "{name}");
    }
}
