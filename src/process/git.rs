//! State of the git repository around the working directory.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use equimod_train::GitState;

/// Longest time that git may take, for instance on a slow network drive.
const LONGEST: Duration = Duration::from_secs(10);

/// State of the repository; `None` without a repository, a commit or git itself, and if git takes too long.
pub fn state() -> Option<GitState> {
    let arguments = ["--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no"];
    let mut command = Command::new("git");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut output = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.read_to_end(&mut bytes).map(|_| bytes);
        // Nobody waits any more if git took too long.
        let _ = sender.send(read);
    });
    let Ok(read) = receiver.recv_timeout(LONGEST) else {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    };
    let done = child.wait().is_ok_and(|status| status.success());
    parse(&String::from_utf8_lossy(&read.ok()?)).filter(|_| done)
}

/// State from the output of `git status --porcelain=v2 --branch`.
fn parse(text: &str) -> Option<GitState> {
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix("# branch.")?.strip_prefix(name));
    let commit = header("oid ").filter(|commit| *commit != "(initial)")?.to_owned();
    let branch = header("head ").filter(|branch| *branch != "(detached)").map(str::to_owned);
    Some(GitState { commit, branch, dirty: text.lines().any(|line| !line.starts_with('#')) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_parsed() {
        let state = |branch: Option<&str>, dirty| {
            Some(GitState { commit: "c0ffee".into(), branch: branch.map(str::to_owned), dirty })
        };
        assert_eq!(parse("# branch.oid c0ffee\n# branch.head main\n"), state(Some("main"), false));
        let changed = "# branch.oid c0ffee\n# branch.head (detached)\n1 .M N... 100644 100644 100644 a a src/main.rs\n";
        assert_eq!(parse(changed), state(None, true));
        assert_eq!(parse("# branch.oid (initial)\n# branch.head main\n"), None);
        assert_eq!(parse(""), None);
    }
}
