//! Shared code of the tests that run the binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, missing_docs)]

pub mod hub;
pub mod python;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A recipe that trains in seconds.
pub const TINY: &str = r#"
base = "quick"
[data]
batch = 32
[backbone]
width = 4
[objective]
projection_head = "32-16 bn-"
[equivariance.equimod]
projection_head = "32-16 bn-"
parameter_head = "16 bn"
predictor = "16 bn-"
[augmentation]
size = 16
[schedule]
epochs = 2
warmup_epochs = 0.5
learning_rate = 1.0
[checkpoint]
every_epochs = 1
"#;

/// A folder in which the binary runs.
pub struct Scratch {
    folder: Arc<tempfile::TempDir>,
    environment: Vec<(String, String)>,
    /// Output of the binary so far.
    said: RefCell<String>,
}

impl Scratch {
    /// An empty folder; the Hub's environment variables are unset.
    pub fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self { folder, environment: Vec::new(), said: RefCell::default() }
    }

    /// The same folder with another environment variable set.
    pub fn again_with(&self, name: &str, value: &str) -> Self {
        let (folder, environment) = (self.folder.clone(), self.environment.clone());
        Self { folder, environment, said: RefCell::default() }.with(name, value)
    }

    /// All output of the binary, on stdout and stderr.
    pub fn said(&self) -> String {
        self.said.borrow().clone()
    }

    /// The same with an environment variable set.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Images of two colors in class folders.
    pub fn images(&self, name: &str, each: usize) -> PathBuf {
        for class in 0..2u8 {
            for i in 0..each {
                let size = equimod::data::Size { height: 18, width: 16 + i % 5 };
                let value = |k: usize| if k % 3 == usize::from(class) { 220 } else { (k * (i + 1) % 97) as u8 };
                let image = equimod::data::Image::new(size, (0..size.area() * 3).map(value).collect()).unwrap();
                self.write(&format!("{name}/class{class}/{i}.png"), image.encode_png().unwrap());
            }
        }
        self.path(name)
    }

    /// Starts the binary in the folder; its messages go to the file `stderr.txt`.
    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_equimod"));
        let messages = fs::File::create(self.path("stderr.txt")).unwrap();
        command.args(arguments).current_dir(self.folder()).stdout(Stdio::null()).stderr(messages);
        command.spawn().unwrap()
    }

    /// Starts the binary, and waits until the file `begun` is there.
    pub fn start_until(&self, arguments: &[&str], begun: &str) -> Child {
        let (mut child, file, start) = (self.start(arguments), self.path(begun), Instant::now());
        while !file.is_file() && child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(300), "{begun} does not appear");
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_equimod"));
        let unset = ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HUB_CACHE", "RUST_BACKTRACE"];
        for name in unset.into_iter().chain(["MLFLOW_TRACKING_URI"]) {
            command.env_remove(name);
        }
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.env("HF_HOME", self.path("hf")).envs(environment);
        let output = command.args(arguments).current_dir(self.folder()).output().unwrap();
        for bytes in [&output.stdout, &output.stderr] {
            self.said.borrow_mut().push_str(&String::from_utf8_lossy(bytes));
        }
        output
    }

    /// Runs a call that succeeds, and returns stdout.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a call that must fail with the code, one `error:` and every part of the text.
    pub fn refused(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert_eq!(text.matches("error: ").count(), 1, "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?}: {part:?} is not in {text}");
        }
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    String::from_utf8_lossy(&path.as_os_str().to_string_lossy().into_owned().into_bytes()).into_owned()
}

/// Asks a process to stop, and returns its exit code.
pub fn terminate(mut child: Child) -> Option<i32> {
    // As `timeout` does, to a process and to its group.
    for _ in 0..2 {
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    }
    child.wait().unwrap().code()
}
