//! `equimod eval` and `embed`, as a user calls them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use common::{Scratch, TINY, text};

/// A run on images of two colors in class folders, trained for a few steps.
fn trained(scratch: &Scratch) {
    scratch.images("images", 60);
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let arguments = ["pretrain", "--recipe", &recipe, "--data", "images", "--out", "run", "--no-eval"];
    scratch.done(&[&arguments[..], &["--set", "data.batch=16", "--epochs", "1"]].concat());
}

fn results(text: &str) -> Value {
    let results: Value = serde_json::from_str(text).unwrap();
    assert_eq!(results["format"], 1);
    results
}

/// Rows with this metric.
fn rows<'a>(results: &'a Value, metric: &str) -> Vec<&'a Value> {
    results["rows"].as_array().unwrap().iter().filter(|row| row["metric"] == metric).collect()
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("no {key} in {row}"))
}

#[test]
fn every_protocol_gives_numbers_a_page_and_files() {
    let scratch = Scratch::new();
    trained(&scratch);
    let eval = |protocol: &str, more: &[&str]| {
        let arguments = ["eval", protocol, "run", "--data", "images", "--json"];
        results(&scratch.done(&[&arguments[..], more].concat()))
    };
    // Settings that are not the default are parts of the folder's name.
    let folder = |protocol: &str| {
        let settings = match protocol {
            "knn" => "-k-5",
            "logistic" => "-9-strengths",
            "linear" => "-30-epochs-batch-32",
            "finetune" => "-labels-50-10-epochs-batch-16",
            "equivariance" => "-32-images",
            "params" => "-100-images",
            "retrieval" => "-5-images-8-views",
            "health" => "-50-images",
            "few-shot" => "-2-ways-4-queries-50-episodes",
            _ => "",
        };
        scratch.path("run/eval").join(format!("{protocol}-images{settings}"))
    };

    // The color of these images determines their class: every classifier learns it.
    for (protocol, more) in [
        ("knn", &["--k", "5", "--untrained"][..]),
        ("logistic", &["--l2-strengths", "9", "--map", "tsne"]),
        ("linear", &["--epochs", "30", "--batch", "32"]),
        ("finetune", &["--labels", "50", "--epochs", "10", "--batch", "16"]),
    ] {
        let found = eval(protocol, more);
        let first = rows(&found, "top-1 accuracy")[0];
        assert!(number(first, "value") >= 0.9, "{protocol}: {first}");
        assert!(number(first, "chance") <= 0.51 && first["interval"].is_array(), "{first}");
        assert!(number(rows(&found, "expected calibration error")[0], "value") <= 0.6);
        for file in ["results.json", "results.md", "report.html", "predictions-label.csv", "confusion-label.csv"] {
            let variant = if protocol == "finetune" { "-50-of-the-labels" } else { "" };
            let file = file.replace("label", &format!("{}{variant}", first["task"].as_str().unwrap()));
            assert!(folder(protocol).join(&file).is_file(), "{protocol}: {file}");
        }
        // These images have no test split: the held-out images are recorded, with their hash.
        let splits: Value = serde_json::from_slice(&fs::read(folder(protocol).join("splits.json")).unwrap()).unwrap();
        assert_eq!(splits[0]["split"]["sha256"], found["splits"][0]["sha256"]);
        assert_eq!(splits[0]["indices"].as_array().unwrap().len(), 24);
    }

    let found = eval("equivariance", &["--images", "32"]);
    let alone =
        |task: &str| found["rows"].as_array().unwrap().iter().any(|row| row["task"].as_str().unwrap().ends_with(task));
    assert!(alone("equimod") && alone("horizontal-flip alone") && alone("color-jitter alone"), "{found}");
    let found = eval("params", &["--images", "100", "--untrained"]);
    assert!(rows(&found, "R²").len() > 10 && rows(&found, "pooled R²").len() == 2, "{found}");
    let found = eval("retrieval", &["--images", "5", "--views", "8"]);
    assert!((number(rows(&found, "H@2")[0], "chance") - 0.25).abs() < 1e-12);
    assert!(number(rows(&found, "recall@1")[0], "value") > 0.8);
    let found = eval("health", &["--images", "50", "--untrained"]);
    assert!(number(rows(&found, "effective rank (RankMe)")[0], "value") >= 1.0);
    let found = eval("few-shot", &["--ways", "2", "--queries", "4", "--episodes", "50"]);
    assert!(number(rows(&found, "2-way 5-shot accuracy")[0], "value") > 0.8, "{found}");
    // Both classes have 12 test images: less than 5 shots and 16 queries.
    let reduced = scratch.run(&["eval", "few-shot", "run", "images", "--episodes", "10", "--out", "reduced"]);
    let noted = String::from_utf8_lossy(&reduced.stderr).into_owned();
    assert!(reduced.status.success() && noted.contains("7 queries a class instead of 16"), "{noted}");

    for protocol in
        ["knn", "logistic", "linear", "finetune", "equivariance", "params", "retrieval", "health", "few-shot"]
    {
        looked_at(&folder(protocol).join("report.html"), &scratch.path("browser"));
    }
    looked_at(&scratch.path("run/report.html"), &scratch.path("browser"));
    for page in [folder("equivariance").join("report.html"), scratch.path("run/report.html")] {
        let page = fs::read_to_string(page).unwrap();
        assert!(page.contains("Predicted and actual views") && page.contains("rank</dt><dd>"), "{page}");
    }
    // The page that compares runs also has the later evaluations.
    scratch.done(&["report", "run", "--out", "runs.html"]);
    let page = fs::read_to_string(scratch.path("runs.html")).unwrap();
    assert!(page.contains("2-way 5-shot accuracy") && page.contains("few-shot, prototype"));
}

/// Opens a page in a headless browser, if there is one: its console must stay silent, everything must be drawn, and it
/// fits on four printed pages.
/// (Its Content-Security-Policy forbids every outside request, and the console reports violations.)
fn looked_at(page: &Path, profile: &Path) {
    let html = fs::read_to_string(page).unwrap();
    assert!(
        html.contains("default-src 'none'")
            && !html.contains("<script")
            && !html.contains("http:")
            && !html.contains("https:"),
        "{page:?}"
    );
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()));
    let Some(browser) = browser else {
        assert!(std::env::var_os("EQUIMOD_NEEDS_BROWSER").is_none(), "there is no chromium");
        return eprintln!("skipped: there is no chromium to look at {} with", page.display());
    };
    let opened = |arguments: &[&str]| {
        Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=400,800"])
            .args(["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"])
            .args(arguments)
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap()
    };
    let output = opened(&["--dump-dom"]);
    let (dom, printed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && dom.contains("</html>"), "{printed}");
    assert!(!printed.contains("CONSOLE"), "{page:?}: {printed}");
    let file = page.with_extension("pdf");
    opened(&["--no-pdf-header-footer", &format!("--print-to-pdf={}", file.display())]);
    let document = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
    let pages = document.matches("/Type /Page").count() - document.matches("/Type /Pages").count();
    assert!((1..=4).contains(&pages), "{page:?} takes {pages} printed pages");
}

/// Evaluations use the images of the run if none are named, and say which they are first.
#[test]
fn a_run_is_evaluated_on_its_own_images() {
    let scratch = Scratch::new();
    trained(&scratch);
    let output = scratch.run(&["eval", "knn", "run", "--json"]);
    let (printed, noted) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(noted.lines().next().is_some_and(|line| line.contains("data: images, the data of the run")), "{noted}");
    let named = ["eval", "knn", "run", "images", "--json"];
    assert_eq!(results(&printed)["rows"], results(&scratch.done(&named))["rows"]);
    assert!(scratch.path("run/eval/knn-images/results.json").is_file());
    // From another folder, whatever has the name of the images there, they are the same, under the same name.
    fs::create_dir_all(scratch.path("away/images")).unwrap();
    let mut away = Command::new(env!("CARGO_BIN_EXE_equimod"));
    let away = away.args(["eval", "knn", "../run", "--json"]).current_dir(scratch.path("away")).output().unwrap();
    assert_eq!(results(&String::from_utf8_lossy(&away.stdout))["rows"], results(&printed)["rows"]);
    // Every evaluation ends with a verdict, and every page begins with it and the next command.
    let printed = scratch.done(&["eval", "knn", "run", "--untrained"]);
    let next = printed.lines().next_back().unwrap();
    assert!(printed.contains("The loss rose") && printed.contains("\nNext:\n  # "), "{printed}");
    assert!(next.contains("find-lr --recipe run/recipe.resolved.toml"), "{printed}");
    let verdict =
        printed.lines().find(|line| line.contains("has no width, because every test image is right")).unwrap();
    let page = fs::read_to_string(scratch.path("run/eval/knn-images/report.html")).unwrap();
    assert!(page.contains("class=\"verdict\"") && page.contains("find-lr --recipe run"), "{page}");
    let listed = fs::read_to_string(scratch.path("run/eval/knn-images/results.md")).unwrap();
    assert!(listed.starts_with(&format!("- {verdict}")), "{listed}");
    // The background of training is no other setting.
    scratch.done(&[
        "pretrain",
        "--recipe",
        "run/recipe.resolved.toml",
        "--set",
        "data.background=white",
        "--out",
        "white",
    ]);
    for (background, folder) in [("white", "knn-images"), ("black", "knn-images-on-black")] {
        scratch.done(&["eval", "knn", "white", "--background", background]);
        assert!(
            scratch.path("white/eval").join(folder).is_dir()
                && !scratch.path("white/eval/knn-images-on-white").exists()
        );
    }
    // What one evaluation measured of the untrained network is not that of another with the same values.
    let untrained = |settings: &[&str]| {
        let printed = scratch.done(&[&["eval", "knn", "white", "--json"], settings].concat());
        results(&printed)["rows"][0]["untrained"].clone()
    };
    assert!(untrained(&["--untrained"]).is_number() && untrained(&[]).is_number());
    let black = ["--background", "black"];
    assert!(untrained(&black).is_null());
    assert!(untrained(&[&black[..], &["--untrained"]].concat()).is_number() && untrained(&black).is_number());
    let same = ["eval", "compare", "white", "white", "--by", "knn"];
    let output = scratch.run(&same);
    assert!(String::from_utf8_lossy(&output.stderr).contains("white and white (2) are the same weights"));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("Next"));
    // A comparison reads images for each model as its training did, in either order, and so does a suite.
    let compared = |models: [&str; 2]| {
        let output = scratch.run(&[&["eval", "compare", "--by", "knn", "--json"], &models[..]].concat());
        let rows = results(&String::from_utf8_lossy(&output.stdout))["rows"].clone();
        let mut values: Vec<(String, String)> =
            (0..2).map(|row| (rows[row]["model"].to_string(), rows[row]["value"].to_string())).collect();
        values.sort();
        (values, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (one, other) = (compared(["run", "white"]), compared(["white", "run"]));
    assert_eq!(one.0, other.0);
    for part in ["run: data: images", "white: data: images, the data of the run, transparent pixels on white"] {
        assert!(one.1.contains(part) && other.1.contains(part), "{part} in {}", one.1);
    }
    scratch.write("suite.toml", "about = 'one'\n[[task]]\nname = 'a'\ndata = 'images'\nprotocol = 'knn'\n");
    let suite = ["eval", "transfer", "run", "white", "--suite", "suite.toml"];
    let noted = String::from_utf8_lossy(&scratch.run(&suite).stderr).into_owned();
    for part in ["run: a of images\n", "white: a of images, transparent pixels on white\n"] {
        assert!(noted.contains(part), "{part} in {noted}");
    }
    // The weights of an export have its background, too.
    scratch.done(&["export", "white", "--out", "on-white"]);
    for model in ["white", "on-white", "on-white/model.safetensors"] {
        let background =
            |printed: &str| printed.contains("background  #ffffff") || printed.contains("background  white");
        assert!(background(&scratch.done(&["inspect", model])), "{model}");
    }
    assert!(!scratch.done(&["inspect", "run"]).contains("background"));
    scratch.refused(&["eval", "knn", "images", "on-white"], 2, &["on-white is an export", "give the model first"]);
    scratch.refused(&["eval", "knn", "run/checkpoints"], 1, &["the checkpoints of a run", "give the run"]);
    scratch.refused(&["import", "on-white/model.safetensors"], 2, &["of an export of equimod", "as a MODEL"]);
    scratch.done(&["embed", "run", "--out", "own.npy"]);
    scratch.done(&["embed", "run", "images", "--out", "named.npy"]);
    assert_eq!(fs::read(scratch.path("own.npy")).unwrap(), fs::read(scratch.path("named.npy")).unwrap());
    scratch.done(&["export", "run", "--out", "export", "--license", "mit"]);
    assert!(scratch.done(&["eval", "knn", "export"]).contains("knn"));
    let weights = text(&scratch.path("export/model.safetensors"));
    fs::copy(&weights, scratch.path("alone.safetensors")).unwrap();
    scratch.refused(&["eval", "knn", "alone.safetensors"], 2, &["alone.safetensors", "--data"]);
    scratch.refused(&["eval", "compare", "alone.safetensors", "alone.safetensors"], 2, &["--data"]);
    scratch.refused(&["eval", "knn", "run", "images", "--data", "images"], 2, &["--data"]);
    fs::rename(scratch.path("images"), scratch.path("elsewhere")).unwrap();
    scratch.refused(&["eval", "knn", "run"], 3, &["images", "the model was trained on", "--data"]);
    scratch.refused(&["pretrain", "--resume", "--out", "run"], 3, &["images of the run moved", "--data"]);
    // Other images of that name are not those of the run.
    let class = fs::read_dir(scratch.path("elsewhere")).unwrap().next().unwrap().unwrap().path();
    let image = fs::read_dir(class).unwrap().next().unwrap().unwrap().path();
    for class in ["a", "b"] {
        fs::create_dir_all(scratch.path("images").join(class)).unwrap();
        fs::copy(&image, scratch.path("images").join(class).join(image.file_name().unwrap())).unwrap();
    }
    for command in [&["eval", "knn", "run"][..], &["eval", "knn", "export"], &["embed", "run", "--out", "other.npy"]] {
        scratch.refused(command, 2, &["images no longer holds the images of the run", "--data"]);
    }
    fs::remove_dir_all(scratch.path("images")).unwrap();
}

#[test]
fn threads_do_not_matter() {
    let scratch = Scratch::new();
    trained(&scratch);
    for protocol in [
        &["knn"][..],
        &["logistic", "--penalties", "5"],
        &["linear", "--epochs", "2", "--batch", "32"],
        &["few-shot", "--ways", "2", "--queries", "4", "--episodes", "20"],
        &["params", "--images", "60"],
        &["health", "--images", "40"],
    ] {
        let rows = |threads: &str| {
            let arguments = ["run", "--data", "images", "--json", "--map", "tsne", "--threads", threads];
            let arguments = [&["eval"], protocol, &arguments[..]].concat();
            results(&scratch.done(&arguments))["rows"].clone()
        };
        assert_eq!(rows("1"), rows("3"), "{protocol:?}");
    }
}

#[test]
fn models_are_compared_and_carried_over_to_suites() {
    let scratch = Scratch::new();
    trained(&scratch);
    let model = text(&scratch.path("run"));
    let same = ["eval", "compare", &model, &model, "--data", "images", "--by", "knn", "--json", "--out", "compared"];
    let found = results(&scratch.done(&same));
    let difference = rows(&found, "difference of top-1 accuracy")[0];
    assert_eq!((number(difference, "value"), &difference["interval"]), (0.0, &serde_json::json!([0.0, 0.0])));
    assert!(difference["detail"].as_str().unwrap().contains("p = 1.000"));
    looked_at(&scratch.path("compared/report.html"), &scratch.path("browser"));
    scratch.refused(&["eval", "compare", &model, &model, &model], 2, &["3 models are no pairs"]);

    let suite = "about = 'two'\n[[task]]\nname = 'color'\ndata = 'images'\n[[task]]\nname = 'near'\ndata = 'images'\n\
                 protocol = 'knn'\nmetric = 'mean-per-class'\n";
    let suite = text(&scratch.write("suite.toml", suite));
    let arguments =
        ["eval", "transfer", &model, "--suite", &suite, "--untrained", "--l2-strengths", "3", "--out", "moved"];
    let table = scratch.done(&arguments);
    assert!(table.contains("color") && table.contains("mean rank") && table.lines().count() == 6, "{table}");
    assert!(table.contains("has no width") && table.contains("run and run untrained are equal"), "{table}");
    let other = [&arguments[..arguments.len() - 1], &["smaller", "--size", "12", "--seed", "1"]].concat();
    scratch.done(&other);
    let found = results(&fs::read_to_string(scratch.path("smaller/results.json")).unwrap());
    assert_eq!(rows(&found, "top-1 accuracy")[0]["settings"], "size-12, seed-1");
    let found = results(&fs::read_to_string(scratch.path("moved/results.json")).unwrap());
    assert!(rows(&found, "top-1 accuracy")[0]["settings"].is_null());
    assert_eq!(rows(&found, "mean rank").len(), 2);
    assert!(fs::read_to_string(scratch.path("moved/table.md")).unwrap().starts_with("| model | color | near |"));
    looked_at(&scratch.path("moved/report.html"), &scratch.path("browser"));

    // Test images of another folder are not those of the data set, and those of training are no test images.
    scratch.images("others", 10);
    let tested = |test: &str| {
        let suite = format!("about = 'x'\n[[task]]\nname = 'a'\ndata = 'images'\ntest = '{test}'\nprotocol = 'knn'\n");
        text(&scratch.write("tested.toml", suite))
    };
    let apart = ["eval", "transfer", &model, "--suite", &tested("others"), "--out", "apart"];
    scratch.done(&apart);
    let found = results(&fs::read_to_string(scratch.path("apart/results.json")).unwrap());
    assert_eq!(rows(&found, "top-1 accuracy")[0]["settings"], "test-others");
    let refusal = "has the images on which classifiers are fitted";
    scratch.refused(&["eval", "transfer", &model, "--suite", &tested("images")], 3, &[refusal]);
    scratch.refused(&["eval", "knn", &model, "--data", "images", "--test", "images/"], 2, &[refusal]);
    scratch.refused(&["eval", "knn", &model, "--data", "images", "--validation", "images"], 2, &[refusal]);

    let unknown = text(&scratch.write("unknown.toml", "about = 'x'\n[[task]]\nname = 'a'\ndata = 'nowhere'\n"));
    scratch.refused(&["eval", "transfer", &model, "--suite", &unknown], 3, &["a: ", "nowhere", "--skip-missing"]);
    scratch.refused(&["eval", "transfer", &model, "--suite", "eleven"], 2, &["eleven", "fine-grained-11"]);
    scratch.refused(&["eval", "transfer", &model, "--only", "flag"], 2, &["flag", "skin-tone"]);
}

#[test]
fn features_are_written_in_every_form() {
    let scratch = Scratch::new();
    trained(&scratch);
    for (file, beside) in
        [("f.safetensors", None), ("f.npy", Some("f.labels.csv")), ("g.csv", None), ("f.parquet", None)]
    {
        let printed = scratch.done(&["embed", "run", "--data", "images", "--out", file]);
        assert!(printed.contains("120 images, 32 features each"), "{printed}");
        assert!(scratch.path(file).is_file() && beside.is_none_or(|beside| scratch.path(beside).is_file()));
    }
    let table = fs::read_to_string(scratch.path("g.csv")).unwrap();
    assert_eq!(table.lines().count(), 121);
    assert_eq!(table.lines().next().unwrap().split(',').count(), 3 + 32);
    // Features differ at another size.
    scratch.done(&["embed", "run", "--data", "images", "--size", "24", "--crop", "whole", "--out", "h.csv"]);
    assert_ne!(table, fs::read_to_string(scratch.path("h.csv")).unwrap());
    scratch.refused(&["embed", "run", "--data", "images", "--out", "f.txt"], 2, &["f.txt", ".parquet"]);
    scratch.refused(&["embed", "run", "--data", "images", "--size", "3", "--out", "f.npy"], 3, &["3 pixels", "from 8"]);
}

#[test]
fn what_cannot_be_evaluated_is_said_in_one_sentence() {
    let scratch = Scratch::new();
    trained(&scratch);
    let png = fs::read(scratch.path("images/class0/0.png")).unwrap();
    let put = |name: &str| scratch.write(name, &png);
    // No labels at all; one class; a class without training images.
    ["plain/a.png", "plain/b.png"].into_iter().for_each(|name| drop(put(name)));
    scratch.refused(&["eval", "knn", "run", "--data", "plain"], 3, &["plain", "labels"]);
    ["one/a/1.png", "one/a/2.png", "one/a/3.png"].into_iter().for_each(|name| drop(put(name)));
    scratch.refused(&["eval", "logistic", "run", "--data", "one"], 3, &["one", "class"]);
    for name in ["gap/train/a/1.png", "gap/train/b/1.png", "gap/test/a/2.png", "gap/test/c/2.png"] {
        put(name);
    }
    scratch.refused(&["eval", "knn", "run", "--data", "gap"], 3, &["gap", "\"c\"", "no training images"]);
    ["few/a/1.png", "few/b/1.png", "few/c/1.png"].into_iter().for_each(|name| drop(put(name)));
    scratch.refused(&["eval", "knn", "run", "--data", "few"], 3, &["few", "to spare for test"]);
    scratch.refused(&["eval", "knn", "run", "--data", "images", "--task", "species"], 3, &["species"]);
    scratch.refused(&["eval", "knn", "run", "emoji", "--task", "flag"], 3, &["flag", "eval retrieval"]);
    scratch.refused(&["eval", "few-shot", "run", "--data", "images", "--shots", "12"], 3, &["the largest has 12"]);
    // Of several numbers of shots, those that are possible are measured; the metrics name ways and shots.
    let arguments = ["few-shot", "run", "images", "--shots", "1,12", "--ways", "4", "--episodes", "5"];
    let output = scratch.run(&[&["eval"], &arguments[..], &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said.contains("12-shot, is left out: ") && found["rows"][0]["metric"] == "2-way 1-shot accuracy", "{said}");
    assert_eq!(found["rows"][0]["settings"], "5-episodes");
    scratch.refused(&["eval", "finetune", "run", "--data", "images", "--labels", "0"], 2, &["--labels 0"]);
    // Non-finite weights, and weights of another shape.
    let checkpoint = fs::read_to_string(scratch.path("run/checkpoints/latest")).unwrap();
    let file = scratch.path("run/checkpoints").join(checkpoint).join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let not_a_number = f32::NAN.to_le_bytes();
    bytes[header..].chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&not_a_number));
    let broken = text(&scratch.write("nan.safetensors", bytes));
    scratch.refused(&["eval", "knn", &broken, "--data", "images"], 3, &["not finite"]);
    let text_of_header = String::from_utf8_lossy(&fs::read(&file).unwrap()[8..header]).into_owned();
    let narrower = text_of_header.replacen("\\\"width\\\":4", "\\\"width\\\":8", 1);
    assert_ne!(narrower, text_of_header, "{text_of_header:.400}");
    let mut bytes = (narrower.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(narrower.as_bytes());
    bytes.extend_from_slice(&fs::read(&file).unwrap()[header..]);
    let wrong = text(&scratch.write("wrong.safetensors", bytes));
    scratch.refused(&["eval", "knn", &wrong, "--data", "images"], 1, &["wrong.safetensors"]);
}

#[test]
fn the_schema_of_results_describes_every_field() {
    let scratch = Scratch::new();
    let schema: Value = serde_json::from_str(&scratch.done(&["list", "results-schema"])).unwrap();
    let described = |object: &Value| {
        let properties = object["properties"].as_object().unwrap();
        properties.iter().for_each(|(name, property)| assert!(property["description"].is_string(), "{name}"));
        properties.len()
    };
    assert!(described(&schema) >= 7);
    let parts = schema["$defs"].as_object().unwrap();
    assert!(["DrawnSplit", "EvaluatedModel", "ResultRow"].iter().all(|part| parts.contains_key(*part)));
    assert!(parts.values().map(described).sum::<usize>() >= 20);
}

#[test]
fn features_are_kept_by_the_contents_of_images() {
    let scratch = Scratch::new();
    trained(&scratch);
    let gray = |level: u8| {
        let size = equimod::data::Size { height: 16, width: 16 };
        // The size of a bitmap does not depend on its content.
        let mut bytes = vec![0u8; 54];
        bytes[..2].copy_from_slice(b"BM");
        bytes[2..6].copy_from_slice(&(54 + 768u32).to_le_bytes());
        bytes[10..14].copy_from_slice(&54u32.to_le_bytes());
        bytes[14..18].copy_from_slice(&40u32.to_le_bytes());
        bytes[18..22].copy_from_slice(&(size.width as u32).to_le_bytes());
        bytes[22..26].copy_from_slice(&(size.height as u32).to_le_bytes());
        bytes[26..30].copy_from_slice(&[1, 0, 24, 0]);
        bytes.extend(std::iter::repeat_n(level, 768));
        bytes
    };
    let fill = |dark: &str, light: &str| {
        for i in 0..6u8 {
            scratch.write(&format!("gray/{dark}/{i}.bmp"), gray(i));
            scratch.write(&format!("gray/{light}/{i}.bmp"), gray(250 - i));
        }
    };
    let embed = |out: &str| {
        scratch.done(&["embed", "run", "--data", "gray", "--cache", "kept", "--out", out]);
        fs::read(scratch.path(out)).unwrap()
    };
    fill("a", "b");
    let first = embed("1.npy");
    assert!(first == embed("2.npy"));
    std::thread::sleep(std::time::Duration::from_millis(20));
    fill("b", "a");
    assert!(first != embed("3.npy"), "features of other images were taken from the cache");
}

#[test]
fn a_network_of_others_loads_without_counters() {
    let scratch = Scratch::new();
    trained(&scratch);
    let checkpoint = fs::read_to_string(scratch.path("run/checkpoints/latest")).unwrap();
    let file = scratch.path("run/checkpoints").join(checkpoint).join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let model = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let backbone = model.tensors().into_iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix("backbone.")?.to_owned();
        (!name.ends_with("num_batches_tracked")).then_some((name, tensor))
    });
    let backbone: Vec<_> = backbone.collect();
    let written = |file: &str, prefix: &str, but: &str| {
        let named = backbone.iter().filter(|(name, _)| name != but).map(|(name, of)| (format!("{prefix}{name}"), of));
        let head = ("module.head.weight".to_owned(), &backbone[0].1);
        let head = (!prefix.is_empty()).then_some(head);
        text(&scratch.write(file, safetensors::serialize(named.chain(head), None).unwrap()))
    };
    // With another code base's prefix and a head; and with a missing tensor.
    let prefixed = written("prefixed.safetensors", "module.encoder.", "");
    let output = scratch.run(&["inspect", &prefixed]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && printed.contains("prefix module.encoder.") && printed.contains("module.head.weight"),
        "{printed}"
    );
    let missing = written("missing.safetensors", "", "layer2.0.conv1.weight");
    let output = scratch.run(&["inspect", &missing]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(printed.contains("1 missing") && printed.contains("missing\n  layer2.0.conv1.weight"), "{printed}");
    let foreign = written("foreign.safetensors", "", "");
    let output = scratch.run(&["eval", "knn", &foreign, "--data", "images", "--size", "16", "--json"]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && printed.contains("input size 32 (--input-size)"), "{printed}");
    let found = results(&String::from_utf8(output.stdout).unwrap());
    assert!(found["models"][0]["preprocessing"].as_str().unwrap().contains("guessed"), "{found}");
}

#[test]
fn test_images_of_another_source_are_matched_by_the_names_of_their_classes() {
    let scratch = Scratch::new();
    trained(&scratch);
    // A single class: its number differs from its number in training.
    scratch.images("all", 20);
    fs::create_dir(scratch.path("some")).unwrap();
    fs::rename(scratch.path("all/class1"), scratch.path("some/class1")).unwrap();
    for (protocol, more) in [("knn", &["--k", "5"][..]), ("linear", &["--epochs", "30", "--batch", "32"])] {
        let arguments = ["eval", protocol, "run", "--data", "images", "--test", "some", "--out", protocol, "--json"];
        let found = results(&scratch.done(&[&arguments[..], more].concat()));
        assert!(number(rows(&found, "top-1 accuracy")[0], "value") >= 0.9, "{protocol}");
        let predictions = fs::read_to_string(scratch.path(protocol).join("predictions-class.csv")).unwrap();
        assert_eq!(predictions.lines().filter(|line| line.contains("class1/")).count(), 20, "{predictions}");
    }
}
