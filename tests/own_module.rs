//! A command with a module of its own: the example `custom_module`, as which this program runs when it calls itself.
//!
//! There is no test harness, since it would read the command's arguments.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // As in a test harness.

#[path = "../examples/custom_module.rs"]
mod custom_module;

use std::path::Path;
use std::process::{Command, ExitCode, Output};

/// Environment variable with which this program is the command.
const COMMAND: &str = "EQUIMOD_TEST_COMMAND";

fn main() -> ExitCode {
    if std::env::var_os(COMMAND).is_some() {
        return custom_module::main();
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let name = "a_recipe_names_a_registered_module";
    if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
        a_recipe_names_a_registered_module();
        the_book_shows_the_example();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

fn a_recipe_names_a_registered_module() {
    let folder = tempfile::tempdir().unwrap();
    let own = |arguments: &[&str]| run(&std::env::current_exe().unwrap(), folder.path(), arguments);
    let plain = |arguments: &[&str]| run(env!("CARGO_BIN_EXE_equimod").as_ref(), folder.path(), arguments);
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

fn the_book_shows_the_example() {
    let (page, example) = (include_str!("../docs/extending.md"), include_str!("../examples/custom_module.rs"));
    let code = &example[example.find("use candle_core").unwrap()..];
    assert!(page.contains(code), "docs/extending.md shows another program than examples/custom_module.rs");
}

fn run(program: &Path, folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program).env(COMMAND, "").current_dir(folder).args(arguments).output().unwrap()
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
