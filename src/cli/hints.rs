//! Options of other programs for pretraining, and what does the same here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Names of options, and the option or setting to use. A name with `_` for `-` is found, too.
const HINTS: [(&[&str], &str); 22] = [
    (&["--arch", "--architecture", "--backbone", "--model", "-a"], "--set backbone.architecture=NAME"),
    (&["--bs", "-b", "--batch_size"], "--batch N"),
    (&["--img-size", "--input-size", "--resolution", "--crop-size", "--image_size"], "--size PIXELS"),
    (&["--base-lr", "--learning_rate"], "--lr RATE"),
    (&["--wd", "--weight-decay"], "--set optimizer.weight_decay=VALUE"),
    (&["--optimizer", "--optim", "--opt"], "--set optimizer.kind=KIND"),
    (&["--momentum"], "--set optimizer.momentum=VALUE"),
    (&["--scheduler", "--schedule", "--lr-scheduler", "--sched"], "--set schedule.shape=SHAPE"),
    (&["--warmup", "--warmup-epochs"], "--set schedule.warmup_epochs=N"),
    (&["--temperature", "--temp", "--tau"], "--set objective.temperature=VALUE"),
    (&["--method", "--objective", "--loss"], "--set objective.kind=KIND"),
    (&["--amp", "--fp16", "--bf16", "--precision"], "--set execution.precision=bf16 (there is no fp16)"),
    (&["--cpu"], "--device cpu"),
    (&["-j", "--num_workers"], "--threads N"),
    (&["--pretrained", "--ckpt", "--checkpoint", "--weights"], "--from MODEL"),
    (&["--print-freq", "--log-every"], "--set log_every_steps=N"),
    (&["--gpu", "--gpus", "--cuda", "-g"], "--device cuda:N"),
    (&["--config", "--cfg", "-c"], "--recipe FILE"),
    (&["--output", "--output-dir", "--save-dir", "--checkpoint-dir", "--log-dir", "-o"], "--out DIR"),
    (&["--projection-dim", "--proj-dim", "--out-dim", "--feature-dim"], "--set objective.projection_head=HEAD"),
    (&["--crop-scale", "--policy", "--aug"], "--set augmentation.policy=POLICY"),
    (&["--num-epochs", "--max-epochs"], "--epochs N"),
];

/// Message on an option of another program, with what does the same in `pretrain` and `find-lr`; `None` for other errors.
pub fn of_another_program(error: &clap::Error) -> Option<String> {
    let usage = error.get(ContextKind::Usage)?.to_string();
    let ContextValue::String(name) = error.get(ContextKind::InvalidArg)? else { return None };
    let trains = ["equimod pretrain", "equimod find-lr"].iter().any(|command| usage.contains(command));
    let instead = hint(name).filter(|_| trains && error.kind() == ErrorKind::UnknownArgument)?;
    Some(format!("there is no option {name}; use {instead} (`equimod pretrain --dry-run` prints all settings)"))
}

/// What does the same as the option `name` of another program.
fn hint(name: &str) -> Option<&'static str> {
    // Of `--name=value` and `--name <VALUE>`, the name.
    let name = name.split(['=', ' ']).next()?;
    let hyphens = name.replace('_', "-");
    HINTS
        .iter()
        .find(|(names, _)| names.contains(&name) || names.contains(&hyphens.as_str()))
        .map(|(_, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::recipes::named;

    /// Settings and options with placeholders, and with values.
    const VALUES: [(&str, &str); 15] = [
        ("projection_head=HEAD", "projection_head=512-64"),
        ("policy=POLICY", "policy=simclr-cifar10"),
        ("architecture=NAME", "architecture=resnet50"),
        ("optimizer.kind=KIND", "optimizer.kind=sgd"),
        ("objective.kind=KIND", "objective.kind=byol"),
        ("shape=SHAPE", "shape=cosine"),
        ("momentum=VALUE", "momentum=0.9"),
        ("=VALUE", "=0.2"),
        ("warmup_epochs=N", "warmup_epochs=1"),
        ("=N", "=2"),
        (":N", ":0"),
        (" N", " 3"),
        ("PIXELS", "64"),
        ("RATE", "0.1"),
        ("MODEL", "x.safetensors"),
    ];

    #[test]
    fn what_is_suggested_is_accepted_and_what_is_replaced_is_not() {
        for (names, instead) in HINTS {
            for name in names {
                let refused = Cli::try_parse_from(["equimod", "pretrain", name, "3"]).unwrap_err();
                let text = of_another_program(&refused).unwrap_or_default();
                assert!(text.contains(name) && text.contains(instead), "{text}");
            }
            let mut example = instead.split(" (").next().unwrap().to_owned();
            for (placeholder, value) in VALUES {
                example = example.replace(placeholder, value);
            }
            let words = ["equimod", "pretrain"].into_iter().chain(example.split(' '));
            let Command::Pretrain(arguments) = Cli::try_parse_from(words).unwrap().command else { unreachable!() };
            named("quick", &arguments.recipe.settings()).unwrap();
        }
        assert_eq!(hint("--weight_decay"), hint("--weight-decay"));
        assert_eq!(hint("--arch=resnet50"), Some("--set backbone.architecture=NAME"));
        for other in [["equimod", "pretrain", "--unheard-of"], ["equimod", "runs", "--arch"]] {
            assert_eq!(of_another_program(&Cli::try_parse_from(other).unwrap_err()), None);
        }
    }
}
