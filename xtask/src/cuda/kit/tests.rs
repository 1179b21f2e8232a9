//! The archive, and its scripts with programs that only pretend.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{NAME, SCRIPTS, archive, golden, size_below, stage};

/// A command that measures, checks and trains: a run to be killed waits after its first checkpoint.
const EQUIMOD: &str = r#"
folder() { while [[ $1 != --out ]]; do shift; done; echo "$2/checkpoints"; }
case "$1 $2" in
  "--version ") echo "equimod 0.0.0" ;;
  "doctor --device") echo "the device agrees" ;;
  "bench step")
    [[ -z ${LAUNCHES:-} ]] || echo $((100 * ${!#})) >"$LAUNCHES"
    [[ $* == *"--batch 128 "* ]] && { echo "out of memory on the device" >&2; exit 1; }
    [[ $* == *--autotune* ]] && tuned=true || tuned=false
    [[ $* == *--no-fusion* ]] && fused=false || fused=true
    echo "{\"what\": \"equimod\", \"arch\": \"$6\", \"size\": 224, \"batch\": ${10}, \"precision\": \"${12}\"," \
      "\"autotune\": $tuned, \"fused\": $fused, \"images_per_s\": 300.4, \"allocated_mib\": 5000}" ;;
  "pretrain "*)
    mkdir -p "$(folder "$@")/epoch-1"
    for file in model optimizer; do echo WEIGHTS >"$(folder "$@")/epoch-1/$file.safetensors"; done
    echo epoch-1 >"$(folder "$@")/latest"
    [[ $* == *--resume* || $* == *whole* ]] || exec sleep 30 ;;
  *) exit 9 ;;
esac
"#;

const TORCH: &str = r#"
import sys
mode = sys.argv[sys.argv.index("--mode") + 1]
print("a warning that is no result")
for precision, speed in [("bf16", '"images_per_s": 200.0, "peak_mib": 7000, "launches": 1700'), ("tf32", '"failure": "no kernel"')]:
    case = f'"what": "pytorch", "mode": "{mode}", "arch": "resnet50", "size": 224, "batch": 64'
    print(f'{{{case}, "precision": "{precision}", {speed}}}')
"#;

const PASSED: &str = "echo 'test result: ok. 3 passed; 0 failed'";

/// A kit of programs that pretend, in a folder that is removed at the end.
struct Kit(PathBuf);

impl Kit {
    fn new(name: &str) -> Self {
        let kit = Self(env::temp_dir().join(format!("gpu-kit-{name}-{}", std::process::id())));
        fs::create_dir_all(kit.0.join("tests")).unwrap();
        fs::create_dir_all(kit.0.join("bin")).unwrap();
        for script in SCRIPTS {
            fs::copy(workspace().join("xtask/cuda/kit").join(script), kit.0.join(script)).unwrap();
        }
        kit.program("equimod", EQUIMOD);
        for test in ["lib", "golden_networks", "golden_trajectory", "devices"] {
            kit.program(&format!("tests/{test}"), PASSED);
        }
        kit.program("bin/nvidia-smi", "echo 'Imaginary GPU, 1.0, 80 GB'");
        kit.program("bin/compute-sanitizer", PASSED);
        fs::write(kit.0.join("torch_step.py"), TORCH).unwrap();
        kit
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/bash\n{text}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn start(&self, what: &str) -> Output {
        let mut path = self.0.join("bin").into_os_string();
        path.push(":");
        path.push(env::var_os("PATH").unwrap());
        let mut script = Command::new(self.0.join("run.sh"));
        script.arg(what).env("OUT", self.0.join("out")).env("PATH", path).output().unwrap()
    }

    /// Whether everything passed, and the summary.
    fn run(&self, what: &str) -> (bool, String) {
        let passed = self.start(what).status.success();
        (passed, fs::read_to_string(self.0.join("out/summary.md")).unwrap())
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn is_missing(program: &str) -> bool {
    let missing = Command::new(program).arg("--version").output().is_err();
    if missing {
        eprintln!("skipped: {program} is not installed");
    }
    missing
}

#[test]
fn everything_that_passes_gives_a_table() {
    if is_missing("python3") {
        return;
    }
    let kit = Kit::new("passes");
    kit.program("equimod", &EQUIMOD.replace("--batch 128 ", "no such option"));
    let (passed, summary) = kit.run("all");
    assert!(passed, "{summary}");
    for expected in [
        "- Imaginary GPU, 1.0, 80 GB",
        "- equimod: 100 kernels a step (resnet50, batch 64 × 3, bf16, without those inside of cuDNN and cuBLAS)",
        "- PyTorch, eager: 1700 kernels a step (resnet50, batch 64 × 3, bf16)",
        "Checks: 8 passed, 0 failed, 0 skipped.",
        "- PyTorch eager resnet50 tf32, batch 64: no kernel",
        "| resnet50, 224 pixels | 64 × 3 | bf16 | 300 | 5000 | 200 | 7000 | 1.50 | 200 | 7000 | 1.50 |",
        "| resnet50, 224 pixels | 64 × 3 | bf16, not autotuned | 300 | 5000 | – | – | – | – | – | – |",
        "| resnet50, 224 pixels | 64 × 3 | bf16, not fused | 300 | 5000 | – | – | – | – | – | – |",
        "| resnet50, 224 pixels | 64 × 3 | tf32 | 300 | 5000 | – | – | – | – | – | – |",
    ] {
        assert!(summary.lines().any(|line| line == expected || line.starts_with(expected)), "{expected}\n{summary}");
    }
    assert_eq!(summary.matches(" pixels | ").count(), 2 * 3 * 3 + 2, "{summary}");
}

#[test]
fn parts_that_fail_are_reported_and_stop_no_others() {
    if is_missing("python3") {
        return;
    }
    let kit = Kit::new("fails");
    kit.program("tests/devices", "echo 'test every_module ... FAILED'; echo 'test result: FAILED'; exit 101");
    kit.program("tests/golden_networks", "echo 'test result: ok. 0 passed; 0 failed'");
    kit.program("equimod", &EQUIMOD.replace("WEIGHTS", "$RANDOM$RANDOM"));
    let (passed, summary) = kit.run("all");
    assert!(!passed);
    for expected in [
        "Checks: 5 passed, 3 failed, 0 skipped.",
        "s): every_module",
        "s): no test has run",
        "- check kill-and-resume: failed",
        "- benchmark equimod-resnet18-128-f32--autotune: failed",
        "s): out of memory on the device",
        "| 16 × 3 | bf16 | 300 |",
    ] {
        assert!(summary.contains(expected), "{expected}\n{summary}");
    }
    assert!(!summary.contains("| 128 × 3 |"), "{summary}");
}

#[test]
fn libraries_that_are_missing_are_named() {
    if is_missing("python3") {
        return;
    }
    let kit = Kit::new("libraries");
    kit.program("bin/ldd", "printf '\\tlibm.so.6 => /lib/libm.so.6\\n\\tlibcudnn.so.9 => not found\\n'");
    let output = kit.start("all");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("error: libcudnn.so.9 not found; "), "{message}");
}

#[test]
fn programs_that_are_missing_are_named() {
    let kit = Kit::new("stage");
    let problem = stage(&kit.0.join(NAME), &[], &[]).unwrap_err().to_string();
    assert!(problem.contains("no program of the target equimod"), "{problem}");
}

#[test]
fn reference_files_that_the_tests_read() {
    let names = golden(&workspace().join("tests/fixtures/golden")).unwrap();
    for needed in ["tolerances.json", "net_resnet18_cifar_w8.safetensors", "equimod_simclr_step.safetensors"] {
        assert!(names.iter().any(|name| name == needed), "{needed}");
    }
    assert!(!names.iter().any(|name| name.starts_with("pipelines") || name == "README.md"), "{names:?}");
}

#[test]
fn an_archive_has_the_same_bytes_each_time_and_may_not_be_too_large() {
    if is_missing("xz") {
        return;
    }
    let kit = Kit::new("archive");
    fs::create_dir_all(kit.0.join(NAME)).unwrap();
    fs::write(kit.0.join(NAME).join("README"), "read me").unwrap();
    let outs = ["one.tar.xz", "folder/two.tar.xz"].map(|out| kit.0.join(out));
    for out in &outs {
        archive(&kit.0, out).unwrap();
    }
    let [one, two] = outs.each_ref().map(|out| fs::read(out).unwrap());
    assert!(one == two && one.starts_with(b"\xfd7zXZ"));
    assert_eq!(size_below(&outs[0], 60_000_000).unwrap(), one.len() as u64);
    let problem = size_below(&outs[0], 10).unwrap_err().to_string();
    assert!(problem.contains("should have less than"), "{problem}");
}
