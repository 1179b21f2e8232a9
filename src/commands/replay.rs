//! `equimod replay`.

use std::process::ExitCode;

use candle_core::DType;
use equimod_train::Replay as Step;

use crate::cli::Replay;
use crate::outputs::console;
use crate::process::device;

/// Number of gradients in the list.
const LISTED: usize = 12;

/// Repeats a diverged step.
///
/// # Errors
///
/// If the folder is not one of a diverged step.
pub fn run(arguments: &Replay) -> anyhow::Result<ExitCode> {
    let dtype = if arguments.double { DType::F64 } else { DType::F32 };
    let outcome = Step::load(&arguments.folder, &device::open(&arguments.device.device)?, dtype)?.run()?;
    if arguments.json {
        console::json(&outcome)?;
        return Ok(ExitCode::SUCCESS);
    }
    let evidence = &outcome.evidence;
    let mut text = format!(
        "step {} of {} (batch {} of epoch {}, seed {}, learning rate {:.3e}): {}\n\n",
        evidence.step,
        evidence.total_steps,
        evidence.batch,
        evidence.epoch,
        evidence.seed,
        evidence.learning_rate,
        evidence.what
    );
    text += &format!("{:40} {:>24} {:>24}\n", "", "original", "replay");
    for (name, replay) in &outcome.metrics {
        let original = evidence.metrics.iter().find(|(known, _)| known == name).map_or("–", |(_, value)| value);
        text += &format!("{name:40} {original:>24} {replay:>24}\n");
    }
    text += &match outcome.broken_weights.as_slice() {
        [] => "\nall weights and running statistics are finite\n".to_owned(),
        [first, ..] => {
            format!(
                "\n{} tensors have non-finite values, the first is {first} \
                 (running statistics already include this step)\n",
                outcome.broken_weights.len()
            )
        }
    };
    text += "\ngradient norms, the largest first\n";
    for (name, norm) in outcome.gradient_norms.iter().take(LISTED) {
        text += &format!("{name:64} {norm}\n");
    }
    console::result(&text)?;
    Ok(ExitCode::SUCCESS)
}
