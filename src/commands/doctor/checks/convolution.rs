//! Convolutions and their gradients.

use candle_core::{DType, Result, Tensor};
use equimod_core::ops::{
    Accumulate, Conv2dGeometry, ConvAlgorithms, ConvInput, ScaleShiftRelu, conv2d, conv2d_backward_data,
    conv2d_backward_data_relu, conv2d_backward_weight, conv2d_with_sums,
};

use super::place::{Place, values};
use super::{PRODUCT, Part, Tolerance};

/// Operations with a rounding between them.
const FUSED: Tolerance = Tolerance { f32: 2e-5, bf16: 8e-3 };

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

/// Convolutions with the activation of their input, with the sums of their output, and with the backward pass of the
/// ReLU before them.
pub fn fused_parts(place: &Place) -> anyhow::Result<Vec<Part>> {
    let parts = CASES.iter().map(|case| case.fused_parts(place)).collect::<Result<Vec<_>>>()?;
    Ok(parts.into_iter().flatten().collect())
}

impl Case {
    fn geometry(&self) -> Conv2dGeometry {
        let &Self { kernel, stride, groups, .. } = self;
        let algorithms = ConvAlgorithms::default();
        Conv2dGeometry { kernel: (kernel, kernel), stride, padding: kernel / 2, groups, algorithms }
    }

    fn weight(&self, place: &Place) -> Result<Tensor> {
        place.values(&[self.outputs, self.shape[1] / self.groups, self.kernel, self.kernel], 2)
    }

    /// Gradient of the output.
    fn dys(&self, place: &Place) -> Result<Tensor> {
        let (height, width) = self.geometry().out_size((self.shape[2], self.shape[3]))?;
        place.values(&[self.shape[0], self.outputs, height, width], 3)
    }

    fn fused_parts(&self, place: &Place) -> Result<Vec<Part>> {
        let (geometry, weight, dys) = (self.geometry(), self.weight(place)?, self.dys(place)?);
        let of_channels = |seed| place.put_coefficients(&values(&[self.shape[1]], seed)?);
        let activation = ScaleShiftRelu { scale: of_channels(4)?, shift: of_channels(5)? };
        let xs = ConvInput { values: place.values(&self.shape, 1)?, activation: Some(activation) };
        let part = |what: &str, values| Part::new(format!("fused convolution {}: {what}", self.name), values, FUSED);
        let (ys, sums) = conv2d_with_sums(&xs, &weight, &geometry)?;
        let (relu, other) = (values(&self.shape, 6)?.relu()?, values(&self.shape, 7)?);
        // What is added after a ReLU is masked by it already.
        let masked = (&other * relu.gt(0.0)?.to_dtype(DType::F64)?)?;
        let (relu, other, masked) = (place.put(&relu)?, place.put(&other)?, place.put(&masked)?);
        let mut parts = vec![part("forward", ys), part("sums", sums)];
        for (what, accumulate) in [
            ("gradient through a ReLU", Accumulate::Overwrite),
            ("gradients added before a ReLU", Accumulate::AddThenMask(other)),
            ("gradients added after a ReLU", Accumulate::MaskThenAdd(masked)),
        ] {
            parts.push(part(what, conv2d_backward_data_relu(&dys, &weight, &geometry, &relu, accumulate)?));
        }
        Ok(parts)
    }

    fn parts(&self, place: &Place) -> Result<[Part; 3]> {
        let &Self { name, shape, .. } = self;
        let (geometry, size) = (self.geometry(), (shape[2], shape[3]));
        let (xs, weight, dys) = (place.values(&shape, 1)?, self.weight(place)?, self.dys(place)?);
        let part = |what: &str, values| Part::new(format!("convolution {name}: {what}"), values, PRODUCT);
        Ok([
            part("forward", conv2d(&xs, &weight, &geometry)?),
            part("gradient of the input", conv2d_backward_data(&dys, &weight, &geometry, size)?),
            part("gradient of the weight", conv2d_backward_weight(&xs, &dys, &geometry)?),
        ])
    }
}
