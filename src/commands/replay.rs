//! `equimod replay`.

use std::process::ExitCode;

use candle_core::DType;
use equimod_train::Replay as Step;

use crate::cli::Replay;
use crate::{device, output};

/// Gradients that are listed.
const LISTED: usize = 12;

/// Takes a step again that went wrong.
pub fn run(arguments: &Replay) -> anyhow::Result<ExitCode> {
    let dtype = if arguments.double { DType::F64 } else { DType::F32 };
    let replayed = Step::load(&arguments.folder, &device::open(&arguments.device.device)?, dtype)?.run()?;
    if arguments.json {
        output::json(&replayed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let evidence = &replayed.evidence;
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
    text += &format!("{:40} {:>24} {:>24}\n", "", "then", "now");
    for (name, now) in &replayed.metrics {
        let then = evidence.metrics.iter().find(|(known, _)| known == name).map_or("–", |(_, then)| then);
        text += &format!("{name:40} {then:>24} {now:>24}\n");
    }
    text += &match replayed.broken_weights.as_slice() {
        [] => "\nevery weight and statistic is a number\n".to_owned(),
        [first, ..] => {
            format!(
                "\n{} tensors hold what is no number, {first} first (running statistics have seen the step already)\n",
                replayed.broken_weights.len()
            )
        }
    };
    text += "\ngradients, the largest first\n";
    for (name, norm) in replayed.gradient_norms.iter().take(LISTED) {
        text += &format!("{name:64} {norm}\n");
    }
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}
