//! Commands with a module and with an augmentation of their own: the examples `custom_module` and
//! `custom_augmentation`, as which this program runs when it calls itself.
//!
//! There is no test harness, since it would read the command's arguments.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // As in a test harness.
#![allow(unused_imports, reason = "unit tests of the examples belong to their own harnesses")]

#[path = "../examples/custom_augmentation.rs"]
mod custom_augmentation;
#[path = "../examples/custom_module.rs"]
mod custom_module;

use std::path::Path;
use std::process::{Command, ExitCode, Output};

/// Environment variable with the name of the example as which this program runs.
const COMMAND: &str = "EQUIMOD_TEST_COMMAND";

/// The tests.
const TESTS: [(&str, fn()); 3] = [
    ("a_recipe_names_a_registered_module", a_recipe_names_a_registered_module),
    ("a_policy_names_a_registered_augmentation", a_policy_names_a_registered_augmentation),
    ("the_book_shows_the_examples", the_book_shows_the_examples),
];

fn main() -> ExitCode {
    match std::env::var(COMMAND).as_deref() {
        Ok("module") => return custom_module::main(),
        Ok(_) => return custom_augmentation::main().unwrap(),
        Err(_) => {}
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, test) in TESTS {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

fn a_recipe_names_a_registered_module() {
    let folder = tempfile::tempdir().unwrap();
    let own = |arguments: &[&str]| example("module", folder.path(), arguments);
    let plain = |arguments: &[&str]| plain(folder.path(), arguments);
    let recipe = r#"
        base = "quick"
        data = { batch = 32 }
        backbone = { width = 4 }
        augmentation = { size = 16 }
        objective = { kind = "simclr", projection_head = "64-16 bn-" }
        schedule = { epochs = 1, warmup_epochs = 0.2 }
        equivariance = { equimod = false, shift = { width = 24 } }
    "#;
    std::fs::write(folder.path().join("mine.toml"), recipe).unwrap();

    assert!(done(own(&["list", "modules"])).contains("parameters shift the embedding"));
    assert!(done(own(&["list", "recipe-schema"])).contains("\"shift\": {"));
    let wrong = own(&["pretrain", "--recipe", "mine.toml", "--set", "equivariance.shift.widht=3", "--out", "wrong"]);
    assert!(refused(wrong).contains("widht"));
    let wrong = own(&["pretrain", "--recipe", "mine.toml", "--set", "equivariance.shift.width=0", "--out", "wrong"]);
    assert!(refused(wrong).contains("equivariance.shift.width is 0"));
    let near = own(&["pretrain", "--recipe", "mine.toml", "--set", "equivariance.shfit.width=3", "--out", "wrong"]);
    assert!(refused(near).contains("did you mean equivariance.shift?"));
    let unknown = refused(plain(&["pretrain", "--recipe", "mine.toml", "--out", "wrong"]));
    assert!(unknown.contains("there is no setting equivariance.shift"), "{unknown}");

    done(own(&["pretrain", "--recipe", "mine.toml", "--out", "run", "--no-eval"]));
    let written = std::fs::read_to_string(folder.path().join("run/recipe.resolved.toml")).unwrap();
    assert!(written.contains("[equivariance.shift]") && written.contains("width = 24"), "{written}");
    let measured = done(own(&["eval", "equivariance", "run", "--images", "32", "--overall"]));
    assert!(measured.contains("shift") && measured.contains("absolute equivariance"), "{measured}");

    // Without the module, the backbone is what it was.
    let features = |run: &dyn Fn(&[&str]) -> Output, to: &str| {
        done(run(&["embed", "run", "--data", "emoji", "--out", to]));
        std::fs::read(folder.path().join(to)).unwrap()
    };
    assert!(features(&own, "own.parquet") == features(&plain, "plain.parquet"));
    done(plain(&["eval", "knn", "run", "--task", "category"]));
    assert!(refused(plain(&["eval", "equivariance", "run"])).contains("does not know its module shift"));
    assert!(done(plain(&["runs", "."])).contains("run "));
    assert!(done(plain(&["report", "run", "--out", "report.html"])).contains("report.html"));
}

fn a_policy_names_a_registered_augmentation() {
    let folder = tempfile::tempdir().unwrap();
    let own = |arguments: &[&str]| example("augmentation", folder.path(), arguments);
    let plain = |arguments: &[&str]| plain(folder.path(), arguments);
    let view = r#"[
        { kind = "random-resized-crop", size = 16, scale = [0.2, 1.0], ratio = [0.75, 1.3333], filter = "bicubic" },
        { kind = "gamma", exponent = [0.5, 3.0] },
    ]"#;
    let recipe = format!(
        r#"
        base = "quick"
        data = {{ batch = 32 }}
        backbone = {{ width = 4 }}
        objective = {{ kind = "simclr", projection_head = "64-16 bn-" }}
        schedule = {{ epochs = 1, warmup_epochs = 0.2 }}
        augmentation.size = 16
        [augmentation.policy]
        name = "with-gamma"
        clean = {{ resize = 16, crop = 16, filter = "bilinear" }}
        views = [{view}, {view}]
        "#
    );
    std::fs::write(folder.path().join("gamma.toml"), &recipe).unwrap();
    std::fs::write(folder.path().join("wrong.toml"), recipe.replace("[0.5, 3.0]", "[3.0, 0.5]")).unwrap();

    assert!(done(own(&["list", "augmentations"])).contains("gamma correction with a random exponent"));
    assert!(done(own(&["list", "recipe-schema"])).contains("\"const\": \"gamma\""));
    assert!(refused(own(&["pretrain", "--recipe", "wrong.toml", "--out", "wrong"])).contains("two exponents above 0"));
    let unknown = refused(plain(&["pretrain", "--recipe", "gamma.toml", "--out", "wrong"]));
    assert!(unknown.contains("gamma") && unknown.contains("solarize"), "{unknown}");

    done(own(&["pretrain", "--recipe", "gamma.toml", "--out", "run", "--no-eval"]));
    let written = std::fs::read_to_string(folder.path().join("run/recipe.resolved.toml")).unwrap();
    assert!(written.contains("probability = 0.5") && written.contains("3.0"), "{written}");
    let measured = done(own(&["eval", "equivariance", "run", "--images", "32"]));
    assert!(measured.contains("gamma alone"), "{measured}");

    // Without the augmentation, the backbone can be evaluated where no views are made.
    done(plain(&["eval", "knn", "run", "--task", "category"]));
    assert!(refused(plain(&["eval", "equivariance", "run"])).contains("gamma"));
    assert!(done(plain(&["runs", "."])).contains("run "));
}

fn the_book_shows_the_examples() {
    let page = include_str!("../docs/extending.md");
    let examples = [include_str!("../examples/custom_module.rs"), include_str!("../examples/custom_augmentation.rs")];
    for example in examples {
        let code = &example[example.find("\nuse ").unwrap()..];
        assert!(page.contains(code), "docs/extending.md shows another program:\n{code}");
    }
}

fn example(name: &str, folder: &Path, arguments: &[&str]) -> Output {
    run(&std::env::current_exe().unwrap(), name, folder, arguments)
}

fn plain(folder: &Path, arguments: &[&str]) -> Output {
    run(env!("CARGO_BIN_EXE_equimod").as_ref(), "", folder, arguments)
}

fn run(program: &Path, name: &str, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program).env(COMMAND, name).current_dir(folder).args(arguments).output().unwrap()
}

fn done(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: Output) -> String {
    assert!(matches!(output.status.code(), Some(2 | 3)), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
