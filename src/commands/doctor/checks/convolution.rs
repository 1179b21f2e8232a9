//! Convolutions and their gradients.

use candle_core::Result;
use equimod_core::ops::{Conv2dGeometry, ConvAlgorithms, conv2d, conv2d_backward_data, conv2d_backward_weight};

use super::place::Place;
use super::{PRODUCT, Part};

/// A convolution.
struct Case {
    name: &'static str,
    shape: [usize; 4],
    outputs: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
}

/// Kernels, strides and groups of ResNets, with channels that fill vectors and ones that do not.
const CASES: [Case; 7] = [
    Case { name: "1×1", shape: [4, 32, 16, 16], outputs: 48, kernel: 1, stride: 1, groups: 1 },
    Case { name: "1×1, stride 2", shape: [4, 32, 16, 16], outputs: 48, kernel: 1, stride: 2, groups: 1 },
    Case { name: "3×3", shape: [4, 32, 16, 16], outputs: 32, kernel: 3, stride: 1, groups: 1 },
    Case { name: "3×3, stride 2", shape: [4, 32, 16, 16], outputs: 48, kernel: 3, stride: 2, groups: 1 },
    Case { name: "3×3, odd sizes", shape: [3, 17, 13, 11], outputs: 9, kernel: 3, stride: 1, groups: 1 },
    Case { name: "7×7, stride 2", shape: [4, 3, 32, 32], outputs: 16, kernel: 7, stride: 2, groups: 1 },
    Case { name: "3×3, 4 groups", shape: [4, 32, 16, 16], outputs: 32, kernel: 3, stride: 1, groups: 4 },
];

/// Forward pass, gradient of the input and gradient of the weight of each convolution.
pub fn parts(place: &Place) -> anyhow::Result<Vec<Part>> {
    let parts = CASES.iter().map(|case| case.parts(place)).collect::<Result<Vec<_>>>()?;
    Ok(parts.into_iter().flatten().collect())
}

impl Case {
    fn parts(&self, place: &Place) -> Result<[Part; 3]> {
        let &Self { name, shape, outputs, kernel, stride, groups } = self;
        let geometry = Conv2dGeometry {
            kernel: (kernel, kernel),
            stride,
            padding: kernel / 2,
            groups,
            algorithms: ConvAlgorithms::default(),
        };
        let size = (shape[2], shape[3]);
        let xs = place.values(&shape, 1)?;
        let weight = place.values(&[outputs, shape[1] / groups, kernel, kernel], 2)?;
        let (height, width) = geometry.out_size(size)?;
        let dys = place.values(&[shape[0], outputs, height, width], 3)?;
        let part = |what: &str, values| Part::new(format!("convolution {name}: {what}"), values, PRODUCT);
        Ok([
            part("forward", conv2d(&xs, &weight, &geometry)?),
            part("gradient of the input", conv2d_backward_data(&dys, &weight, &geometry, size)?),
            part("gradient of the weight", conv2d_backward_weight(&xs, &dys, &geometry)?),
        ])
    }
}
