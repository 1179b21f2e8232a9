//! Numerical checks of a device against the CPU in f64.

mod batch_norm;
mod convolution;
mod layers;
mod methods;
mod optimizers;
mod place;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use place::{Place, distance, vector};

/// Largest errors, as relative L2 distances to f64, of an element type.
#[derive(Clone, Copy)]
pub struct Tolerance {
    f32: f64,
    bf16: f64,
}

/// Sums of some hundred products; in f32 also with Winograd's algorithm, but not with inputs rounded to TF32 (3e-4). A
/// result in bf16 is rounded to 8 significant bits.
const PRODUCT: Tolerance = Tolerance { f32: 1e-5, bf16: 4e-3 };
/// Sums, and results of a few operations.
const SUM: Tolerance = Tolerance { f32: 5e-6, bf16: 4e-3 };
/// Choices and unchanged values.
const EXACT: Tolerance = Tolerance { f32: 0.0, bf16: 0.0 };

/// A result of a check.
pub struct Part {
    name: String,
    values: Tensor,
    tolerance: Tolerance,
}

impl Part {
    fn new(name: String, values: Tensor, tolerance: Tolerance) -> Self {
        Self { name, values, tolerance }
    }
}

/// Checks of one kind.
struct Group {
    name: &'static str,
    parts: fn(&Place) -> anyhow::Result<Vec<Part>>,
    /// Whether it also exists in bf16; optimizers do not.
    in_bf16: bool,
}

const GROUPS: [Group; 9] = [
    Group { name: "convolution", parts: convolution::parts, in_bf16: true },
    Group { name: "fused convolution", parts: convolution::fused_parts, in_bf16: true },
    Group { name: "batch norm", parts: batch_norm::parts, in_bf16: true },
    Group { name: "pooling", parts: layers::pools, in_bf16: true },
    Group { name: "products of matrices", parts: layers::products, in_bf16: true },
    Group { name: "cross-entropy", parts: layers::losses, in_bf16: true },
    Group { name: "optimizers", parts: optimizers::parts, in_bf16: false },
    Group { name: "pixels", parts: layers::pixels, in_bf16: true },
    Group { name: "training steps", parts: methods::parts, in_bf16: true },
];

/// Element types that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
}

impl Checked {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    fn of(self, tolerance: Tolerance) -> f64 {
        match self {
            Self::F32 => tolerance.f32,
            Self::Bf16 => tolerance.bf16,
        }
    }
}

/// The comparison of one result.
#[derive(Serialize)]
pub struct Comparison {
    /// Name of the check.
    pub check: String,
    /// Element type on the device.
    pub precision: Checked,
    /// Largest error that is accepted; `None` if the check could not run.
    pub tolerance: Option<f64>,
    /// Relative L2 distance to f64; `None` if it is not finite or the check could not run.
    pub error: Option<f64>,
    /// Whether the error is within the tolerance.
    pub agrees: bool,
    /// Why the check could not run.
    pub failure: Option<String>,
}

impl Comparison {
    fn new(part: &Part, want: &Part, precision: Checked) -> candle_core::Result<Self> {
        let error = distance(&vector(&part.values)?, &vector(&want.values)?);
        let tolerance = precision.of(part.tolerance);
        let agrees = error <= tolerance;
        let error = Some(error).filter(|error| error.is_finite());
        Ok(Self { check: part.name.clone(), precision, tolerance: Some(tolerance), error, agrees, failure: None })
    }

    fn failed(check: &str, precision: Checked, reason: &anyhow::Error) -> Self {
        let reason = reason.to_string().lines().next().unwrap_or_default().to_owned();
        let check = check.to_owned();
        Self { check, precision, tolerance: None, error: None, agrees: false, failure: Some(reason) }
    }

    /// A sentence about how far the result is off, for one that disagrees.
    pub fn sentence(&self) -> String {
        let (check, precision) = (&self.check, self.precision.name());
        match (&self.failure, self.error, self.tolerance) {
            (Some(reason), ..) => format!("{check} in {precision} cannot be computed: {reason}"),
            (_, Some(error), Some(tolerance)) => {
                format!("{check} in {precision} is off by {error:.1e}, and {tolerance:.0e} is allowed")
            }
            _ => format!("{check} in {precision} is not finite, or has another number of values"),
        }
    }
}

/// All comparisons of a device in one element type.
pub fn run(device: &Device, precision: Checked) -> Vec<Comparison> {
    let groups = GROUPS.iter().filter(|group| precision == Checked::F32 || group.in_bf16);
    let compared = |group: &Group| {
        group.compare(device, precision).unwrap_or_else(|e| vec![Comparison::failed(group.name, precision, &e)])
    };
    groups.flat_map(compared).collect()
}

impl Group {
    fn compare(&self, device: &Device, precision: Checked) -> anyhow::Result<Vec<Comparison>> {
        let inputs = precision.dtype();
        let got = (self.parts)(&Place { device, dtype: inputs, inputs })?;
        let want = (self.parts)(&Place { device: &Device::Cpu, dtype: DType::F64, inputs })?;
        let pairs = got.iter().zip(&want);
        Ok(pairs.map(|(got, want)| Comparison::new(got, want, precision)).collect::<candle_core::Result<_>>()?)
    }
}

/// Why a device does not take bf16; `None` if it does.
pub fn without_bf16(device: &Device) -> Option<String> {
    let both_ways = || Tensor::ones(1, DType::F32, device)?.to_dtype(DType::BF16)?.to_dtype(DType::F32);
    let reason = both_ways().and_then(|_| device.synchronize()).err()?.to_string();
    Some(reason.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(values: &[f64], tolerance: Tolerance) -> Part {
        Part::new("a check".into(), Tensor::new(values, &Device::Cpu).unwrap(), tolerance)
    }

    #[test]
    fn wrong_values_do_not_agree() {
        let want = part(&[1.0, 2.0], SUM);
        let compare = |values: &[f64]| Comparison::new(&part(values, SUM), &want, Checked::F32).unwrap();
        assert!(compare(&[1.0, 2.0 + 1e-6]).agrees);
        for (wrong, sentence) in [
            (&[1.0, 2.001][..], "a check in f32 is off by 4.5e-4, and 5e-6 is allowed"),
            (&[1.0, f64::NAN], "a check in f32 is not finite, or has another number of values"),
            (&[1.0, 2.0, 3.0], "a check in f32 is not finite, or has another number of values"),
        ] {
            let found = compare(wrong);
            assert_eq!((found.agrees, found.sentence().as_str()), (false, sentence));
        }
    }

    /// A device that rounds the factors of products to the 11 significant bits of TF32 is found out.
    #[test]
    fn tolerances_tell_tf32_from_f32() {
        let device = Device::Cpu;
        let place = Place { device: &device, dtype: DType::F64, inputs: DType::F32 };
        let [a, b] = [1, 2].map(|seed| place.values(&[40, 40], seed).unwrap());
        let rounded = |tensor: &Tensor| {
            let round =
                |value: f64| f64::from(f32::from_bits((value as f32).to_bits().wrapping_add(1 << 12) & !0x1fff));
            let values: Vec<f64> = vector(tensor).unwrap().into_iter().map(round).collect();
            Tensor::from_vec(values, (40, 40), &device).unwrap()
        };
        let product = |a: &Tensor, b: &Tensor| Part::new("product".into(), a.matmul(b).unwrap(), PRODUCT);
        let (tf32, want) = (product(&rounded(&a), &rounded(&b)), product(&a, &b));
        assert!(!Comparison::new(&tf32, &want, Checked::F32).unwrap().agrees);
        assert!(Comparison::new(&tf32, &want, Checked::Bf16).unwrap().agrees);
    }
}
