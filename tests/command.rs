//! The real binary, end to end: training, evaluation, resume, hostile input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use common::{Scratch, TINY, terminate, text};

fn value(rows: &Value, protocol: &str, task: &str, metric: &str, key: &str) -> f64 {
    let row =
        rows["rows"].as_array().unwrap().iter().find(|row| {
            row["protocol"] == protocol && row["task"] == task && row["metric"].as_str().unwrap() == metric
        });
    row.unwrap_or_else(|| panic!("no {protocol} {task} {metric} in {rows}"))[key].as_f64().unwrap()
}

#[test]
fn a_run_trains_evaluates_and_reports_and_its_model_is_usable() {
    let scratch = Scratch::new();
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let printed = scratch.done(&["pretrain", "--recipe", &recipe, "--out", "run"]);
    for part in ["knn", "subgroup", "skin-tone", "category", "flags", "cross-design", "equivariance equimod", "Next:"] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    for file in
        ["run.json", "recipe.toml", "recipe.resolved.toml", "metrics.jsonl", "train.log", "results.json", "report.html"]
    {
        assert!(scratch.path("run").join(file).is_file(), "{file}");
    }
    let info: Value = serde_json::from_slice(&fs::read(scratch.path("run/run.json")).unwrap()).unwrap();
    assert_eq!(info["status"], "finished");
    let rows: Value = serde_json::from_slice(&fs::read(scratch.path("run/results.json")).unwrap()).unwrap();
    let equivariance = |metric| value(&rows, "equivariance", "equimod", metric, "value");
    let absolute = equivariance("absolute equivariance");
    assert!(absolute > equivariance("absolute equivariance, shuffled parameters"), "{rows}");
    // The loss goes down: the mean of the last ten steps is below that of the first ten.
    let metrics = fs::read_to_string(scratch.path("run/metrics.jsonl")).unwrap();
    let losses: Vec<f64> =
        metrics.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 2 * (6168 / 32));
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[losses.len() - 10..]) < 0.9 * mean(&losses[..10]));
    let report = fs::read_to_string(scratch.path("run/report.html")).unwrap();
    for part in ["<svg", "data:image/png;base64,", "Predicted and actual views", "brightness", "CC-BY 4.0", "recall@1"]
    {
        assert!(report.contains(part), "{part}");
    }
    assert!(!report.contains("<script"));

    let inspected = scratch.done(&["inspect", "run"]);
    assert!(inspected.contains("every name and shape fits") && inspected.contains("resnet18"), "{inspected}");
    let model = text(&scratch.path("run/checkpoints").join(newest(&scratch)).join("model.safetensors"));
    let json: Value = serde_json::from_str(&scratch.done(&["inspect", &model, "--json", "--tensors"])).unwrap();
    assert_eq!(json["features"], 32);
    let knn: Value = serde_json::from_str(&scratch.done(&["eval", "knn", "run", "--json"])).unwrap();
    let from_run = value(&rows, "knn", "subgroup", "top-1 accuracy", "value");
    assert_eq!(value(&knn, "knn", "subgroup", "top-1 accuracy", "value"), from_run);
    assert!(scratch.path("run/eval/knn-emoji/results.json").is_file());
    let again: Value =
        serde_json::from_str(&scratch.done(&["eval", "knn", &model, "--json", "--task", "subgroup"])).unwrap();
    assert_eq!(value(&again, "knn", "subgroup", "top-1 accuracy", "value"), from_run);
    let logistic = ["eval", "logistic", "run", "--task", "skin-tone", "--penalties", "2", "--untrained", "--json"];
    let logistic: Value = serde_json::from_str(&scratch.done(&logistic)).unwrap();
    assert!(value(&logistic, "logistic", "skin-tone", "top-1 accuracy", "value") > 0.3);
    assert!(value(&logistic, "logistic", "skin-tone", "top-1 accuracy", "untrained") > 0.2);
    assert!(scratch.done(&["eval", "equivariance", "run", "--images", "64"]).contains("shuffled parameters"));
    damaged_checkpoints(&scratch);
}

/// The name of the newest checkpoint of `run`.
fn newest(scratch: &Scratch) -> String {
    fs::read_to_string(scratch.path("run/checkpoints/latest")).unwrap()
}

/// Continues the test above on its run: truncated, foreign and missing weights.
fn damaged_checkpoints(scratch: &Scratch) {
    let file = scratch.path("run/checkpoints").join(newest(scratch)).join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let cut = text(&scratch.write("cut.safetensors", &bytes[..bytes.len() / 2]));
    scratch.refused(&["inspect", &cut], 1, &["cut.safetensors", "truncated"]);
    scratch.refused(&["eval", "knn", &cut, "emoji"], 1, &["truncated"]);
    let foreign = text(&scratch.write("foreign.safetensors", one_tensor()));
    scratch.refused(&["inspect", &foreign], 1, &["not those of a ResNet"]);
    scratch.refused(&["eval", "knn", "nothing"], 1, &["nothing", "no such file or folder"]);
    // A flipped byte in the newest checkpoint: the previous one is used, with a message.
    let mut flipped = bytes;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&file, flipped).unwrap();
    let output = scratch.run(&["inspect", "run"]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && printed.contains("skipped") && printed.contains("model.safetensors"),
        "{printed}"
    );
}

/// A safetensors file with one tensor of another network.
fn one_tensor() -> Vec<u8> {
    let header = r#"{"encoder.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&1f32.to_le_bytes());
    bytes
}

const SHORT: [&str; 4] = ["--set", "data.batch=16", "--epochs", "3"];

/// Trains on a folder; returns the bytes of the last checkpoint's files and of the metrics.
fn train(scratch: &Scratch, recipe: &str, out: &str, more: &[&str]) -> Vec<Vec<u8>> {
    let mut arguments = vec!["pretrain", "--recipe", recipe, "--data", "images", "--out", out, "--no-eval"];
    arguments.extend(SHORT);
    arguments.extend(more);
    scratch.done(&arguments);
    state(scratch, out)
}

fn state(scratch: &Scratch, out: &str) -> Vec<Vec<u8>> {
    let folder = scratch.path(out).join("checkpoints");
    let newest = folder.join(fs::read_to_string(folder.join("latest")).unwrap());
    let files = ["model.safetensors", "optimizer.safetensors"].map(|f| fs::read(newest.join(f)).unwrap());
    files.into_iter().chain([fs::read(scratch.path(out).join("metrics.jsonl")).unwrap()]).collect()
}

#[test]
fn a_baseline_stands_beside_the_run() {
    let scratch = Scratch::new();
    let images = scratch.images("images", 64);
    // Wrong labels, without which every test image would be right.
    for number in 0..16 {
        let (from, to) = (format!("class1/{number}.png"), format!("class0/wrong{number}.png"));
        fs::copy(images.join(from), images.join(to)).unwrap();
    }
    scratch.write("tiny.toml", TINY.replace("epochs = 2", "epochs = 20"));
    let arguments = ["pretrain", "images", "--recipe", "tiny.toml"];
    let printed = scratch.done(&[&arguments[..], &["--baseline", "--out", "run"]].concat());
    for part in ["baseline", "leaves its predictor as it began", "eval compare run/baseline run", "--baseline --seed 1"]
    {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    let results = |run: &str| -> Value {
        serde_json::from_slice(&fs::read(scratch.path(run).join("results.json")).unwrap()).unwrap()
    };
    // The baseline is the run that the weight 0 alone gives.
    scratch.done(&[&arguments[..], &["--set", "equivariance.equimod.weight=0", "--out", "alone"]].concat());
    assert!(state(&scratch, "alone") == state(&scratch, "run/baseline"));
    for (protocol, task, metric) in
        [("knn", "class", "top-1 accuracy"), ("equivariance", "equimod", "absolute equivariance")]
    {
        let of = |results: &Value, key: &str| value(results, protocol, task, metric, key);
        assert_eq!(of(&results("run"), "baseline"), of(&results("alone"), "value"));
        assert!(of(&results("run"), "untrained").is_finite());
    }
    assert!(results("alone")["rows"][0]["baseline"].is_null());
    // The page of a baseline leads to the run, and its predictor was not trained.
    let page = fs::read_to_string(scratch.path("run/baseline/report.html")).unwrap();
    assert!(page.contains("This is the baseline of run") && page.contains("eval compare run/baseline run"));
    assert!(!page.contains("--resume --baseline"));
    let said = scratch.done(&["eval", "equivariance", "run/baseline"]);
    assert!(said.contains("did not train its predictor") && !said.contains("copying"), "{said}");
    assert!(said.contains("eval compare run/baseline run"), "{said}");
    let said = scratch.done(&["eval", "retrieval", "run", "--untrained"]);
    assert!(
        said.contains("# also of the baseline") && said.contains("eval retrieval run --untrained --baseline"),
        "{said}"
    );
    scratch.done(&["report", "run/baseline", "run", "--out", "two.html"]);
    let page = fs::read_to_string(scratch.path("two.html")).unwrap();
    assert!(page.contains("run − baseline") && page.contains("At a glance"));
    // Other measures than the judged ones are folded.
    let further = page.find("Further results").unwrap();
    assert!(page[..further].contains("knn images class top-1 accuracy") && page[..further].contains("is untrained"));
    assert!(
        page[further..].contains("relative equivariance") && !page[..further].contains("relative equivariance, ratio")
    );
    assert!(scratch.done(&["eval", "knn", "run/baseline"]).contains("knn"));
    // Other settings than those of the run need another evaluation of the baseline.
    let knn = |run: &str, more: &[&str]| -> Value {
        let arguments = [&["eval", "knn", run, "--k", "3", "--json"], more].concat();
        serde_json::from_str(&scratch.done(&arguments)).unwrap()
    };
    let both = knn("run", &["--baseline"]);
    let kept = fs::read(scratch.path("run/baseline/eval/knn-images-k-3/results.json")).unwrap();
    let of_baseline = knn("run/baseline", &[]);
    assert_eq!(both["rows"][0]["baseline"], of_baseline["rows"][0]["value"]);
    assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap()["rows"], of_baseline["rows"]);
    scratch.refused(&["eval", "knn", "alone", "--baseline"], 2, &["alone has no baseline", "--baseline` trains one"]);
    let parts = ["run/baseline is itself a baseline", "evaluate run"];
    scratch.refused(&["eval", "knn", "run/baseline", "--baseline"], 2, &parts);
    scratch.refused(
        &["eval", "knn", "run/checkpoints/latest", "images", "--baseline"],
        2,
        &["only runs have baselines"],
    );
    scratch.refused(&["eval", "knn", "images", "run"], 2, &["run is a run", "give the model first: run images"]);
    scratch.refused(&["embed", "images", "run", "--out", "x.npy"], 2, &["give the model first: run images"]);

    // The baseline of a run that continues another one begins from the same weights, also if it is trained later.
    let continued = [&arguments[..4], &["--from", "run", "--set", "schedule.epochs=1", "--out"]].concat();
    scratch.done(&[&continued[..], &["at-once", "--baseline"]].concat());
    let next = scratch.done(&[&continued[..], &["later"]].concat());
    assert!(next.contains("pretrain --out later --resume --baseline"), "{next}");
    assert!(next.contains("eval compare run later"), "{next}");
    assert!(scratch.done(&["pretrain", "--out", "later", "--resume", "--baseline"]).contains("--from run --baseline"));
    assert!(state(&scratch, "later/baseline") == state(&scratch, "at-once/baseline"));

    // Initial weights are no matter of the seed.
    scratch.done(&[&arguments[..], &["--set", "schedule.epochs=1", "--out", "fresh"]].concat());
    let said = scratch.done(&["report", "fresh", "later", "--out", "from.html"]);
    assert!(!said.contains("differ in their seeds"), "{said}");
    assert!(fs::read_to_string(scratch.path("from.html")).unwrap().contains(">from<"));
    let output = scratch.run(&["eval", "compare", "fresh", "later", "--by", "knn"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the two runs differ in the weights they started from"), "{said}");

    // A run of more epochs is compared, and not trained again.
    let said = scratch.done(&["eval", "knn", "fresh"]);
    assert!(said.contains("run was trained for longer") && said.contains("eval compare fresh run"), "{said}");
    let said = scratch.done(&["eval", "compare", "fresh", "run", "--by", "knn"]);
    assert!(!said.contains("fresh/recipe.resolved.toml"), "{said}");

    comparisons_lead_on(&scratch);

    // A signal during the baseline stops it after a checkpoint, and it goes on exactly.
    let stopped = [&arguments[..], &["--baseline", "--out", "stopped"]].concat();
    assert_eq!(terminate(scratch.start_until(&stopped, "stopped/baseline/train.log")), Some(75));
    let said = fs::read_to_string(scratch.path("stderr.txt")).unwrap();
    assert!(said.contains("pretrain --out stopped --resume --baseline"), "{said}");
    let parts = ["stopped/baseline is not finished", "pretrain --out stopped --resume --baseline"];
    scratch.refused(&["eval", "knn", "stopped", "--baseline"], 2, &parts);
    for command in [&["eval", "knn", "stopped"][..], &["eval", "compare", "stopped/baseline", "stopped", "--by", "knn"]]
    {
        let said = scratch.done(command);
        let next = said.split("# its baseline was not finished").nth(1).expect("no word of the baseline");
        assert!(next.contains("pretrain --resume --out stopped --baseline"), "{said}");
    }
    scratch.done(&["pretrain", "--out", "stopped", "--resume"]);
    assert_eq!(results("stopped")["rows"], results("run")["rows"]);
    // Nothing is measured anew, and nothing is lost.
    let finished = results("stopped");
    let again = scratch.done(&["pretrain", "--out", "stopped", "--resume", "--no-eval", "--set", "log.csv=true"]);
    assert_eq!(results("stopped"), finished);
    for part in ["also train on the same batches", "evaluation 0"] {
        assert!(!again.contains(part), "{again}");
    }
    // A resumed run keeps its settings; the message names a new run with the same images and network.
    let parts = ["schedule.epochs", "--recipe stopped/recipe.resolved.toml --from stopped/checkpoints/step-"];
    scratch.refused(&["pretrain", "--out", "stopped", "--resume", "--epochs", "9"], 2, &parts);
    // Also where the settings of a new run would contradict each other.
    let parts = ["a resumed run keeps its settings", "schedule.epochs", "--recipe stopped/recipe.resolved.toml --from"];
    let warmup = ["--set", "schedule.warmup_epochs=90.0"];
    scratch.refused(&[&["pretrain", "--out", "stopped", "--resume", "--epochs", "9"], &warmup[..]].concat(), 2, &parts);
    // A run that was begun with its baseline trains it also when it is resumed without the option.
    scratch.done(&[&arguments[..], &["--no-eval", "--out", "begun"]].concat());
    change_info(&scratch, "begun", |info| {
        info["status"] = "interrupted".into();
        info["command"].as_array_mut().unwrap().push("--baseline".into());
    });
    scratch.done(&["pretrain", "--out", "begun", "--resume", "--no-baseline"]);
    let left_out = "--no-eval leaves out the baseline with which the run was begun";
    assert!(!scratch.path("begun/baseline").exists() && !scratch.said().contains(left_out));
    scratch.done(&["pretrain", "--out", "begun", "--resume", "--no-eval"]);
    assert!(!scratch.path("begun/baseline").exists() && scratch.said().contains(left_out));
    scratch.done(&["pretrain", "--out", "begun", "--resume"]);
    assert_eq!(results("begun")["rows"], results("run")["rows"]);

    let parts = ["--baseline is not possible", "--no-eval"];
    scratch.refused(&[&arguments[..], &["--baseline", "--no-eval", "--out", "none"]].concat(), 2, &parts);
    let plain = ["--baseline", "--set", "equivariance.equimod=false", "--out", "none"];
    let parts = ["--baseline is not possible", "no module with a loss of its own"];
    scratch.refused(&[&arguments[..], &plain].concat(), 2, &parts);
    assert!(!scratch.path("none").exists());
}

/// Changes `run.json` of a run.
fn change_info(scratch: &Scratch, run: &str, change: impl Fn(&mut Value)) {
    let file = scratch.path(run).join("run.json");
    let mut info: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut info);
    fs::write(file, info.to_string()).unwrap();
}

#[test]
fn a_run_that_was_not_finished_is_named_and_goes_on_with_its_options() {
    let scratch = Scratch::new();
    let (_, others) = (scratch.images("images", 64), scratch.images("others", 40));
    scratch.write("tiny.toml", TINY);
    let probe = format!("probe.data={}", text(&others));
    let arguments = ["pretrain", "images", "--recipe", "tiny.toml", "--set", "probe.every_epochs=1", "--set", &probe];
    scratch.done(&[&arguments[..], &["--out", "run"]].concat());
    change_info(&scratch, "run", |info| {
        info["status"] = "interrupted".into();
        info["command"].as_array_mut().unwrap().push("--baseline".into());
    });
    let said = scratch.done(&["report", "run", "--out", "run.html"]);
    for part in ["The run was not finished (interrupted)", "pretrain --resume --out run --baseline"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // The page has the chart of equivariance and predicted views.
    let page = fs::read_to_string(scratch.path("run.html")).unwrap();
    assert!(page.contains("<h2>Equivariance</h2>") && page.contains("<h2>Predicted and actual views</h2>"));
    let output = scratch.run(&["eval", "knn", "run"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("run is not finished (interrupted)"), "{said}");
    // The checkpoint that the probe chose has a name of its own.
    scratch.done(&["eval", "knn", "run/checkpoints/best"]);
    let list = || -> Value { serde_json::from_str(&scratch.done(&["runs", ".", "--json"])).unwrap() };
    assert_eq!(list()["runs"][0]["probe"]["name"], format!("knn on {}", text(&others)));
    // The probe's images are named in the command of the card, and nothing of their path.
    scratch.done(&["export", "run", "--out", "out"]);
    let card = fs::read_to_string(scratch.path("out/README.md")).unwrap();
    assert!(card.contains("--data IMAGES --set probe.data=LABELED_IMAGES"), "{card}");
    // Results of a suite are for the weights that were evaluated.
    scratch.write("suite.toml", "about = 'one'\n[[task]]\nname = 'class'\ndata = 'images'\nprotocol = 'knn'\n");
    scratch.done(&["eval", "transfer", "run", "--untrained", "--suite", "suite.toml", "--out", "suite"]);
    scratch.done(&[&arguments[..], &["--seed", "1", "--no-eval", "--out", "other"]].concat());
    let output = scratch.run(&["export", "other", "--out", "other-out", "--results", "suite"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("suite/results.json, which is for other weights"), "{said}");
    // Of several models side by side, each export has its own rows.
    let several = ["eval", "transfer", "run", "other", "--untrained", "--suite", "suite.toml", "--out", "suite"];
    scratch.done(&several);
    for (model, also) in [("run", 2), ("other", 1)] {
        let out = format!("{model}-of-two");
        scratch.done(&["export", model, "--out", &out, "--results", "suite"]);
        let found: Value =
            serde_json::from_slice(&fs::read(scratch.path(&out).join("eval/suite/results.json")).unwrap()).unwrap();
        let names: Vec<&str> =
            found["models"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
        assert!(names.len() == also && names[0] == model, "{names:?}");
        let card = fs::read_to_string(scratch.path(&out).join("README.md")).unwrap();
        assert!(card.contains("| knn | class |") && card.contains("eval/suite/results.md"), "{card}");
    }
    // A run that was killed an hour after its start took an hour, also once it is resumed.
    change_info(&scratch, "run", |info| {
        info["status"] = "running".into();
        info["seconds"] = 0.0.into();
    });
    let metrics = fs::File::options().append(true).open(scratch.path("run/metrics.jsonl")).unwrap();
    metrics.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    let hour = |seconds: &Value| (3595.0..3605.0).contains(&seconds.as_f64().unwrap());
    let runs = list();
    let killed = runs["runs"].as_array().unwrap().iter().find(|run| run["run"] == "run").unwrap();
    assert!(killed["status"] == "killed" && hour(&killed["seconds"]), "{killed}");
    scratch.done(&["pretrain", "--resume", "--out", "run", "--no-eval"]);
    let info: Value = serde_json::from_slice(&fs::read(scratch.path("run/run.json")).unwrap()).unwrap();
    assert!(hour(&info["seconds"]), "{info}");
}

/// Continues the test of baselines: each comparison is followed by one that says more.
fn comparisons_lead_on(scratch: &Scratch) {
    let leads = |arguments: &[&str], parts: &[&str]| {
        let printed = scratch.done(arguments);
        parts.iter().for_each(|part| assert!(printed.contains(part), "{part} in {printed}"));
    };
    let by_knn = |models: &[&'static str]| [&["eval", "compare", "--by", "knn"], models].concat();
    let parts = ["failed in training", "pretrain --recipe run/recipe.resolved.toml --baseline --seed 1"];
    leads(&by_knn(&["run/baseline", "run"]), &parts);
    let both = ["--recipe run/recipe.resolved.toml --seed 1", "--recipe alone/recipe.resolved.toml --seed 1"];
    leads(&by_knn(&["run", "alone"]), &both);
    let pairs = by_knn(&["run/baseline", "run", "run/baseline", "at-once"]);
    leads(&pairs, &["over 2 pairs (Student's t)", "--baseline --seed 1"]);
    assert!(scratch.said().contains("run/baseline and 1 more: run/baseline, run/baseline (2)"), "{}", scratch.said());
    leads(
        &[&pairs[..], &["run/baseline", "alone"]].concat(),
        &["Next:\n  # curves", "report run/baseline run run/baseline at-once"],
    );
    let parts = [
        "eval compare",
        "with the highest mean",
        "alone failed in training: embeddings collapsed",
        "above those of all others",
    ];
    leads(&["report", "run", "alone", "at-once", "--out", "three.html"], &parts);
    // Another seed of the same recipe joins the comparison.
    // A log is none of its settings.
    let again = ["pretrain", "--recipe", "run/recipe.resolved.toml", "--baseline", "--seed", "1", "--out", "second"];
    let again = [&again[..], &["--set", "log.csv=true"]].concat();
    let over_two = "eval compare second/baseline second run/baseline run";
    leads(&again, &[over_two, "tested over 2 seeds", "--seed 2"]);
    let of_seeds = scratch.done(&["report", "run", "second", "--out", "x.html"]);
    for part in ["The runs differ in their seeds alone", "# against their baselines, tested over 2 seeds"] {
        assert!(of_seeds.contains(part), "{part} in {of_seeds}");
    }
    // Two runs of one recipe are no pair: their baselines are. Of two recipes, only the seed that one lacks is asked for.
    leads(&by_knn(&["run", "second"]), &["eval compare run/baseline run second/baseline second"]);
    let next = scratch.done(&by_knn(&["run", "alone"]));
    assert!(
        next.contains("--recipe alone/recipe.resolved.toml --seed 1")
            && !next.contains("--recipe run/recipe.resolved.toml --seed"),
        "{next}"
    );
    // Of two other runs, the settings in which they differ are named.
    let output = scratch.run(&by_knn(&["run", "alone"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the two runs differ in equivariance.equimod"), "{said}");
    // With the options of the first.
    leads(&by_knn(&["run/baseline", "run"]), &["eval compare --by knn run/baseline run second/baseline second"]);
    leads(&by_knn(&["run/baseline", "run", "second/baseline", "second"]), &["--baseline --seed 2"]);
    // On other images, the comparison names some; without labels, there is none.
    scratch.images("others", 40);
    let image = fs::read(scratch.path("images/class0/0.png")).unwrap();
    (0..40).for_each(|number| drop(scratch.write(&format!("flat/{number}.png"), &image)));
    for images in ["others", "flat"] {
        let set = ["--set", "schedule.epochs=1", "--out"];
        scratch.done(&[&["pretrain", images, "--recipe", "tiny.toml"], &set[..], &[&format!("on-{images}")]].concat());
    }
    leads(&["report", "run", "on-others", "--out", "x.html"], &["eval compare run on-others --data images"]);
    // A folder whose images are others since names no images for both.
    scratch.images("others", 41);
    scratch.done(&["pretrain", "others", "--recipe", "tiny.toml", "--no-eval", "--out", "on-more"]);
    scratch.refused(&by_knn(&["on-others", "on-more"]), 2, &["different images that are both called others", "--data"]);
    let parts = ["on-others was trained and evaluated on other images than run, alone (images)", "report run alone\n"];
    leads(&["report", "run", "on-others", "alone", "--out", "x.html"], &parts);
    let unlabeled = scratch.done(&["report", "run", "on-flat", "--out", "y.html"]);
    let both = "# both on the images of run; --data takes others";
    assert!(unlabeled.contains("The runs share no accuracy") && unlabeled.contains(both), "{unlabeled}");
    let flat = ["pretrain", "flat", "--recipe", "tiny.toml", "--set", "schedule.epochs=1"];
    let next = scratch.done(&[&flat[..], &["--seed", "1", "--baseline", "--out", "flat-too"]].concat());
    assert!(!next.contains("eval compare"), "{next}");
    assert!(next.contains("eval params flat-too --untrained --baseline"), "{next}");
    let unlabeled = scratch.done(&["report", "on-flat", "flat-too", "--out", "y.html"]);
    let parts = ["share no accuracy or recall. Absolute equivariance of equimod is", "Both runs are short"];
    parts.iter().for_each(|part| assert!(unlabeled.replace('\n', " ").contains(part), "{part} in {unlabeled}"));
    assert!(!scratch.done(&["eval", "health", "flat-too", "--untrained"]).contains("eval compare"));
    // Where a shorter one is there, the report of both leads to longer training, and to images with labels after these.
    let longer = ["pretrain", "--recipe", "on-flat/recipe.resolved.toml", "--epochs", "2", "--out", "flat-longer"];
    assert!(scratch.done(&longer).contains("report on-flat flat-longer"));
    let report = ["report", "on-flat", "flat-longer", "--out", "y.html"];
    leads(&report, &["pretrain --recipe flat-longer/recipe.resolved.toml --epochs"]);
    leads(&["report", "flat-too/baseline", "flat-too", "--out", "y.html"], &["The runs have no accuracy or recall."]);
    scratch.done(&["eval", "knn", "flat-longer", "--data", "images", "--untrained"]);
    leads(&report, &["eval compare on-flat flat-longer --data images"]);
    let by_knn_on_images = |models: &[&'static str]| [&by_knn(models)[..], &["--data", "images"]].concat();
    leads(&by_knn_on_images(&["on-flat", "flat-longer"]), &["--epochs"]);
    // Of two seeds of one recipe, the first lacks its baseline.
    leads(&by_knn_on_images(&["on-flat", "flat-too"]), &["pretrain --out on-flat --resume --baseline\n"]);
    // A run that was not evaluated is named.
    scratch.done(&["pretrain", "--recipe", "run/recipe.resolved.toml", "--seed", "5", "--no-eval", "--out", "empty"]);
    leads(
        &["report", "run", "empty", "alone", "--out", "x.html"],
        &["empty was not evaluated", "eval logistic empty", "Of 2 shared accuracies"],
    );
    leads(
        &["report", "run", "run/baseline", "alone", "--out", "x.html"],
        &["eval compare run/baseline run second/baseline"],
    );
    leads(&["eval", "knn", "run"], &["eval compare run/baseline run second/baseline second --by knn", "over 2 seeds"]);
    leads(&["eval", "health", "run"], &["# also of the baseline", "eval health run --baseline"]);
    scratch.write("suite.toml", "about = 'one'\n[[task]]\nname = 'color'\ndata = 'images'\nprotocol = 'knn'\n");
    let transfer = |models: &[&'static str]| [&["eval", "transfer", "--suite", "suite.toml"], models].concat();
    leads(&transfer(&["run"]), &["--untrained", "Per cent: top-1 accuracy (knn)."]);
    leads(&transfer(&["run", "--untrained"]), &["run --untrained run/baseline", "also the same without"]);
    let over_two = "eval compare run/baseline run second/baseline second --data images";
    leads(&transfer(&["run", "run/baseline"]), &[over_two, "on paired images of the first task and 2 seeds"]);
    // With the test images of the task.
    let suite = "about = 'one'\n[[task]]\nname = 'color'\ndata = 'images'\ntest = 'others'\nprotocol = 'knn'\n";
    scratch.write("suite.toml", suite);
    leads(&transfer(&["run", "run/baseline"]), &[over_two, "--data images --test others"]);
}

/// Runs `pretrain` in a real terminal of this size, and returns its screens, the last one with the whole history.
fn screens(columns: usize, rows: usize, name: &str) -> Option<Vec<String>> {
    let tmux = |arguments: &[&str]| Command::new("tmux").args(["-L", name]).args(arguments).output();
    tmux(&["-V"]).ok()?;
    let scratch = Scratch::new();
    scratch.images("images", 64);
    scratch.write("tiny.toml", TINY.replace("epochs = 2", "epochs = 60"));
    let run = format!(
        "cd {} && {} pretrain images --recipe tiny.toml --out run; echo ended; sleep 60",
        scratch.folder().display(),
        env!("CARGO_BIN_EXE_equimod")
    );
    let size = ["-x", &columns.to_string(), "-y", &rows.to_string()];
    tmux(&[&["new-session", "-d"][..], &size, &["sh", "-c", &run]].concat()).unwrap();
    let capture = |history: &[&str]| {
        let output = tmux(&[&["capture-pane", "-p"][..], history].concat()).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (mut screens, begin) = (Vec::new(), std::time::Instant::now());
    while !screens.last().is_some_and(|screen: &String| screen.lines().any(|line| line == "ended")) {
        assert!(begin.elapsed().as_secs() < 300, "the run does not end: {:?}", screens.last());
        std::thread::sleep(std::time::Duration::from_millis(100));
        screens.push(capture(&[]));
    }
    screens.push(capture(&["-S", "-"]));
    let _ = tmux(&["kill-server"]);
    Some(screens)
}

#[test]
fn progress_and_results_fit_the_terminal() {
    for (columns, rows) in [(80, 24), (140, 40)] {
        let Some(screens) = screens(columns, rows, &format!("equimod-{}-{columns}", std::process::id())) else {
            eprintln!("skipped: tmux is not installed");
            return;
        };
        let lines = |screen: &String, part: &str| screen.lines().filter(|line| line.contains(part)).count();
        let training: Vec<&String> = screens.iter().filter(|screen| lines(screen, " left  ") > 0).collect();
        assert!(!training.is_empty());
        // A line that wraps cannot be drawn over, and would stay.
        for screen in &training {
            assert_eq!((lines(screen, " left  "), lines(screen, "loss ")), (1, 1), "{screen}");
        }
        let during = training.iter().find(|screen| lines(screen, "ended") == 0).unwrap();
        let shown = |part: &str| lines(during, part) == 1;
        assert!(shown(" left  ") && shown("equimod ") && shown("equivariance "), "{during}");
        assert_eq!(shown("wait "), columns > 80, "{during}");
        let all = &screens[screens.len() - 1];
        let table: Vec<&str> = all.lines().skip_while(|line| !line.starts_with("measure ")).take(6).collect();
        for (line, start) in table.iter().zip(["measure ", "knn class", "quick logistic class", "equivariance equimod"])
        {
            assert!(line.starts_with(start), "{all}");
        }
        assert_eq!(table[4].split_whitespace().nth(1), Some("its"), "{all}");
    }
}

#[test]
fn threads_do_not_matter_and_resume_is_exact() {
    let scratch = Scratch::new();
    scratch.images("images", 40);
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let commit = commit(&scratch);
    let reference = train(&scratch, &recipe, "one", &["--threads", "1"]);
    assert!(reference == train(&scratch, &recipe, "two", &["--threads", "2"]), "2 threads give another result than 1");
    assert!(reference != train(&scratch, &recipe, "other", &["--seed", "1"]), "the seed does not matter");
    // As after a crash: the newest checkpoint is missing, and the metrics have later lines.
    let checkpoints = scratch.path("two/checkpoints");
    fs::remove_dir_all(checkpoints.join(fs::read_to_string(checkpoints.join("latest")).unwrap())).unwrap();
    scratch.done(&["pretrain", "--out", "two", "--resume", "--no-eval"]);
    assert!(reference == state(&scratch, "two"), "a resumed run ends elsewhere");
    let info: Value = serde_json::from_slice(&fs::read(scratch.path("two/run.json")).unwrap()).unwrap();
    assert_eq!((info["status"].as_str(), info["resumed_at"].to_string()), (Some("finished"), "[10]".into()));
    assert!(info["started"].as_str().unwrap() <= info["ended"].as_str().unwrap(), "{info}");
    let want = commit.map(|commit| json!({ "commit": commit, "branch": "work", "dirty": true }));
    assert_eq!(info.get("git"), want.as_ref());
    runs_are_listed(&scratch);
    let resolved = scratch.path("one/recipe.resolved.toml");
    let changed = fs::read_to_string(&resolved).unwrap().replace("momentum = 0.9", "momentum = 0.8");
    fs::write(&resolved, changed).unwrap();
    scratch.refused(&["pretrain", "--out", "one", "--resume"], 2, &["optimizer.momentum"]);
}

/// Makes the folder a git repository with a changed file, and returns its commit; `None` without git.
fn commit(scratch: &Scratch) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(scratch.folder()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    git(&["init"])?;
    git(&["checkout", "-b", "work"])?;
    git(&["add", "tiny.toml"])?;
    git(&["-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-m", "text"])?;
    scratch.write("tiny.toml", format!("{TINY}\n"));
    git(&["rev-parse", "HEAD"])
}

/// Continues the test above on its runs `one`, `two` and `other`, with one that was killed and one that is damaged.
fn runs_are_listed(scratch: &Scratch) {
    scratch.write(
        "killed/run.json",
        fs::read_to_string(scratch.path("one/run.json")).unwrap().replace("finished", "running"),
    );
    fs::copy(scratch.path("one/recipe.resolved.toml"), scratch.path("killed/recipe.resolved.toml")).unwrap();
    scratch.write("killed/.lock", "");
    scratch.write("damaged/run.json", "{");
    let listed = scratch.done(&["runs", ".", "--sort", "seed", "--descending"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80 || line.contains("damaged")), "{listed}");
    let first: Vec<&str> = lines[..5].iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(first, ["run", "other", "killed", "one", "two"], "{listed}");
    assert!(lines[0].ends_with("seed") && lines[1].contains("3/3"), "{listed}");
    assert!(listed.contains("Cannot be read:\n  damaged: ") && listed.contains("run.json"), "{listed}");
    let json: Value = serde_json::from_str(&scratch.done(&["runs", ".", "--json", "--sort", "run"])).unwrap();
    let of = |key: &str| json["runs"].as_array().unwrap().iter().map(|run| run[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("status"), ["killed", "finished", "finished", "finished"]);
    assert_eq!(of("step"), [0, 15, 15, 15]);
    assert_eq!(json["runs"][2]["settings"], json!({ "seed": 1 }));
    // A run without the module has none of its settings, and differs in the module alone. Logs are no difference.
    let resolved = fs::read_to_string(scratch.path("one/recipe.resolved.toml")).unwrap();
    let mut plain: toml::Table = resolved.parse().unwrap();
    plain.insert("equivariance".into(), toml::Table::new().into());
    plain.insert("log".into(), toml::toml! { csv = true }.into());
    scratch.write("few/a/run.json", fs::read_to_string(scratch.path("one/run.json")).unwrap());
    scratch.write("few/a/recipe.resolved.toml", resolved);
    scratch.write("few/b/run.json", fs::read_to_string(scratch.path("one/run.json")).unwrap());
    scratch.write("few/b/recipe.resolved.toml", plain.to_string());
    let few: Value = serde_json::from_str(&scratch.done(&["runs", "few", "--json", "--sort", "equivariance"])).unwrap();
    let settings: Vec<&Value> = few["runs"].as_array().unwrap().iter().map(|run| &run["settings"]).collect();
    assert_eq!(settings, [&json!({ "equivariance": "equimod" }), &json!({ "equivariance": "none" })]);
    assert_eq!(json["unreadable"][0]["run"], "damaged");
    scratch.refused(&["runs", "nowhere"], 2, &["nowhere is no folder"]);
    scratch.refused(&["runs", ".", "--sort", "colour"], 2, &["no column \"colour\"", "seed"]);
}

#[test]
fn every_objective_trains_with_a_module_and_alone_whatever_the_threads() {
    let scratch = Scratch::new();
    scratch.images("images", 40);
    let with_module = text(&scratch.write("with.toml", TINY));
    // No module in the base, and no original images in the batch.
    let (sizes, rest) = TINY.split_once("[equivariance.equimod]").unwrap();
    let (_, rest) = rest.split_once("[augmentation]").unwrap();
    let alone = format!("{}[augmentation]{rest}", sizes.replace("\"quick\"", "\"simclr-cifar10\""));
    let alone = text(&scratch.write("alone.toml", &alone));
    let objectives = [
        ("simclr", "invariance_loss", &[][..]),
        ("byol", "target_momentum", &["objective.projection_head=32-16 bias", "objective.predictor=8-16 bias"]),
        ("moco-v3", "target_momentum", &["objective.projection_head=32-16 bn-", "objective.predictor=8-16"]),
        ("barlow-twins", "off_diagonal", &["objective.projection_head=32-16"]),
        ("vicreg", "covariance", &["objective.projection_head=32-16"]),
        ("simsiam", "invariance_loss", &["objective.projection_head=32-16 bn-", "objective.predictor=8-16 bias"]),
    ];
    for (kind, metric, settings) in objectives {
        for (recipe, name) in [(&with_module, "with"), (&alone, "alone")] {
            let kind = format!("objective.kind={kind}");
            let set = [kind.as_str()].into_iter().chain(settings.iter().copied()).flat_map(|s| ["--set", s]);
            let of = |threads| set.clone().chain(["--threads", threads]).collect::<Vec<_>>();
            let out = |threads: &str| format!("{kind}-{name}-{threads}");
            let one = train(&scratch, recipe, &out("1"), &of("1"));
            assert!(one == train(&scratch, recipe, &out("2"), &of("2")), "{kind} {name}");
            let metrics = String::from_utf8(one[2].clone()).unwrap();
            assert!(metrics.contains(metric), "{kind}: {metrics}");
            assert_eq!(metrics.contains("equimod"), name == "with");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_signal_stops_after_a_checkpoint_and_the_run_goes_on_exactly() {
    let scratch = Scratch::new();
    scratch.images("images", 40);
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let long = ["--epochs", "40"];
    let reference = train(&scratch, &recipe, "whole", &long[..0]);
    assert!(!reference.is_empty());
    let mut arguments =
        vec!["pretrain", "--recipe", &recipe, "--data", "images", "--no-eval", "--set", "data.batch=16"];
    arguments.extend(long);
    scratch.done(&[&arguments[..], &["--out", "whole-40"]].concat());
    let child = scratch.start_until(&[&arguments[..], &["--out", "stopped"]].concat(), "stopped/train.log");
    std::thread::sleep(std::time::Duration::from_millis(150));
    assert_eq!(terminate(child), Some(75));
    scratch.done(&["pretrain", "--out", "stopped", "--resume", "--no-eval"]);
    assert!(state(&scratch, "whole-40") == state(&scratch, "stopped"));
}

#[test]
fn bad_data_is_reported_in_one_sentence_and_nothing_stays_behind() {
    let scratch = Scratch::new();
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let pretrain = |data: &str, parts: &[&str]| {
        let arguments = ["pretrain", "--recipe", &recipe, "--data", data, "--out", "run"];
        scratch.refused(&arguments, 3, parts);
    };
    pretrain("missing", &["missing", "no such file or folder"]);
    fs::create_dir(scratch.path("empty")).unwrap();
    pretrain("empty", &["empty", "holds no images"]);
    scratch.write("rows.parquet", b"PAR1 not really PAR1");
    pretrain("rows.parquet", &["rows.parquet", "not a parquet file"]);
    scratch.images("few", 3);
    let few = ["pretrain", "--recipe", &recipe, "--data", "few", "--out", "run"];
    scratch.refused(&few, 2, &["data.batch is 32, more than the 6 images"]);
    assert!(!scratch.path("run").exists());
    scratch.images("broken", 20);
    scratch.write("broken/class1/cut.png", b"\x89PNG\r\n\x1a\n cut");
    pretrain("broken", &["1 of its 41 images", "cut.png", "more than 0.1 %", "data.skip_share"]);
}

#[test]
fn bad_recipes_are_reported_all_at_once() {
    let scratch = Scratch::new();
    scratch.refused(&["pretrain", "--recipe", "quik"], 2, &["did you mean \"quick\""]);
    let settings = ["--set", "schedule.epoch=3", "--set", "backbone.widht=8"];
    let mut arguments = vec!["pretrain"];
    arguments.extend(settings);
    scratch.refused(&arguments, 2, &["2 problems", "schedule.epochs?", "backbone.width?"]);
    let contradiction = ["pretrain", "--set", "equivariance.equimod.predictor=32 bn-", "--set", "data.batch=1"];
    scratch.refused(&contradiction, 2, &["predictor", "data.batch"]);
    scratch.refused(&["pretrain", "--device", "tpu"], 2, &["tpu", "cuda:N"]);
    scratch.refused(&["pretrain", "--set", "log.mlflow=mine"], 2, &["log.mlflow", "MLFLOW_TRACKING_URI is not"]);
    scratch.refused(&["pretrain", "--device", "cuda:0"], 2, &["lacks cuda"]);
    scratch.refused(&["pretrain", "--resume", "--out", "nowhere"], 1, &["no run to go on with"]);
    scratch.refused(&["pretrain", "--resume", "one"], 2, &["equimod pretrain --out one --resume"]);
    fs::create_dir(scratch.path("images")).unwrap();
    scratch.refused(&["pretrain", "--resume", "images"], 2, &["equimod pretrain --out RUN --resume"]);
    scratch.write("full/file", "something");
    scratch.refused(&["pretrain", "--out", "full"], 2, &["full is not empty", "--out", "--resume"]);
    assert_eq!(fs::read_dir(scratch.path("full")).unwrap().count(), 1);
    assert!(!scratch.path("out").exists());
    scratch.refused(&["pretrain", "quick"], 2, &["quick is a recipe", "--recipe quick"]);
    scratch.refused(&["pretrain", "byol"], 2, &["byol is an objective", "--set objective.kind=byol"]);
    scratch.refused(&["find-lr", "resnet50"], 2, &["a backbone", "--set backbone.architecture=resnet50"]);
    scratch.refused(&["pretrian"], 2, &["pretrain"]);
}

/// A limit on the size of files simulates a full disk: both fail while a checkpoint is written.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_and_leaves_no_half_checkpoint() {
    let scratch = Scratch::new();
    scratch.images("images", 20);
    scratch.write("tiny.toml", TINY);
    let binary = env!("CARGO_BIN_EXE_equimod");
    // 40 blocks of 1024 bytes: recipes and metrics fit, weights do not.
    let script = format!(
        "trap '' XFSZ; ulimit -f 40; exec {binary} pretrain --recipe tiny.toml --data images --out run \
         --set data.batch=16 --no-eval"
    );
    let output = Command::new("bash").args(["-c", &script]).current_dir(scratch.folder()).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("cannot write") && printed.contains("checkpoints"), "{printed}");
    assert_eq!(fs::read_dir(scratch.path("run/checkpoints")).unwrap().count(), 0);
    let info: Value = serde_json::from_slice(&fs::read(scratch.path("run/run.json")).unwrap()).unwrap();
    assert_eq!(info["status"], "failed");
}

#[test]
fn lists_completions_and_dry_runs_answer() {
    let scratch = Scratch::new();
    let all = scratch.done(&["list"]);
    for part in ["quick", "simclr-equimod-cifar10", "equimod", "resnet152", "color-jitter", "CC-BY 4.0", "2211.01244"] {
        assert!(all.contains(part), "{part}");
    }
    let json: Value = serde_json::from_str(&scratch.done(&["list", "recipes", "--json"])).unwrap();
    let recipes = json["recipes"].as_array().unwrap();
    assert_eq!(recipes.len(), 18);
    every_built_in_recipe_is_whole(&scratch, recipes);
    the_schema_is_alone_and_not_among_the_lists(&scratch, &all, recipes);
    every_built_in_recipe_opens_with_its_purpose_and_cost(&scratch, recipes);
    for (recipe, kind) in [("barlow-twins", "scale = 0.024"), ("vicreg", "covariance = 1.0"), ("simsiam", "128-512")] {
        let dry = scratch.done(&["pretrain", "--recipe", &format!("quick-{recipe}"), "--dry-run"]);
        assert!(dry.contains(&format!("kind = \"{recipe}\"")) && dry.contains(kind), "{dry}");
    }
    let predictor = "equivariance.equimod.predictor";
    for form in ["512-64", "residual 512-64", "hypernetwork", "hypernetwork 32"] {
        let dry = scratch.done(&["pretrain", "--set", &format!("{predictor}={form}"), "--dry-run"]);
        assert!(dry.contains(&format!("predictor = \"{form}\"")), "{dry}");
    }
    let wide = format!("{predictor}=residual 32");
    scratch.refused(&["pretrain", "--set", &wide, "--dry-run"], 2, &["residual 32", "ends in 64"]);
    let narrow = ["pretrain", "--recipe", "quick-simsiam", "--set", "objective.predictor=128-64 bias", "--dry-run"];
    scratch.refused(&narrow, 2, &["predictor ends with 64", "512"]);
    scratch.refused(&["pretrain", "--set", "objective.kind=vicrag", "--dry-run"], 2, &["vicreg"]);
    assert!(scratch.done(&["completions", "bash"]).contains("equimod"));
    let dry = scratch.done(&["pretrain", "--dry-run", "--epochs", "7"]);
    assert!(dry.contains("epochs = 7") && dry.contains("width = 16"), "{dry}");
    // Images for a probe that is off are named.
    let idle = "probe.data is not used, because probe.every_epochs is 0";
    assert!(!scratch.said().contains(idle));
    scratch.done(&["pretrain", "--dry-run", "--set", "probe.data=emoji"]);
    assert!(scratch.said().contains(idle), "{}", scratch.said());
    assert!(scratch.done(&["--version"]).starts_with("equimod "));
}

/// The text that `list recipes NAME` prints opens with a comment on purpose and cost, and is a recipe file.
fn every_built_in_recipe_opens_with_its_purpose_and_cost(scratch: &Scratch, recipes: &[Value]) {
    for recipe in recipes {
        let name = recipe["name"].as_str().unwrap();
        let printed = scratch.done(&["list", "recipes", name]);
        let opening: Vec<&str> = printed.lines().take_while(|line| line.starts_with('#')).collect();
        let command = format!("# Command:   equimod pretrain --recipe {name}");
        for part in [command.as_str(), "# Hardware:", "# Time:", "# Accuracy:"] {
            assert!(opening.iter().any(|line| line.starts_with(part)), "{part} in {printed}");
        }
        if name == "quick-byol" {
            let file = text(&scratch.write("printed.toml", &printed));
            let dry = |recipe: &str| scratch.done(&["pretrain", "--recipe", recipe, "--dry-run"]);
            let settings = |dry: String| dry.lines().filter(|line| line.contains(" = ")).map(str::to_owned).collect();
            let (from_file, built_in): (Vec<String>, Vec<String>) = (settings(dry(&file)), settings(dry(name)));
            assert!(from_file == built_in && from_file.len() > 50, "{name}");
        }
    }
    scratch.refused(&["list", "recipes", "quik"], 2, &["did you mean \"quick\"?"]);
    scratch.refused(&["list", "modules", "equimod"], 2, &["only recipes and studies are printed by name"]);
}

/// The recipe schema and the results schema are printed without other text.
fn the_schema_is_alone_and_not_among_the_lists(scratch: &Scratch, all: &str, recipes: &[Value]) {
    let printed = scratch.done(&["list", "recipe-schema"]);
    assert_eq!(printed, scratch.done(&["list", "recipe-schema", "--json"]));
    let schema: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let names: Vec<_> = schema["properties"]["base"]["enum"].as_array().unwrap().iter().collect();
    assert_eq!(names, recipes.iter().map(|recipe| &recipe["name"]).collect::<Vec<_>>());
    let predictor = &schema["properties"]["equivariance"]["properties"]["equimod"]["properties"]["predictor"];
    assert_eq!(predictor["default"], "128 bn-");
    assert!(!all.contains("$schema") && all.contains("`equimod list recipe-schema`"), "{all}");
}

/// Each recipe resolves, reports its parts, and matches the published sizes: the trained parameters of ResNet-18 with
/// the CIFAR stem (11,168,832) or ResNet-50 (23,508,032) and of the published heads, including biases and batch norm.
fn every_built_in_recipe_is_whole(scratch: &Scratch, recipes: &[Value]) {
    scratch.images("images", 4);
    // inputs → 2048 → 2048 → 128, batch norm between; p → 128 with batch norm; 256 → 128.
    let simclr = |h: u64| h * 2048 + 4096 + 2048 * 2048 + 4096 + 2048 * 128;
    let byol = |h: u64| (h * 4096 + 8192 + 4096 * 256 + 256) + (256 * 4096 + 8192 + 4096 * 256 + 256);
    let equimod = |h: u64, p: u64| simclr(h) + (p * 128 + 256) + 256 * 128;
    let parts =
        [("simclr", "cifar10", 15), ("simclr", "imagenet", 17), ("byol", "cifar10", 18), ("byol", "imagenet", 18)];
    for name in recipes.iter().map(|recipe| recipe["name"].as_str().unwrap()) {
        let small = ["--set", "data.batch=2", "--data", "images"];
        let output = scratch.run(&[&["pretrain", "--recipe", name, "--dry-run"], &small[..]].concat());
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{name}: {printed}");
        assert!(printed.contains("floating-point operations"), "{printed}");
        for (objective, data, p) in parts {
            let (h, backbone) = if data == "cifar10" { (512, 11_168_832) } else { (2048, 23_508_032) };
            let plain = backbone + if objective == "simclr" { simclr(h) } else { byol(h) };
            for (kind, want) in [("", plain), ("-equimod", plain + equimod(h, p)), ("-matched", plain + equimod(h, p))]
            {
                if name == format!("{objective}{kind}-{data}") {
                    assert!(printed.contains(&format!("{want} parameters")), "{name}: {want} in {printed}");
                    assert_eq!(printed.contains("target network"), objective == "byol");
                }
            }
        }
    }
}
