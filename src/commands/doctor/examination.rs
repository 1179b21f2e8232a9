//! The examination of a device: its numbers and its speed.

use candle_core::Device;
use candle_core::cuda::gemm_reduced_precision_f32;
use serde::Serialize;

use super::checks::{self, Checked, Comparison};
use super::steps::{self, Speed};
use super::table;
use crate::process::device;

/// Results of a device.
#[derive(Serialize)]
pub struct Examination {
    device: String,
    /// Whether all checks agree.
    agrees: bool,
    /// Whether products of matrices in f32 round their inputs to TF32.
    tf32: bool,
    checks: Vec<Comparison>,
    steps: Vec<Speed>,
    /// Sentences about what could not be examined.
    remarks: Vec<String>,
}

impl Examination {
    /// Runs all checks and measurements, in f32 and, where the device takes it, in bf16.
    pub fn of(device: &Device) -> Self {
        let name = device::describe(device);
        let (mut precisions, mut remarks) = (vec![Checked::F32], Vec::new());
        match checks::without_bf16(device) {
            None => precisions.push(Checked::Bf16),
            Some(reason) => remarks.push(format!("{name} does not compute in bf16: {reason}.")),
        }
        let checks: Vec<Comparison> = precisions.iter().flat_map(|&p| checks::run(device, p)).collect();
        let steps: Vec<Speed> = precisions.iter().map(|&precision| steps::measure(device, precision)).collect();
        let agrees = checks.iter().all(|check| check.agrees) && steps.iter().all(|speed| speed.failure.is_none());
        // candle keeps the setting for every device, but only NVIDIA GPUs have the type.
        let tf32 = device.is_cuda() && gemm_reduced_precision_f32();
        Self { device: name, agrees, tf32, checks, steps, remarks }
    }

    /// Tables for people.
    pub fn text(&self) -> String {
        let heading = format!("checks of {}, against the CPU in f64", self.device);
        let mut text = format!("{heading}\n{}\n{}", table::checks(&self.checks), table::steps(&self.steps, self.tf32));
        self.remarks.iter().for_each(|remark| text += &format!("  {remark}\n"));
        text
    }

    /// A sentence that names the checks that disagree, and how far; `None` if all agree.
    pub fn disagreement(&self) -> Option<String> {
        let failed = self.steps.iter().filter_map(|speed| {
            let reason = speed.failure.as_ref()?;
            Some(format!("a training step in {} fails: {reason}", speed.precision.name()))
        });
        let apart = self.checks.iter().filter(|check| !check.agrees).map(Comparison::sentence);
        let sentences: Vec<String> = apart.chain(failed).collect();
        let all = (!sentences.is_empty()).then(|| sentences.join("; "))?;
        Some(format!("{} does not agree with the CPU in f64: {all}", self.device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disagreement_is_a_sentence_with_the_check_and_its_error() {
        let comparison = |agrees, error| Comparison {
            check: "product a·b".into(),
            precision: Checked::F32,
            tolerance: Some(1e-5),
            error,
            agrees,
            failure: None,
        };
        let of = |checks: Vec<Comparison>| Examination {
            device: "cuda".into(),
            agrees: false,
            tf32: false,
            checks,
            steps: Vec::new(),
            remarks: Vec::new(),
        };
        assert_eq!(of(vec![comparison(true, Some(1e-6))]).disagreement(), None);
        let sentence = of(vec![comparison(false, Some(3e-4)), comparison(false, None)]).disagreement().unwrap();
        assert!(sentence.contains("product a·b in f32 is off by 3.0e-4, and 1e-5 is allowed"), "{sentence}");
        assert!(sentence.contains("is not finite"), "{sentence}");
    }
}
