//! Options of other programs, and what does the same here.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use equimod_core::model::check_location;

use super::Cli;

/// Names of options, and what to use instead. A name with `_` for `-` is found, too.
type Hints = &'static [(&'static [&'static str], &'static str)];

/// Options of every command that computes.
const OF_ALL: Hints = &[
    (&["--bs", "-b", "--batch-size"], "--batch N"),
    (&["--img-size", "--input-size", "--resolution", "--crop-size", "--image-size"], "--size PIXELS"),
    (&["--base-lr", "--learning-rate"], "--lr RATE"),
    (&["--num-epochs", "--max-epochs", "-e"], "--epochs N"),
    (&["--max-steps", "--total-steps", "--iterations", "--max-iters"], "--epochs N (a run is as long as its epochs)"),
    (&["--cpu", "--no-cuda", "--no-gpu"], "--device cpu"),
    (
        &["--gpu", "--gpus", "--cuda", "-g", "--devices", "--num-gpus", "--n-gpu", "--ngpus"],
        "--device cuda:N (cuda:0-1 for two)",
    ),
    (&["-j", "--workers", "--num-workers"], "--threads N"),
    (&["--dataset", "--data-dir", "--data-path", "--data-root", "--root", "--train-dir"], "--data DATA"),
    (&["--train-data-path", "--image-dir", "--images", "--img-dir"], "--data DATA"),
    (&["--output", "--output-dir", "--save-dir", "--checkpoint-dir", "--log-dir", "-o"], "--out"),
];

/// Options of commands that train by a recipe.
const OF_RECIPES: Hints = &[
    (
        &["--arch", "--architecture", "--backbone", "--model", "-a"],
        "--set backbone.architecture=NAME (the method is --set objective.kind=KIND)",
    ),
    (&["--wd", "--weight-decay"], "--set optimizer.weight_decay=VALUE"),
    (&["--optimizer", "--optimiser", "--optim", "--opt"], "--set optimizer.kind=KIND"),
    (&["--momentum"], "--set optimizer.momentum=VALUE"),
    (&["--scheduler", "--schedule", "--lr-scheduler", "--sched"], "--set schedule.shape=SHAPE"),
    (&["--warmup", "--warmup-epochs"], "--set schedule.warmup_epochs=N"),
    (&["--temperature", "--temp", "--tau"], "--set objective.temperature=VALUE"),
    (&["--method", "--objective", "--loss"], "--set objective.kind=KIND"),
    (&["--amp", "--fp16", "--bf16", "--precision"], "--set execution.precision=bf16 (there is no fp16)"),
    (&["--pretrained", "--ckpt", "--checkpoint", "--weights"], "--from MODEL"),
    (
        &["--print-freq", "--log-every", "--log-interval", "--log-freq", "--log-every-n-steps"],
        "--set log_every_steps=N",
    ),
    (&["--config", "--cfg", "-c"], "--recipe FILE"),
    (&["--projection-dim", "--proj-dim", "--out-dim", "--feature-dim"], "--set objective.projection_head=HEAD"),
    (&["--proj-hidden-dim", "--proj-output-dim"], "--set objective.projection_head=HEAD"),
    (
        &["--resume-from", "--resume-from-checkpoint", "--ckpt-path"],
        "--resume (it goes on with the run that --out names)",
    ),
    (&["--seeds"], "--seed N (`equimod study` trains with several)"),
    (&["--end-lr", "--lr-max"], "--max-lr RATE"),
    (&["--start-lr", "--lr-min"], "--min-lr RATE"),
    (&["--num-iter", "--num-steps"], "--steps N"),
    (&["--steps"], "--epochs N (a run is as long as its epochs)"),
    (
        &[
            "--accumulate-grad-batches",
            "--grad-accum-steps",
            "--accum-steps",
            "--gradient-accumulation-steps",
            "--accum-iter",
        ],
        "--set execution.parts=N (the parts of a batch)",
    ),
    (&["--grad-checkpointing", "--gradient-checkpointing"], "--set execution.recompute=true"),
    (&["--clip-grad", "--grad-clip", "--max-grad-norm"], "--set gradient.clip_norm=VALUE"),
    (
        &[
            "--world-size",
            "--local-rank",
            "--nproc",
            "--dist-url",
            "--accelerator",
            "--strategy",
            "--num-nodes",
            "--nodes",
        ],
        "--device cuda:all (or a launcher such as mpirun)",
    ),
    (&["--background"], "--set data.background=COLOR"),
    (
        &["--crop-scale", "--policy", "--aug", "--augment", "--color-jitter", "--colour-jitter", "--num-large-crops"],
        "--set augmentation.policy=POLICY",
    ),
    (&["--save-freq", "--save-every", "--ckpt-freq", "--checkpoint-freq"], "--set checkpoint.every_epochs=N"),
    (&["--eval-freq", "--eval-every", "--eval-interval", "--val-freq", "--knn-eval"], "--set probe.every_epochs=N"),
    (&["--val-dir", "--val-data", "--test-dir"], "--set probe.every_epochs=N --set probe.data=IMAGES"),
    (&["--lambda", "--lambd", "--equi-weight", "--equimod-weight"], "--set equivariance.equimod.weight=VALUE"),
    (&["--no-equivariance", "--no-equimod", "--no-module"], "--set equivariance.equimod.weight=0"),
    (&["--mlflow", "--mlflow-experiment"], "--set log.mlflow=EXPERIMENT"),
    (&["--csv"], "--set log.csv=true"),
    (
        &["--wandb", "--use-wandb", "--wandb-project"],
        "--set log.csv=true (docs/training.md has a script that sends the numbers to Weights & Biases)",
    ),
    (&["--name", "--run-name", "--exp-name", "--experiment"], "--out"),
];

/// Options that training need not have, and the reason.
const ALWAYS: Hints = &[
    (&["--sync-bn", "--sync-batchnorm"], "batch norm always has the statistics of all devices"),
    (&["--deterministic", "--cudnn-deterministic"], "training is always deterministic"),
    (&["--drop-last"], "the images that do not fill a batch are left out of each epoch, in another order each time"),
    (
        &["--force", "--overwrite"],
        "no run is overwritten; give --out another folder, or go on with the run by --resume",
    ),
    (&["--num-classes"], "training needs no labels, and evaluations count the classes"),
];

/// Options of commands that evaluate a model.
const OF_MODELS: Hints = &[
    (
        &["--model", "--arch", "-a", "--pretrained", "--ckpt", "--checkpoint", "--weights", "--resume"],
        "the model's run directory, file or hf: name as the first argument, without an option",
    ),
    (&["-k", "--knn", "--nb-knn", "--n-neighbors", "--neighbors", "--neighbours"], "--k N"),
    (&["--wd", "--weight-decay", "-C", "--C", "--c"], "--l2-strengths N, the number of strengths that are tried"),
    (&["--label", "--labels-column", "--target"], "--task NAME"),
    (&["--train-fraction", "--label-fraction", "--percent"], "--labels PERCENT"),
    (&["--n-way", "--way"], "--ways N"),
    (&["--n-shot", "--shot"], "--shots N"),
];

/// Options that commands need not have, and the reason.
const WITHOUT_EFFECT: Hints = &[
    (&["--width"], "the network is that of the model"),
    (&["--wd", "--weight-decay"], "the linear layer is trained without, as published"),
    (&["--batch", "-b", "--bs", "--batch-size"], "features do not depend on the batch size"),
    (
        &["--epochs", "--num-epochs", "--max-epochs", "--lr", "--base-lr", "--learning-rate"],
        "only `eval linear` and `eval finetune` train for epochs",
    ),
];

/// Options of single commands, and what to do instead, as a sentence.
const OF_COMMANDS: &[(&str, Hints)] = &[
    (
        "publish",
        &[
            (&["--token", "--hf-token"], "the token is that of `hf auth login`, or HF_TOKEN of the environment"),
            (&["--repo-id", "--repository"], "use --repo OWNER/NAME"),
            (&["--branch"], "use --revision BRANCH"),
            (&["--commit-message"], "use --message TEXT"),
            (&["--public"], "leave it out, because a repository is public without --private"),
        ],
    ),
    (
        "export",
        &[
            (
                &["--onnx", "--format", "--torchscript"],
                "an export is a folder with safetensors, and other formats come from torchvision or timm (docs/faq.md)",
            ),
            (
                &["--overwrite", "--force"],
                "leave it out: an earlier export is replaced (an edited card by --force-card)",
            ),
            (&["--name"], "use --out DIR"),
        ],
    ),
    (
        "embed",
        &[
            (
                &["--normalize", "--normalise", "--l2"],
                "features are as the network gives them: divide them by their norms",
            ),
            (&["--layer", "--layers"], "features are those after the global average pooling"),
        ],
    ),
    (
        "study",
        &[
            (
                &["--seeds", "--seed"],
                "write `seeds = [0, 1]` in the study's file (`equimod list studies NAME` prints one)",
            ),
            (&["--list"], "`equimod list studies` lists the built-in ones"),
            (
                &["--epochs", "--batch", "--lr", "--size", "--set"],
                "write it under [set] in the study's file, e.g. schedule.epochs = 10",
            ),
        ],
    ),
];

/// Names of commands of other programs, and the command that does the same.
const COMMANDS: Hints = &[
    (&["finetune", "fine-tune"], "eval finetune"),
    (&["knn", "k-nn"], "eval knn"),
    (&["linear", "linear-probe", "linear-eval", "linprobe", "lincls", "probe"], "eval linear"),
    (&["tsne", "t-sne", "umap"], "eval knn MODEL --map tsne"),
    (&["pca"], "eval knn MODEL --map pca"),
    (&["ls"], "runs"),
    (&["logistic", "logreg"], "eval logistic"),
    (&["few-shot", "fewshot"], "eval few-shot"),
    (&["equivariance"], "eval equivariance"),
    (&["params", "parameters"], "eval params"),
    (&["retrieval", "retrieve"], "eval retrieval"),
    (&["health"], "eval health"),
    (&["transfer"], "eval transfer"),
    (&["compare"], "eval compare"),
    (&["test", "evaluate", "validate", "val", "all", "accuracy", "acc", "metrics"], "eval --help"),
    (&["train", "fit", "run"], "pretrain"),
    (&["resume", "continue"], "pretrain --out RUN --resume"),
    (&["extract", "extract-features", "features", "predict", "encode"], "embed"),
    (&["push", "upload"], "publish"),
    (&["download", "fetch"], "data fetch"),
    (&["lr-find", "lr-finder", "find-rate"], "find-lr"),
    (&["models", "recipes", "datasets"], "list"),
    (&["verify", "check"], "data verify"),
    (&["stats", "statistics"], "data stats"),
    (&["preview", "show"], "data preview"),
    (&["pack"], "data pack"),
    (&["index"], "data index"),
];

/// Message on a command of another program, with the one that does the same; `None` for other errors.
pub fn of_another_command(error: &clap::Error) -> Option<String> {
    let ContextValue::String(name) = error.get(ContextKind::InvalidSubcommand)? else { return None };
    if let Some((path, command)) = command_of(&error.get(ContextKind::Usage)?.to_string())
        && path == "eval"
        && Path::new(name).exists()
    {
        let names = command.get_subcommands().map(Command::get_name);
        let protocols: Vec<&str> = names.filter(|name| *name != "help").collect();
        let arguments = if check_location(Path::new(name)).is_ok() { name } else { &format!("MODEL {name}") };
        return Some(format!(
            "a protocol and a model come first, e.g. `equimod eval knn {arguments}`; there are {}",
            protocols.join(", ")
        ));
    }
    let instead = all_said(&[COMMANDS], name).first().copied()?;
    Some(format!("there is no command {name}; use `equimod {instead}`"))
}

/// Message on images that are named twice, or on more arguments than images; `None` for other errors.
pub fn of_images(error: &clap::Error) -> Option<String> {
    let ContextValue::String(name) = error.get(ContextKind::InvalidArg)? else { return None };
    let (path, command) = command_of(&error.get(ContextKind::Usage)?.to_string())?;
    let takes = |id: &str| command.get_arguments().any(|argument| argument.get_id() == id);
    let other = if takes("settings") {
        "; a recipe is --recipe NAME, a method --set objective.kind=KIND, a run to go on with --out RUN --resume"
    } else {
        ""
    };
    match error.kind() {
        ErrorKind::ArgumentConflict if name.starts_with("[DATA]") => {
            Some(format!("the images are named twice, as an argument and by --data: leave one of them out{other}"))
        }
        ErrorKind::UnknownArgument if takes("source") && takes("settings") && !name.starts_with('-') => {
            Some(format!("there is no place for {name}: the only argument of `equimod {path}` is the images{other}"))
        }
        _ => None,
    }
}

/// Message on an option of another program, with what does the same in the command; `None` for other errors.
pub fn of_another_program(error: &clap::Error) -> Option<String> {
    let ContextValue::String(name) = error.get(ContextKind::InvalidArg)? else { return None };
    let usage = error.get(ContextKind::Usage)?.to_string();
    let (path, command) = command_of(&usage).filter(|_| error.kind() == ErrorKind::UnknownArgument)?;
    let trains = command.get_arguments().any(|argument| argument.get_long() == Some("set"));
    let evaluates = path.starts_with("eval ") || ["embed", "export"].contains(&path.as_str());
    let chooses = path == "init";
    let of_command = OF_COMMANDS.iter().filter(|(command, _)| *command == path).map(|(_, hints)| *hints);
    if let Some(text) = all_said(&of_command.collect::<Vec<_>>(), name).first() {
        return Some(format!("there is no option {name} of `equimod {path}`; {text}"));
    }
    let text = match (trains, evaluates) {
        (true, _) => match (hint(&command, &[OF_ALL, OF_RECIPES], name), hint(&command, &[ALWAYS], name)) {
            (Some(instead), _) => format!("use {instead} (`equimod pretrain --dry-run` prints all settings)"),
            (None, reason) => format!("leave it out: {}", reason?),
        },
        (_, true) => match (hint(&command, &[OF_ALL, OF_MODELS], name), hint(&command, &[WITHOUT_EFFECT], name)) {
            (Some(instead), _) => format!("use {instead} (`equimod {path} --help` lists all options)"),
            (None, reason) => format!("leave it out: {}", reason?),
        },
        _ if chooses => match (hint(&command, &[OF_ALL], name), all_said(&[OF_RECIPES], name).first().copied()) {
            (Some(instead), _) => format!("use {instead}"),
            (None, instead) => format!("set {} in the recipe that it writes", instead?.strip_prefix("--set ")?),
        },
        _ => format!("use {}", hint(&command, &[OF_ALL], name)?),
    };
    Some(format!("there is no option {name} of `equimod {path}`; {text}"))
}

/// The command of a line of usage, with its names after the program's.
fn command_of(usage: &str) -> Option<(String, Command)> {
    let mut command = Cli::command();
    // Options that all commands share become part of each.
    command.build();
    let mut path = Vec::new();
    for word in usage.split_once("equimod ")?.1.split_whitespace() {
        let Some(inner) = command.find_subcommand(word) else { break };
        path.push(word);
        command = inner.clone();
    }
    Some((path.join(" "), command))
}

/// What does the same in `command` as the option `name` of another program.
fn hint(command: &Command, hints: &[Hints], name: &str) -> Option<&'static str> {
    all_said(hints, name).into_iter().find(|instead| has(command, instead))
}

/// What does the same as the option `name` of another program in any command.
fn all_said(hints: &[Hints], name: &str) -> Vec<&'static str> {
    // Of `--name=value` and `--name <VALUE>`, the name.
    let name = name.split(['=', ' ']).next().unwrap_or(name);
    let hyphens = name.replace('_', "-");
    hints
        .iter()
        .flat_map(|hints| hints.iter())
        .filter(|(names, _)| names.contains(&name) || names.contains(&hyphens.as_str()))
        .map(|(_, instead)| *instead)
        .collect()
}

/// Whether a command has the option with which a text begins, if it begins with one.
fn has(command: &Command, text: &str) -> bool {
    let option = text.strip_prefix("--").and_then(|text| text.split([' ', '=']).next());
    option.is_none_or(|option| {
        command.get_arguments().any(|argument| {
            argument.get_long() == Some(option) || argument.get_all_aliases().is_some_and(|all| all.contains(&option))
        })
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Command as CliCommand;
    use crate::recipes::named;

    /// Settings and options with placeholders, and with values.
    const VALUES: [(&str, &str); 19] = [
        ("EXPERIMENT", "birds"),
        ("IMAGES", "photos"),
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
        (" N", " 30"),
        ("PIXELS", "64"),
        ("RATE", "0.1"),
        ("MODEL", "x.safetensors"),
        ("COLOR", "white"),
        ("--out", "--out x"),
    ];

    /// The answer to a command line that is refused.
    fn answer(words: &str) -> String {
        let refused = Cli::try_parse_from(words.split(' ')).err();
        refused.and_then(|refused| of_another_program(&refused)).unwrap_or_default()
    }

    #[test]
    fn what_is_suggested_is_accepted_and_what_is_replaced_is_not() {
        for (names, instead) in OF_ALL.iter().chain(OF_RECIPES) {
            // Some names are options of one command and not of another.
            let commands = ["pretrain", "find-lr", "eval linear m", "eval knn m", "embed m"];
            for name in *names {
                let hyphens = name.trim_start_matches('-');
                let other = name.replace(hyphens, &hyphens.replace('-', "_"));
                let says = |name: &str| {
                    let says =
                        |command| answer(&format!("equimod {command} {name} 3")).contains(&format!("use {instead}"));
                    commands.into_iter().any(says)
                };
                assert!(says(name) || says(&other), "{name}");
            }
            let mut example = instead.split(" (").next().unwrap().to_owned();
            for (placeholder, value) in VALUES {
                example = example.replace(placeholder, value);
            }
            let accepted = |command| Cli::try_parse_from(format!("equimod {command} {example}").split(' ')).ok();
            match accepted("pretrain").map(|cli| cli.command) {
                Some(CliCommand::Pretrain(arguments)) => {
                    named("quick", &arguments.recipe.settings()).unwrap();
                }
                _ => assert!(accepted("find-lr").is_some(), "{example}"),
            }
        }
        assert_eq!(all_said(&[OF_RECIPES], "--weight_decay"), all_said(&[OF_RECIPES], "--weight-decay"));
        for name in ALWAYS.iter().flat_map(|(names, _)| *names) {
            assert!(answer(&format!("equimod pretrain photos {name}")).contains("leave it out: "), "{name}");
        }
        assert!(all_said(&[OF_RECIPES], "--arch=resnet50")[0].starts_with("--set backbone.architecture=NAME ("));
        for other in ["equimod pretrain --unheard-of", "equimod runs --arch"] {
            assert_eq!(answer(other), "");
        }
    }

    #[test]
    fn commands_of_other_programs_are_answered_with_ours() {
        let refused = |words: &str| Cli::try_parse_from(words.split(' ')).err();
        let answer = |words: &str| refused(words).and_then(|error| of_another_command(&error)).unwrap_or_default();
        for (names, instead) in COMMANDS {
            for name in *names {
                let text = answer(&format!("equimod {name} out/a"));
                assert_eq!(text, format!("there is no command {name}; use `equimod {instead}`"));
            }
            let is_of_command = |word: &&str| !word.starts_with("--") && !["RUN", "MODEL"].contains(word);
            let words: Vec<&str> = instead.split(' ').take_while(is_of_command).collect();
            let known = command_of(&format!("equimod {}", words.join(" "))).map(|(path, _)| path);
            assert_eq!(known.as_deref(), Some(words.join(" ").as_str()), "{instead}");
        }
        assert_eq!(answer("equimod unheard-of"), "");
        let protocols = answer("equimod eval src");
        assert!(protocols.contains("`equimod eval knn MODEL src`; there are linear, "), "{protocols}");
        assert_eq!(answer("equimod eval unheard-of"), "");
        assert!(super::of_another_program(&refused("equimod report a --output r.html").unwrap()).is_some());
    }

    #[test]
    fn images_have_one_place() {
        let answer = |words: &str| {
            let refused = Cli::try_parse_from(words.split(' ')).err();
            refused.and_then(|error| of_images(&error)).unwrap_or_default()
        };
        for command in ["pretrain", "find-lr"] {
            let twice = answer(&format!("equimod {command} simclr --data photos"));
            assert!(twice.contains("named twice") && twice.contains("--set objective.kind=KIND"), "{twice}");
            let two = answer(&format!("equimod {command} simclr photos"));
            assert!(two.starts_with("there is no place for photos") && two.contains("--recipe NAME"), "{two}");
        }
        let twice = answer("equimod eval knn run photos --data others");
        assert!(twice.ends_with("leave one of them out"), "{twice}");
        assert_eq!(answer("equimod pretrain photos --unheard-of"), "");
        assert_eq!(answer("equimod inspect one two"), "");
    }

    #[test]
    fn evaluations_suggest_only_what_they_have() {
        let text = answer;
        assert!(text("equimod eval linear m --batch_size=3").contains("use --batch N"));
        assert!(text("equimod eval linear m --batch-size 3").contains("use --batch N"));
        assert!(text("equimod eval knn m --batch-size=3").contains("do not depend on the batch size"));
        assert!(text("equimod eval knn m --epochs 3").contains("`eval linear`"));
        assert!(text("equimod eval knn m --n-neighbors 3").contains("use --k N"));
        assert!(text("equimod eval logistic m --n-neighbors 3").is_empty());
        assert!(text("equimod eval few-shot m --img_size 3").contains("use --size PIXELS"));
        assert!(text("equimod find-lr --end-lr 3").contains("use --max-lr RATE"));
        assert!(text("equimod init photos --wd 3").contains("set optimizer.weight_decay=VALUE in the recipe"));
        assert!(text("equimod init photos --bs 3").contains("use --batch N"));
        assert!(text("equimod eval logistic m -C 1").contains("--l2-strengths"));
        assert!(text("equimod eval knn m --workers 3").contains("use --threads N"));
        assert!(text("equimod embed m -o f.csv").contains("use --out ("));
        assert!(text("equimod publish m --token x").contains("HF_TOKEN"));
        assert!(text("equimod publish m --repo_id a/b").contains("use --repo OWNER/NAME"));
        for (command, hints) in OF_COMMANDS {
            for name in hints.iter().flat_map(|(names, _)| *names) {
                assert!(
                    text(&format!("equimod {command} m {name} 3")).contains("there is no option"),
                    "{command} {name}"
                );
            }
        }
        assert!(text("equimod embed --checkpoint m").contains("as the first argument"));
    }
}
