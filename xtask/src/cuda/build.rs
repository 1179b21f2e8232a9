//! Compilations that are done again only when their sources or their commands have changed.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::parallel::two_at_a_time;

/// A command that makes a file of others.
pub struct Job {
    pub output: PathBuf,
    /// Files whose contents count.
    pub inputs: Vec<PathBuf>,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

impl Job {
    /// A number that changes with the command and the contents of the inputs.
    fn fingerprint(&self) -> anyhow::Result<String> {
        let mut hasher = DefaultHasher::new();
        self.program.hash(&mut hasher);
        self.arguments.hash(&mut hasher);
        for input in &self.inputs {
            let contents = fs::read(input).with_context(|| format!("cannot read {}", input.display()))?;
            contents.hash(&mut hasher);
        }
        Ok(format!("{:016x}", hasher.finish()))
    }

    /// The file beside the output that holds the fingerprint of its making.
    fn record(&self) -> PathBuf {
        let mut name = self.output.clone().into_os_string();
        name.push(".made");
        PathBuf::from(name)
    }

    fn is_done(&self) -> anyhow::Result<bool> {
        let made = fs::read_to_string(self.record()).ok();
        Ok(self.output.exists() && made == Some(self.fingerprint()?))
    }

    fn run(&self) -> anyhow::Result<()> {
        let fingerprint = self.fingerprint()?;
        let output = Command::new(&self.program).args(&self.arguments).output();
        let output = output.with_context(|| format!("cannot start {}; install it", self.program.display()))?;
        if !output.status.success() {
            let messages = String::from_utf8_lossy(&output.stderr);
            bail!("{} cannot make {}:\n{messages}", self.program.display(), self.output.display());
        }
        fs::write(self.record(), fingerprint).with_context(|| format!("cannot write {}", self.record().display()))
    }
}

/// Runs the jobs that have something to do.
///
/// # Errors
///
/// If an input cannot be read, or a command fails.
pub fn run(jobs: &[Job]) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for job in jobs {
        if !job.is_done()? {
            stale.push(job);
        }
    }
    two_at_a_time(stale, Job::run)
}

/// Files of a folder whose names end with one of the extensions, in order.
///
/// # Errors
///
/// If the folder cannot be listed.
pub fn files(folder: &Path, extensions: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extensions.contains(&extension)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a file, unless it has these contents.
///
/// # Errors
///
/// If it cannot be written.
pub fn write(file: &Path, contents: &str) -> anyhow::Result<()> {
    match fs::read_to_string(file).is_ok_and(|old| old == contents) {
        true => Ok(()),
        false => fs::write(file, contents).with_context(|| format!("cannot write {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Job, files, run, write};
    use std::fs;

    #[test]
    fn jobs_run_when_their_inputs_change() {
        let folder = std::env::temp_dir().join(format!("jobs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let input = folder.join("in.txt");
        write(&input, "one").unwrap();
        let log = folder.join("log.txt");
        let command = format!("cp {0}/in.txt {0}/out.txt; echo run >>{0}/log.txt", folder.display());
        let job = Job {
            output: folder.join("out.txt"),
            inputs: vec![input.clone()],
            program: "sh".into(),
            arguments: vec!["-c".into(), command.into()],
        };
        let jobs = [job];
        for (contents, runs) in [("one", 1), ("one", 1), ("two", 2)] {
            write(&input, contents).unwrap();
            run(&jobs).unwrap();
            assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), runs, "{contents}");
            assert_eq!(fs::read_to_string(folder.join("out.txt")).unwrap(), contents);
        }
        assert_eq!(files(&folder, &["txt"]).unwrap().len(), 3);
        fs::remove_file(&input).unwrap();
        assert!(run(&jobs).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
