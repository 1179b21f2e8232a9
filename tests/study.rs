//! Studies through the real binary: stopped, killed, resumed, split and remade.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use serde_json::Value;

use common::{Scratch, TINY, terminate};

/// Two cells with two seeds, and one whose learning rate is absurd.
const STUDY: &str = r#"
name = "tiny"
about = "two cells and one that diverges"
recipe = "tiny.toml"
data = "images/"
seeds = [0, 3]
baseline = { module = "plain" }
evaluate = ["knn --k 3", "equivariance --images 16 --overall"]

[set]
data.batch = 16
schedule.epochs = 10
# Images of two colors have little to tell apart.
guard.least_rank = 0.5
guard.least_std = 1e-9

[grid.module.plain.equivariance]
equimod = false

[grid.module.equimod.equivariance.equimod]
weight = 1.0

[grid.module.wild]
schedule.learning_rate = 1e30
"#;

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.images("images", 40);
    scratch.write("tiny.toml", TINY);
    scratch.write("study.toml", STUDY);
    scratch
}

/// The record of a study without times and memory.
fn record(scratch: &Scratch, out: &str) -> Value {
    let bytes = fs::read(scratch.path(out).join("study.json")).unwrap();
    let mut record: Value = serde_json::from_slice(&bytes).unwrap();
    for cell in record["cells"].as_array_mut().unwrap() {
        for run in cell["runs"].as_array_mut().unwrap() {
            (run["seconds"], run["peak_memory"]) = (Value::Null, Value::Null);
        }
    }
    record
}

/// Starts the study into `out`, and waits until a run has begun to train.
fn start_until(scratch: &Scratch, out: &str, run: &str) -> Child {
    scratch.start_until(&["study", "study.toml", "--out", out], &format!("{out}/cells/{run}/train.log"))
}

#[test]
fn a_study_gives_the_same_record_whole_in_parts_stopped_and_killed() {
    let scratch = scratch();
    let printed = scratch.done(&["study", "study.toml", "--out", "whole"]);
    for part in ["plain", "equimod", "2 of 2 diverged", "2 of 6 runs did not finish soundly", "study.html"] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    let whole = record(&scratch, "whole");
    check(&whole);
    the_report_is_remade(&scratch);

    scratch.done(&["study", "study.toml", "--out", "parts", "--shard", "1/2"]);
    assert_ne!(record(&scratch, "parts"), whole);
    scratch.done(&["study", "study.toml", "--out", "parts", "--shard", "2/2"]);
    assert_eq!(record(&scratch, "parts"), whole);
    runs_of_other_machines_are_merged(&scratch, &whole);

    assert_eq!(terminate(start_until(&scratch, "stopped", "equimod/seed-0")), Some(75));
    let begun = fs::read_to_string(scratch.path("stopped/cells/equimod/seed-0/run.json")).unwrap();
    assert!(begun.contains("interrupted"), "{begun}");
    let mut killed = start_until(&scratch, "stopped", "plain/seed-3");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let printed = scratch.done(&["study", "study.toml", "--out", "stopped"]);
    assert!(printed.contains("study.html"));
    assert_eq!(record(&scratch, "stopped"), whole);

    changed_cells_are_refused(&scratch);
}

/// Continues the test above: parts with folders of their own give the same record, and nothing is trained again.
fn runs_of_other_machines_are_merged(scratch: &Scratch, whole: &Value) {
    scratch.done(&["study", "study.toml", "--out", "first", "--shard", "1/2"]);
    scratch.done(&["study", "study.toml", "--out", "second", "--shard", "2/2", "--merge", "first/study.json"]);
    assert_eq!(&record(scratch, "second"), whole);
    let both = ["--merge", "first/study.json", "--merge", "second/study.json"];
    scratch.done(&[&["study", "study.toml", "--out", "third"][..], &both].concat());
    assert_eq!(&record(scratch, "third"), whole);
    assert!(!scratch.path("third/cells").exists());
    let listed = scratch.done(&[&["study", "study.toml", "--dry-run"][..], &both].concat());
    assert!(listed.contains("6 runs, 6 of them done"), "{listed}");
    scratch.write("other.toml", STUDY.replace("weight = 1.0", "weight = 0.5"));
    let parts = ["whole/study.json", "equimod seed 0", "other settings"];
    scratch.refused(&["study", "other.toml", "--out", "other", "--merge", "whole/study.json"], 2, &parts);
    scratch.write("other.toml", STUDY.replace("--k 3", "--k 4"));
    let parts = ["whole/study.json", "its evaluations are not those of the study"];
    scratch.refused(&["study", "other.toml", "--out", "other", "--merge", "whole/study.json"], 2, &parts);
}

/// The numbers of the record that tests know.
fn check(record: &Value) {
    assert_eq!((record["format"].as_u64(), record["matched_by"].as_str()), (Some(1), Some("steps")));
    let cells = record["cells"].as_array().unwrap();
    let of = |number: usize, key: &str| &cells[number][key];
    assert_eq!([of(0, "images"), of(1, "images")], ["2B", "3B"]);
    assert_eq!((of(0, "steps").as_u64(), of(1, "steps").as_u64()), (Some(50), Some(50)));
    assert!(of(1, "flops").as_f64().unwrap() > of(0, "flops").as_f64().unwrap());
    let states = |number: usize| cells[number]["runs"].as_array().unwrap().iter().map(|run| run["state"].clone());
    assert!(states(0).chain(states(1)).all(|state| state == "finished"));
    assert!(states(2).all(|state| state == "diverged"));
    let measures = record["measures"].as_array().unwrap();
    let top_1 = measures.iter().position(|measure| measure["metric"] == "top-1 accuracy").unwrap();
    let run = &cells[1]["runs"][1];
    assert_eq!((run["seed"].as_u64(), run["hits"][0]["images"].as_u64()), (Some(3), Some(16)));
    assert!(run["values"][top_1].as_f64().unwrap() > 0.3);
    assert_eq!(run["curves"]["loss"].as_array().unwrap().len(), 40);
    // The plain objective predicts no view.
    assert!(cells[0]["runs"][0]["values"].as_array().unwrap().iter().any(Value::is_null));
}

/// Continues the test above: report and tables follow from the record alone.
fn the_report_is_remade(scratch: &Scratch) {
    fs::create_dir(scratch.path("copy")).unwrap();
    fs::copy(scratch.path("whole/study.json"), scratch.path("copy/study.json")).unwrap();
    scratch.done(&["study", "--report", "copy/study.json"]);
    scratch.done(&["study", "--report", "copy/study.json", "--out", "elsewhere"]);
    for file in ["study.html", "study.md", "study.tex"] {
        let bytes = fs::read(scratch.path("whole").join(file)).unwrap();
        assert!(bytes == fs::read(scratch.path("copy").join(file)).unwrap(), "{file}");
        assert!(bytes == fs::read(scratch.path("elsewhere").join(file)).unwrap(), "{file}");
    }
    let figures = |folder: &str| {
        let files = fs::read_dir(scratch.path(folder).join("figures")).unwrap().map(|file| file.unwrap().path());
        let read = |path: std::path::PathBuf| (path.file_name().unwrap().to_owned(), fs::read(path).unwrap());
        files.map(read).collect::<std::collections::BTreeMap<_, _>>()
    };
    assert!(!figures("whole").is_empty());
    assert_eq!(figures("whole"), figures("copy"));
    let page = fs::read_to_string(scratch.path("whole/study.html")).unwrap();
    for part in ["Differences from plain", "<circle", "<polygon", "2 of 2 diverged", "Cost"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script") && !page.contains("NaN"));
    scratch.write("damaged.json", "{\"format\": 1}");
    scratch.refused(&["study", "--report", "damaged.json"], 3, &["damaged.json", "not the study.json of a study"]);
}

/// Continues the test above: a run with other settings is neither used nor overwritten.
fn changed_cells_are_refused(scratch: &Scratch) {
    scratch.write("study.toml", STUDY.replace("weight = 1.0", "weight = 0.5"));
    let parts = ["equimod/seed-0", "other settings", "equivariance.equimod.weight 1.0 → 0.5", "--out"];
    scratch.refused(&["study", "study.toml", "--out", "whole"], 2, &parts);
}

#[test]
fn a_dry_run_lists_the_cells_and_flops_are_matched_by_epochs() {
    let scratch = scratch();
    let printed = scratch.done(&["study", "study.toml", "--dry-run"]);
    for part in ["compared with", "equimod  plain", "3B", "3 cells × 2 seeds = 6 runs, 0 of them done", "by steps"] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    scratch.write("flops.toml", STUDY.replace("seeds =", "match = \"flops\"\nseeds ="));
    let printed = scratch.done(&["study", "flops.toml", "--dry-run"]);
    let epochs = |name: &str| {
        let line = printed.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(4).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(epochs("plain"), 10);
    // Three images pass through the backbone instead of two, and there are more heads.
    assert!((5..=7).contains(&epochs("equimod")), "{printed}");
    assert!(!scratch.path("out").exists());
}

#[test]
fn problems_are_reported_in_one_sentence_before_anything_is_trained() {
    let scratch = scratch();
    scratch.refused(&["study", "emojy"], 2, &["there is no study \"emojy\"", "emoji-ablations"]);
    scratch.refused(&["study"], 2, &["NAME|FILE"]);
    scratch.refused(&["study", "study.toml", "--shard", "3/2"], 2, &["2/5"]);
    scratch.done(&["pretrain", "images", "--recipe", "tiny.toml", "--no-eval", "--out", "run"]);
    scratch.refused(&["study", "study.toml", "--out", "run"], 2, &["run is a run directory", "--out"]);
    let wrong = STUDY.replace("weight = 1.0", "wieght = 1.0").replace("knn --k 3", "knm");
    scratch.write("study.toml", wrong);
    let parts = ["2 problems", "line 8: the evaluation \"knm\"", "line 21: there is no setting", "did you mean"];
    scratch.refused(&["study", "study.toml"], 2, &parts);
    let image = fs::read(scratch.path("images/class0/0.png")).unwrap();
    for number in 0..4 {
        scratch.write(&format!("unlabeled/{number}.png"), &image);
    }
    for (evaluation, parts) in [
        ("knn --task kind", ["\"knn --task kind\" cannot be used", "no labels called \"kind\""]),
        ("logistic --data unlabeled", ["\"logistic --data unlabeled\" cannot be used", "it has no labels"]),
    ] {
        scratch.write("study.toml", STUDY.replace("knn --k 3", evaluation));
        scratch.refused(&["study", "study.toml", "--dry-run"], 2, &parts);
    }
    assert!(!scratch.path("out").exists());
}

#[test]
fn built_in_studies_are_listed_and_printed() {
    let scratch = Scratch::new();
    let listed = scratch.done(&["list", "studies"]);
    for name in ["emoji ", "emoji-ablations", "cifar10-small", "cifar10 ", "imagenet100"] {
        assert!(listed.contains(name), "{listed}");
    }
    assert!(scratch.done(&["list", "studies", "emoji"]).contains("[grid.module.plain.equivariance]"));
    scratch.refused(&["list", "studies", "emojis"], 2, &["there is no study \"emojis\"", "imagenet100"]);
}

#[test]
fn what_is_published_of_studies_is_made_from_their_raw_numbers() {
    let scratch = Scratch::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let same = |made: PathBuf, published: PathBuf| {
        assert!(
            fs::read(&made).unwrap() == fs::read(&published).unwrap(),
            "{} is not as made now",
            published.display()
        );
    };
    for study in ["emoji", "emoji-ablations"] {
        let raw = root.join(format!("studies/results/{study}.json")).display().to_string();
        scratch.done(&["study", "--report", &raw, "--out", study]);
        same(scratch.path(&format!("{study}/study.md")), root.join(format!("studies/results/{study}.md")));
    }
    let figures = fs::read_dir(root.join("docs/figures/study")).unwrap().map(|file| file.unwrap().path());
    let count =
        figures.map(|figure| same(scratch.path("emoji/figures").join(figure.file_name().unwrap()), figure)).count();
    assert!(count > 0);
}
