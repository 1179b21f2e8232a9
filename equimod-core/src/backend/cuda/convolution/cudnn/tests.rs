//! Fused convolutions: which the stand-in takes, and which cuDNN itself takes for cards that are not here.

use std::thread;

use candle_core::{DType, Tensor};

use super::fused::{Fused, Pattern, planned};
use super::graph::{Properties, Target};
use crate::backend::contract::{Accumulate, Conv2dGeometry, ConvAlgorithms, ConvInput, ConvShape, ScaleShiftRelu};
use crate::backend::cuda::open;
use crate::ops::{conv2d, conv2d_with_sums};

fn geometry(kernel: usize, stride: usize, groups: usize) -> Conv2dGeometry {
    let algorithms = ConvAlgorithms::default();
    Conv2dGeometry { kernel: (kernel, kernel), stride, padding: kernel / 2, groups, algorithms }
}

/// Whether cuDNN is the stand-in.
fn on_stand_in() -> bool {
    // SAFETY: The name is a string, and the symbol is not used.
    unsafe { !libc::dlsym(libc::RTLD_DEFAULT, c"standin_count".as_ptr()).is_null() }
}

#[test]
fn recomputed_outputs_are_the_same_bits_where_convolutions_are_fused() {
    let gpu = open(0).unwrap();
    // The stand-in fuses channels in multiples of 8.
    for (number, (channels, groups, taken)) in [(16, 1, 1), (12, 1, 0), (16, 2, 0)].into_iter().enumerate() {
        let of = |dims: &[usize]| Tensor::randn(0f32, 1.0, dims, &gpu).unwrap();
        let (scale, shift) = (of(&[channels]), of(&[channels]));
        let values = of(&[2, channels, 7, 7]).to_dtype(DType::BF16).unwrap();
        let xs = ConvInput { values, activation: Some(ScaleShiftRelu { scale, shift }) };
        let (weight, g) = (of(&[24, channels / groups, 3, 3]), geometry(3, 1, groups));
        let bits = |ys: Tensor| {
            let ys = ys.contiguous().unwrap().to_dtype(DType::F32).unwrap();
            ys.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let before = planned(&xs.values).unwrap();
        // An evaluation alone compiles nothing.
        conv2d(&xs, &weight, &g).unwrap();
        assert_eq!(planned(&xs.values).unwrap(), before, "case {number}");
        let (ys, _) = conv2d_with_sums(&xs, &weight, &g).unwrap();
        if on_stand_in() {
            let refused = usize::from(taken == 0 && groups == 1);
            assert_eq!(planned(&xs.values).unwrap(), (before.0 + taken, before.1 + refused), "case {number}");
        }
        assert_eq!(bits(conv2d(&xs, &weight, &g).unwrap()), bits(ys), "case {number}");
    }
}

/// A convolution of a ResNet-50's second stage at 224 pixels, and whether its input is activated.
struct Layer {
    channels: usize,
    outputs: usize,
    side: usize,
    kernel: usize,
    stride: usize,
    activated: bool,
}

const fn layer(
    (channels, outputs): (usize, usize),
    side: usize,
    (kernel, stride): (usize, usize),
    activated: bool,
) -> Layer {
    Layer { channels, outputs, side, kernel, stride, activated }
}

const LAYERS: [Layer; 6] = [
    layer((256, 128), 56, (1, 1), false),
    layer((128, 128), 56, (3, 2), true),
    layer((128, 512), 28, (1, 1), true),
    layer((256, 512), 56, (1, 2), false),
    layer((512, 128), 28, (1, 1), false),
    layer((128, 128), 28, (3, 1), true),
];

/// Patterns that cuDNN does not take for a device.
fn refused(properties: &str) -> Vec<String> {
    let properties = Properties::from_json(properties).unwrap();
    let mut refused = Vec::new();
    for Layer { channels, outputs, side, kernel, stride, activated } in LAYERS {
        let s = ConvShape::new(192, channels, outputs, (side, side), &geometry(kernel, stride, 1)).unwrap();
        let mut patterns = vec![Pattern::Forward { activated }, Pattern::Backward(Accumulate::Overwrite)];
        if channels == 512 {
            let others = [Accumulate::AddThenMask(()), Accumulate::MaskThenAdd(())];
            patterns.extend(others.map(Pattern::Backward));
        }
        for pattern in patterns {
            if Fused::of(pattern, &s, &Target::Properties(&properties)).is_none() {
                refused.push(format!("{pattern:?} of {channels} to {outputs} channels, {kernel}×{kernel}"));
            }
        }
    }
    refused
}

/// Needs cuDNN itself, and a driver without a device.
#[test]
#[ignore = "cargo xtask cuda-on-cpu runs it with cuDNN itself"]
fn cudnn_fuses_the_convolutions_of_a_resnet50_on_real_cards() {
    let cards = [
        ("A100", include_str!("../../../../../tests/fixtures/cudnn/a100.json")),
        ("H100", include_str!("../../../../../tests/fixtures/cudnn/h100.json")),
        ("RTX 4090", include_str!("../../../../../tests/fixtures/cudnn/rtx4090.json")),
    ];
    let checks = cards.map(|(name, properties)| (name, thread::spawn(|| refused(properties))));
    for (name, check) in checks {
        assert_eq!(check.join().unwrap(), Vec::<String>::new(), "{name}");
    }
}
