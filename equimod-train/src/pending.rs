//! Steps whose loss and metrics are still on the device.

use candle_core::Tensor;
use equimod_core::agreement::finite_on_all;
use equimod_core::ops::{Gate, all_finite};
use equimod_core::{Collective, StepOutcome, host};

use crate::Result;
use crate::metrics::StepReport;

/// A completed step, and the scalars that complete its report.
struct PendingStep {
    report: StepReport,
    names: Vec<String>,
    /// Loss, norm of the gradient, whether both are finite on every process, then metrics in the order of `names`.
    scalars: Vec<Tensor>,
}

/// Steps since the last transfer from the device, and a flag on the device that becomes 0 at the first step whose loss
/// or gradient is not finite.
#[derive(Default)]
pub(crate) struct PendingSteps {
    steps: Vec<PendingStep>,
    finite: Option<Tensor>,
}

/// Steps that were read from the device.
pub(crate) struct ReadSteps {
    /// Reports of the steps whose update was applied, in order.
    pub sound: Vec<StepReport>,
    /// The first step whose update was not applied.
    pub diverged: Option<Divergence>,
}

/// A step whose update was not applied because a value was not finite.
pub(crate) struct Divergence {
    pub report: StepReport,
    /// Name of the quantity, with its value.
    pub what: String,
}

impl PendingSteps {
    /// Gate of the updates before a step: closed from the first diverged step on.
    pub fn gate(&self) -> Result<Gate> {
        Ok(self.finite.as_ref().map(Gate::new).transpose()?.unwrap_or_default())
    }

    /// Whether a step is known to have diverged without a transfer: on the CPU, whose flag is in host memory.
    pub fn has_diverged(&self) -> Result<bool> {
        Ok(matches!(self.gate()?, Gate::Closed))
    }

    /// Adds a step, and gives the gate of its own update, the same on every process. `report` lacks loss, norm and
    /// metrics.
    pub fn push(
        &mut self,
        report: StepReport,
        outcome: &StepOutcome,
        gradient_norm: &Tensor,
        collective: &dyn Collective,
    ) -> Result<Gate> {
        let of_step = finite_on_all(all_finite(&[&outcome.loss, gradient_norm])?, collective)?;
        let finite = match &self.finite {
            Some(before) => (before * &of_step)?,
            None => of_step.clone(),
        };
        let gate = Gate::new(&finite)?;
        self.finite = Some(finite);
        let (names, metrics): (Vec<String>, Vec<Tensor>) = outcome.metrics.iter().cloned().unzip();
        let scalars = [outcome.loss.clone(), gradient_norm.clone(), of_step].into_iter().chain(metrics).collect();
        self.steps.push(PendingStep { report, names, scalars });
        Ok(gate)
    }

    /// Report of the newest step, to be completed by the loop.
    pub fn newest(&mut self) -> Option<&mut StepReport> {
        self.steps.last_mut().map(|step| &mut step.report)
    }

    /// Reads all steps in one transfer.
    pub fn read(&mut self) -> Result<ReadSteps> {
        let mut values = host::read(&self.steps.iter().flat_map(|step| &step.scalars).collect::<Vec<_>>())?.into_iter();
        let mut sound = Vec::new();
        for PendingStep { mut report, names, .. } in self.steps.drain(..) {
            report.loss = values.next().unwrap_or(f64::NAN);
            report.gradient_norm = values.next().unwrap_or(f64::NAN);
            let finite_on_all = values.next() == Some(1.0);
            report.metrics = names.into_iter().zip(values.by_ref()).collect();
            if let Some(what) = fault(&report, finite_on_all) {
                return Ok(ReadSteps { sound, diverged: Some(Divergence { report, what }) });
            }
            sound.push(report);
        }
        Ok(ReadSteps { sound, diverged: None })
    }
}

/// The quantity of a step that is not finite, here or on another process.
fn fault(report: &StepReport, finite_on_all: bool) -> Option<String> {
    let (loss, norm) = (report.loss, report.gradient_norm);
    match (loss.is_finite(), norm.is_finite()) {
        (false, _) => Some(format!("the loss is {loss}")),
        (true, false) => Some(format!("the gradient's norm is {norm}")),
        (true, true) if !finite_on_all => {
            Some("the loss or the gradient's norm of another process is not finite".into())
        }
        (true, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use equimod_core::step::StepTimes;
    use equimod_core::{CollectiveResult, Reduction, SingleProcess};

    use super::*;

    fn scalar(value: f64) -> Tensor {
        Tensor::new(value, &Device::Cpu).unwrap()
    }

    fn push(pending: &mut PendingSteps, step: u64, loss: f64, norm: f64) -> Gate {
        push_on(&SingleProcess, pending, step, loss, norm)
    }

    fn push_on(collective: &dyn Collective, pending: &mut PendingSteps, step: u64, loss: f64, norm: f64) -> Gate {
        let metrics = vec![("step".to_owned(), scalar(step as f64))];
        let outcome =
            StepOutcome { loss: scalar(loss), metrics, gradients: Default::default(), times: StepTimes::default() };
        pending.push(StepReport { step, ..StepReport::default() }, &outcome, &scalar(norm), collective).unwrap()
    }

    #[test]
    fn steps_are_read_at_once_and_the_gate_stays_closed() {
        let mut pending = PendingSteps::default();
        assert!(matches!(push(&mut pending, 1, 0.5, 2.0), Gate::Open));
        assert!(!pending.has_diverged().unwrap());
        assert!(matches!(push(&mut pending, 2, 0.25, f64::INFINITY), Gate::Closed));
        assert!(matches!(push(&mut pending, 3, 0.125, 1.0), Gate::Closed), "sound, but after a diverged step");
        assert!(pending.has_diverged().unwrap());
        let before = host::reads();
        let ReadSteps { sound, diverged } = pending.read().unwrap();
        assert_eq!(host::reads() - before, 1);
        let [first] = sound.as_slice() else { panic!("one sound step") };
        assert_eq!((first.step, first.loss, first.gradient_norm, first.metric("step")), (1, 0.5, 2.0, Some(1.0)));
        let Divergence { report, what } = diverged.unwrap();
        assert_eq!((report.step, what.as_str()), (2, "the gradient's norm is inf"));
    }

    /// The first of two processes; the numbers of the other are never finite.
    struct BesideDiverged;

    impl Collective for BesideDiverged {
        fn rank(&self) -> usize {
            0
        }

        fn size(&self) -> usize {
            2
        }

        fn is_deterministic(&self) -> bool {
            true
        }

        fn all_reduce(&self, tensors: &[Tensor], reduction: Reduction) -> CollectiveResult<Vec<Tensor>> {
            assert_eq!(reduction, Reduction::Min);
            Ok(tensors.iter().map(Tensor::zeros_like).collect::<candle_core::Result<_>>()?)
        }

        fn all_gather(&self, _: &Tensor) -> CollectiveResult<Tensor> {
            unreachable!("a verdict is reduced")
        }

        fn broadcast(&self, _: &[Tensor], _: usize) -> CollectiveResult<Vec<Tensor>> {
            unreachable!("a verdict is reduced")
        }
    }

    #[test]
    fn a_process_does_not_apply_a_step_that_diverged_on_another() {
        let mut pending = PendingSteps::default();
        assert!(matches!(push_on(&BesideDiverged, &mut pending, 1, 0.5, 2.0), Gate::Closed));
        let ReadSteps { sound, diverged } = pending.read().unwrap();
        assert!(sound.is_empty());
        let Divergence { report, what } = diverged.unwrap();
        assert_eq!((report.step, report.loss), (1, 0.5));
        assert_eq!(what, "the loss or the gradient's norm of another process is not finite");
    }
}
