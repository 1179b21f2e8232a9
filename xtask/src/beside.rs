//! Commands that run beside other steps.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::steps::took;

/// A command that runs beside other steps. Its output goes to a file, which is shown when the command ends.
///
/// A command whose end is not awaited is killed.
pub struct Beside {
    name: String,
    child: Child,
    output: PathBuf,
    start: Instant,
}

impl Beside {
    /// Starts a command, whose output goes to the file `target/check/NAME.log`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or the command cannot be started.
    pub fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        Self::start_in(Path::new("target/check"), name, command)
    }

    fn start_in(folder: &Path, name: &str, command: &mut Command) -> anyhow::Result<Self> {
        eprintln!("» {name}, in the background");
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let output = folder.join(format!("{}.log", name.replace(' ', "-")));
        let file = File::create(&output).with_context(|| format!("cannot write {}", output.display()))?;
        let errors = file.try_clone().with_context(|| format!("cannot write {}", output.display()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {program} for {name}"))?;
        Ok(Self { name: name.to_owned(), child, output, start: Instant::now() })
    }

    /// Waits for the command's end and shows its output.
    ///
    /// # Errors
    ///
    /// If the command failed.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        let output = fs::read(&self.output).with_context(|| format!("cannot read {}", self.output.display()))?;
        eprintln!("» {}\n{}", self.name, String::from_utf8_lossy(&output).trim_end());
        if !status.success() {
            bail!("{} failed ({status}), for the reason above", self.name);
        }
        took(&format!("{}, until awaited", self.name), self.start.elapsed());
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Both fail if the command has ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::Beside;
    use std::path::PathBuf;
    use std::process::Command;
    use std::time::{Duration, Instant};

    /// A shell's script in a folder of its own, which is removed at the end.
    struct Script(PathBuf, Beside);

    fn start(name: &str, script: &str) -> Script {
        let folder = std::env::temp_dir().join(format!("beside-{name}-{}", std::process::id()));
        let beside = Beside::start_in(&folder, name, Command::new("sh").args(["-c", script])).unwrap();
        Script(folder, beside)
    }

    #[test]
    fn a_failure_is_reported() {
        for (code, fails) in [(0, false), (9, true)] {
            let Script(folder, beside) = start(&format!("exit-{code}"), &format!("echo said; exit {code}"));
            let output = beside.output.clone();
            let error = beside.finish().err().map(|error| error.to_string());
            assert_eq!(error.is_some(), fails, "{error:?}");
            assert_eq!(std::fs::read_to_string(output).unwrap(), "said\n");
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn a_command_that_nobody_awaits_is_killed() {
        let begin = Instant::now();
        let Script(folder, beside) = start("killed", "exec sleep 60");
        let process = PathBuf::from(format!("/proc/{}", beside.child.id()));
        drop(beside);
        assert!(begin.elapsed() < Duration::from_secs(30));
        assert!(!process.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
