//! Folders of images made by other programs, as a user of the command uses them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod common;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use common::{Scratch, TINY, text};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Stdout and stderr of a call that succeeds.
fn said(scratch: &Scratch, arguments: &[&str]) -> (String, String) {
    let output = scratch.run(arguments);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {error}");
    (out, error)
}

fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn a_folder_is_said_to_be_what_it_was_taken_for() {
    let scratch = Scratch::new();
    let images = |folder: &str, each| scratch.images(&format!("set/{folder}"), each);
    for (folder, each) in [("Train", 6), ("val", 3), (".ipynb_checkpoints", 1), ("__MACOSX", 1), ("Train/@eaDir", 1)] {
        images(folder, each);
    }
    scratch.write("set/annotations/all.json", "{}");
    scratch.write("set/Train/class0/Thumbs.db", "");
    let (out, line) = said(&scratch, &["data", "stats", "set", "--json"]);
    assert_eq!(parsed(&out)["images"], 12);
    let splits =
        ["Train for training, 12 images in 2 classes (class0, class1)", "val for testing, 6 images in the same"];
    let parts = ["set is read as splits: ", splits[0], splits[1], "annotations/ (no images)", "(@eaDir, Thumbs.db)"];
    holds(&line, &parts);
    assert_eq!(line.lines().count(), 1, "{line}");
    let (out, _) = said(&scratch, &["data", "stats", "set", "--test", "--json"]);
    assert_eq!(parsed(&out)["images"], 6);
    // Evaluation and training report it once.
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let settings = ["--set", "data.batch=4", "--out", "run"];
    let (_, line) = said(&scratch, &[&["pretrain", "--recipe", &recipe, "--data", "set"], &settings[..]].concat());
    assert_eq!(line.matches("set is read as splits").count(), 1, "{line}");
    let (_, line) = said(&scratch, &["eval", "knn", "run", "--data", "set", "--k", "1"]);
    assert_eq!(line.matches("set is read as splits").count(), 1, "{line}");
    // With a further folder of images, it can be read in two ways.
    images("extra", 2);
    let ways = ["splits (Train, val)", "none (extra)", "3 classes", "set#splits", "set#classes"];
    scratch.refused(&["data", "stats", "set"], 3, &ways);
    let (out, line) = said(&scratch, &["data", "stats", "set#splits", "--json"]);
    assert_eq!(parsed(&out)["images"], 12);
    holds(&line, &["extra/"]);
    let (out, line) = said(&scratch, &["data", "stats", "set#classes", "--json"]);
    assert_eq!(parsed(&out)["images"], 22);
    holds(&line, &["set#classes is read as 22 images in 3 classes (Train, extra, val)"]);
    // A single folder that contains all others is rarely intended.
    scratch.images("around/inside", 1);
    holds(&said(&scratch, &["data", "stats", "around"]).1, &["1 class (inside)", "give around/inside"]);
}

/// One small file of each kind that may be among images.
fn odd(scratch: &Scratch) {
    scratch.images("odd", 4);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/strangers/images.tar.gz");
    let file = flate2::read::GzDecoder::new(fs::File::open(fixtures).unwrap());
    let mut jpeg = Vec::new();
    for entry in tar::Archive::new(file).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let to = match path.as_str() {
            "decode/rgb-16-big.tif" => "odd/class0/a.TIFF",
            "decode/two-frames.gif" => "odd/class0/b.gif",
            "tiny/8x8-420.jpg" => "odd/class0/c.jfif",
            "restarts.jpg" => "odd/class0/d.jpe",
            _ => continue,
        };
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        if path == "restarts.jpg" {
            jpeg = bytes.clone();
        }
        scratch.write(to, bytes);
    }
    let frame = jpeg.windows(2).position(|window| window == [0xFF, 0xC0]).unwrap();
    let mut arithmetic = jpeg.clone();
    arithmetic[frame + 1] = 0xC9;
    scratch.write("odd/class1/arithmetic.jpg", arithmetic);
    scratch.write("odd/class1/extraneous.jpg", [&jpeg[..frame], b"12345", &jpeg[frame..]].concat());
    scratch.write("odd/class1/cut.jpg", &jpeg[..jpeg.len() - 9]);
    scratch.write("odd/class1/page.png", "<!DOCTYPE html><html></html>");
    scratch.write("odd/class1/really-a-png.jpg", fs::read(scratch.path("odd/class0/1.png")).unwrap());
    for file in ["class2/1.avif", "class2/2.heic", "class2/3.heic", "notes.txt", ".DS_Store", "class0/._1.png"] {
        scratch.write(&format!("odd/{file}"), "");
    }
}

#[test]
fn verify_reports_a_folder_of_odd_files() {
    let scratch = Scratch::new();
    odd(&scratch);
    let output = scratch.run(&["data", "verify", "odd", "--out", "found.json"]);
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3));
    let sections = [
        "Not decoded: 3\n  odd/class1/arithmetic.jpg: it is a JPEG with arithmetic coding",
        "odd/class1/cut.jpg: it is cut short",
        "odd/class1/page.png: it is a web page",
        "In formats that are not read: 3 (1 AVIF, 2 HEIC)\n  odd/class2/1.avif: ",
        "Decoded, but suspicious: 1\n  odd/class1/extraneous.jpg: 5 extraneous bytes between",
        "Named like another format, and read by the content: 1\n  odd/class1/really-a-png.jpg: its content is PNG",
        "Ignored: 2 hidden or left by other programs (.DS_Store, ._*), 1 other file (1 .txt)",
        "odd: 14 of 20 images decode (1 GIF, 3 JPEG, 9 PNG, 1 TIFF)",
        "30.0 % fail, and training allows 0.1 %",
        "data.skip_share=0.3",
    ];
    holds(&report, &sections);
    let found = parsed(&fs::read_to_string(scratch.path("found.json")).unwrap());
    assert_eq!((found["decoded"].as_u64(), found["failed"].as_array().unwrap().len()), (Some(14), 6));
    assert_eq!(found["unread"], json!({ "AVIF": 1, "HEIC": 2 }));
    assert_eq!((&found["others"], &found["leftovers"]), (&json!({ "txt": 1 }), &json!({ "._*": 1, ".DS_Store": 1 })));
    // The line that every command prints names them, too.
    let line = String::from_utf8(output.stderr).unwrap();
    holds(&line, &["odd is read as 20 images in 3 classes", "3 of them in formats that are not read (1 AVIF, 2 HEIC)"]);
}

#[test]
fn what_is_not_read_counts_towards_the_share_that_may_fail() {
    let scratch = Scratch::new();
    scratch.images("images", 10);
    for k in 0..5 {
        scratch.write(&format!("images/class2/{k}.heic"), "");
    }
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let pretrain = |share: &'static str, out: &'static str| {
        let settings = ["--set", "data.batch=4", "--set", share, "--no-eval", "--out", out];
        [&["pretrain", "--recipe", recipe.as_str(), "--data", "images"], &settings[..]].concat()
    };
    // Before the first step, and with all of them.
    let parts = ["5 of its 25 images do not decode", "4.heic", "the format HEIC, which is not read", "data.skip_share"];
    scratch.refused(&pretrain("data.skip_share=0.1", "few"), 3, &parts);
    scratch.done(&pretrain("data.skip_share=0.2", "enough"));
    let skipped = fs::read_to_string(scratch.path("enough/skipped.jsonl")).unwrap();
    assert!(skipped.lines().all(|line| parsed(line)["path"].as_str().unwrap().ends_with(".heic")), "{skipped}");
}

#[test]
fn a_refused_resume_names_the_images_that_changed() {
    let scratch = Scratch::new();
    scratch.images("images", 12);
    let recipe = text(&scratch.write("tiny.toml", TINY));
    let data = ["--data", "images", "--set", "data.batch=8", "--no-eval", "--out", "run"];
    scratch.done(&[&["pretrain", "--recipe", &recipe], &data[..]].concat());
    let resume = ["pretrain", "--out", "run", "--resume", "--no-eval"];
    scratch.done(&resume);
    for k in 0..11 {
        fs::remove_file(scratch.path(&format!("images/class0/{k}.png"))).unwrap();
    }
    scratch.write("images/class1/new.png", "new");
    scratch.write("images/class1/0.png", "another length");
    let shown = "class0/0.png, class0/1.png, class0/10.png, class0/2.png, class0/3.png";
    let kinds =
        ["1 added: class1/new.png\n", "11 removed: ", shown, " and 1 more\n", "1 with other content: class1/0.png\n"];
    scratch.refused(&resume, 3, &["not those that the run was started with", kinds[0], kinds[1], kinds[2], kinds[3]]);
    scratch.refused(&resume, 3, &[kinds[4], "--from run/checkpoints/"]);
    // For a table, there is only the fingerprint.
    let packed = |out: &str| scratch.done(&["data", "pack", "images", "--out", out]);
    packed("x.equimod");
    let resume = [&resume[..], &["--data", "x.equimod"]].concat();
    scratch.refused(&resume, 3, &["1 added: x.equimod", "24 removed"]);
    // An earlier version wrote no listing.
    fs::remove_file(scratch.path("run/images.jsonl.gz")).unwrap();
    scratch.refused(&resume, 3, &["which ones changed cannot be said", "images.jsonl.gz is missing"]);
}

#[cfg(unix)]
#[test]
fn a_class_folder_that_cannot_be_opened_is_left_out_and_named() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::process::CommandExt;
    let scratch = Scratch::new();
    let folder = scratch.images("images", 3);
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    scratch.write("images/secret/1.png", "");
    symlink("self", folder.join("self")).unwrap();
    allow(scratch.folder(), 0o755);
    allow(&folder.join("secret"), 0o000);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_equimod"));
    command.args(["data", "verify", "images"]).current_dir(scratch.folder());
    if fs::read_dir(folder.join("secret")).is_ok() {
        // Root may open everything; other users may not.
        command.uid(65534);
    }
    let output = command.output();
    allow(&folder.join("secret"), 0o755);
    let Ok(output) =
        output.inspect_err(|error| eprintln!("left out, the binary cannot be run by another user: {error}"))
    else {
        return;
    };
    let (report, line) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    for text in [&report, &line] {
        holds(text, &["2 that cannot be opened", "secret: Permission denied", "self: "]);
    }
    holds(&report, &["6 of 6 images decode"]);
    assert_eq!(output.status.code(), Some(3));
}
