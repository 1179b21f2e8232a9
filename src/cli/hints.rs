//! Options of other programs for pretraining, and what does the same here.

/// Names of options, and the option or setting to use.
const HINTS: [(&[&str], &str); 15] = [
    (&["--arch", "--architecture", "--backbone", "--model", "-a"], "--set backbone.architecture=resnet50"),
    (&["--bs", "-b"], "--batch N"),
    (&["--img-size", "--input-size", "--resolution", "--crop-size"], "--size PIXELS"),
    (&["--base-lr", "--learning_rate"], "--lr RATE"),
    (&["--wd", "--weight-decay", "--weight_decay"], "--set optimizer.weight_decay=1e-6"),
    (&["--optimizer", "--optim", "--opt"], "--set optimizer.kind=sgd"),
    (&["--momentum"], "--set optimizer.momentum=0.9"),
    (&["--scheduler", "--schedule", "--lr-scheduler", "--sched"], "--set schedule.shape=cosine"),
    (&["--warmup", "--warmup-epochs", "--warmup_epochs"], "--set schedule.warmup_epochs=1"),
    (&["--temperature", "--temp", "--tau"], "--set objective.temperature=0.2"),
    (&["--method", "--objective", "--loss"], "--set objective.kind=byol"),
    (&["--amp", "--fp16", "--bf16", "--precision"], "--set execution.precision=bf16"),
    (&["--gpu", "--gpus", "--cuda", "-g"], "--device cuda:0"),
    (&["--config", "--cfg", "-c"], "--recipe FILE"),
    (&["--output", "--output-dir", "--output_dir", "--save-dir", "-o"], "--out DIR"),
];

/// What does the same as the option `name` of another program.
pub fn hint(name: &str) -> Option<&'static str> {
    // Of `--name=value` and `--name <VALUE>`, the name.
    let name = name.split(['=', ' ']).next()?;
    HINTS.iter().find(|(names, _)| names.contains(&name)).map(|(_, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use clap::error::ErrorKind;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::recipes::named;

    #[test]
    fn what_is_suggested_is_accepted_and_what_is_replaced_is_not() {
        for (names, instead) in HINTS {
            for name in names {
                let refused = Cli::try_parse_from(["equimod", "pretrain", name, "3"]).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::UnknownArgument, "{name}");
                assert_eq!(hint(name), Some(instead));
            }
            let example = instead.replace(" N", " 3").replace(" PIXELS", " 64").replace(" RATE", " 0.1");
            let words = ["equimod", "pretrain"].into_iter().chain(example.split(' '));
            let Command::Pretrain(arguments) = Cli::try_parse_from(words).unwrap().command else { unreachable!() };
            named("quick", &arguments.recipe.settings()).unwrap();
        }
        assert_eq!(hint("--arch=resnet50"), Some("--set backbone.architecture=resnet50"));
        assert_eq!(hint("--unheard-of"), None);
    }
}
