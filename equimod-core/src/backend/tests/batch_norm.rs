//! Batch norm with residual additions and ReLU.

use super::*;

/// Inputs of batch norm for a shape.
struct Norm {
    x: Tensor,
    dy: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    inverse: Tensor,
}

impl Norm {
    fn new(shape: &[usize]) -> Self {
        let x = ((values(shape, 4) * 2.0).unwrap() + 0.7).unwrap();
        let (dy, residual) = (values(shape, 5), values(shape, 6));
        let sums = batch_norm_sums(&x).unwrap();
        let means = (sums / (x.elem_count() / shape[1]) as f64).unwrap();
        let mean = means.get(0).unwrap();
        let variance = (means.get(1).unwrap() - mean.sqr().unwrap()).unwrap();
        let inverse = (variance + 1e-5).unwrap().sqrt().unwrap().recip().unwrap();
        Self { weight: values(&shape[1..2], 7), bias: values(&shape[1..2], 8), x, dy, residual, mean, inverse }
    }

    /// relu(x̂·weight + bias + residual) with the statistics of `x`.
    fn output(x: &Tensor, this: &Self) -> Tensor {
        let sums = (batch_norm_sums(x).unwrap() / (x.elem_count() / x.dim(1).unwrap()) as f64).unwrap();
        let mean = sums.get(0).unwrap();
        let variance = (sums.get(1).unwrap() - mean.sqr().unwrap()).unwrap();
        let inverse = (variance + 1e-5).unwrap().sqrt().unwrap().recip().unwrap();
        let scale = (&inverse * &this.weight).unwrap();
        let shift = (&this.bias - (&mean * &scale).unwrap()).unwrap();
        batch_norm_apply(x, &scale, &shift, Some(&this.residual), true).unwrap()
    }

    /// Scale, slope and offset of the input's gradient, from sums.
    fn coefficients(&self, sums: &Tensor) -> [Tensor; 3] {
        let means = (sums / (self.x.elem_count() / self.x.dim(1).unwrap()) as f64).unwrap();
        let scale = (&self.inverse * &self.weight).unwrap();
        let slope = ((&scale * &self.inverse).unwrap() * means.get(1).unwrap()).unwrap().neg().unwrap();
        let offset =
            ((&scale * means.get(0).unwrap()).unwrap() + (&slope * &self.mean).unwrap()).unwrap().neg().unwrap();
        [scale, slope, offset]
    }

    fn backward(&self, activation: Option<&ScaleShiftRelu>) -> (Tensor, Tensor) {
        let sums = batch_norm_backward_sums(&self.dy, activation, &self.x, &self.mean, &self.inverse).unwrap();
        let [scale, slope, offset] = self.coefficients(&sums);
        let dx = batch_norm_backward(&self.dy, activation, &self.x, [&scale, &slope, &offset]).unwrap();
        (sums, dx)
    }
}

const NORM_SHAPES: [&[usize]; 4] = [&[3, 4, 3, 5], &[70, 5], &[4, 3, 9, 2], &[3, 2, 1, 1]];
/// Shapes with more values than a task, and with channels that do not fill whole vectors.
const LARGE_NORM: &[usize] = &[5, 33, 23, 29];

/// Sums of the f32 kernels for every shape.
pub(super) fn results() -> Vec<Vec<f64>> {
    let of_shape = |shape: &[usize]| {
        let Norm { x, dy, mean, inverse, .. } = Norm::new(shape);
        let [x, dy, mean, inverse] = [x, dy, mean, inverse].map(|t| narrow(&t));
        let sums = batch_norm_backward_sums(&dy, None, &x, &mean, &inverse).unwrap();
        [vector(&sums), vector(&batch_norm_sums(&x).unwrap())]
    };
    NORM_SHAPES.into_iter().chain([LARGE_NORM]).flat_map(of_shape).collect()
}

#[test]
fn batch_norm_gradients_agree_with_finite_differences() {
    for shape in NORM_SHAPES {
        let norm = Norm::new(shape);
        let y = Norm::output(&norm.x, &norm);
        let before = Norm { dy: relu_backward(norm.dy.clone(), None, &y).unwrap(), ..Norm::new(shape) };
        let (_, dx) = before.backward(None);
        let (dx, x) = (vector(&dx), vector(&norm.x));
        for i in (0..x.len()).step_by(3) {
            let loss = |by: f64| {
                let mut moved = x.clone();
                moved[i] += by;
                let moved = Tensor::from_vec(moved, shape, &Device::Cpu).unwrap();
                dot(&Norm::output(&moved, &norm), &norm.dy)
            };
            // Central differences with steps of 1e-6 have an error of about 1e-8 from rounding if no ReLU switches.
            let want = (loss(1e-6) - loss(-1e-6)) / 2e-6;
            assert!((dx[i] - want).abs() < 1e-6, "{shape:?} {i}: {} {want}", dx[i]);
        }
    }
}

#[test]
fn batch_norm_in_f32_and_composed_is_near_f64() {
    for shape in NORM_SHAPES.into_iter().chain([LARGE_NORM]) {
        let norm = Norm::new(shape);
        let Norm { x, dy, residual, weight, bias, mean, inverse } = &norm;
        let y = Norm::output(x, &norm);
        let low = |t: &Tensor| narrow(t);
        let applied = batch_norm_apply(x, weight, bias, Some(residual), true).unwrap();
        let composed = Composed.batch_norm_apply(x, weight, bias, Some(residual), true).unwrap();
        assert!(distance(&composed, &applied) < 1e-15);
        let fast = batch_norm_apply(&low(x), &low(weight), &low(bias), Some(&low(residual)), true).unwrap();
        assert!(distance(&fast, &applied) < 1e-6);
        let in_place = batch_norm_apply_in_place(low(x), &low(weight), &low(bias), Some(&low(residual)), true).unwrap();
        assert_eq!(vector(&in_place), vector(&fast));
        let in_place = batch_norm_apply_in_place(x.copy().unwrap(), weight, bias, Some(residual), true).unwrap();
        assert_eq!(vector(&in_place), vector(&applied));
        // Composed sums are rounded to f32.
        let sums = batch_norm_sums(x).unwrap();
        assert!(distance(&Composed.batch_norm_sums(x).unwrap(), &sums) < 1e-6);
        assert!(distance(&batch_norm_sums(&low(x)).unwrap(), &sums) < 1e-6);
        let lifted = ScaleShiftRelu { scale: weight.clone(), shift: bias.clone() };
        let narrow_lifted = ScaleShiftRelu { scale: low(weight), shift: low(bias) };
        for (activation, narrow_activation) in [(None, None), (Some(&lifted), Some(&narrow_lifted))] {
            let (sums, dx) = norm.backward(activation);
            let [scale, slope, offset] = norm.coefficients(&sums);
            let composed_sums = Composed.activated_backward_sums(dy, activation, x, mean, inverse).unwrap();
            assert!(distance(&composed_sums, &sums) < 1e-6);
            let composed_dx = Composed.activated_backward(dy, activation, x, [&scale, &slope, &offset]).unwrap();
            assert!(distance(&composed_dx, &dx) < 1e-12);
            let fast_sums =
                batch_norm_backward_sums(&low(dy), narrow_activation, &low(x), &low(mean), &low(inverse)).unwrap();
            assert!(distance(&fast_sums, &sums) < 1e-6, "{shape:?} {activation:?}");
            let coefficients = [&low(&scale), &low(&slope), &low(&offset)];
            let fast_dx = batch_norm_backward(&low(dy), narrow_activation, &low(x), coefficients).unwrap();
            // If terms cancel, their rounding errors remain.
            assert!(distance(&fast_dx, &dx) < 1e-5, "{shape:?} {activation:?} {:e}", distance(&fast_dx, &dx));
            let in_place = batch_norm_backward_in_place(&low(dy), narrow_activation, low(x), coefficients).unwrap();
            assert_eq!(vector(&in_place), vector(&fast_dx));
        }
        for more in [None, Some(residual)] {
            let want = relu_backward(dy.clone(), more, &y).unwrap();
            assert!(distance(&Composed.relu_backward(dy, more, &y).unwrap(), &want) < 1e-15);
            let narrow_more = more.map(low);
            let fast = relu_backward(low(dy), narrow_more.as_ref(), &low(&y)).unwrap();
            assert!(distance(&fast, &want) < 1e-6);
        }
    }
}
