//! Programs that cargo builds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// A program that cargo has built, with the name of its target.
#[derive(Debug, PartialEq)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
}

/// Builds with cargo, and returns the programs.
///
/// # Errors
///
/// If cargo fails.
pub fn build(arguments: &[&str], environment: &[(&str, OsString)]) -> anyhow::Result<Vec<Program>> {
    eprintln!("» cargo {}", arguments.join(" "));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).args(["--message-format", "json-render-diagnostics"]);
    cargo.envs(environment.iter().map(|(name, value)| (name, value))).stderr(Stdio::inherit());
    let output = cargo.output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo {} failed, for the reason above", arguments.join(" "));
    built(&String::from_utf8_lossy(&output.stdout))
}

/// The path of the program with this name.
///
/// # Errors
///
/// If there is none.
pub fn find<'a>(programs: &'a [Program], name: &str) -> anyhow::Result<&'a Path> {
    let program = programs.iter().find(|program| program.name == name);
    Ok(&program.with_context(|| format!("cargo has built no program of the target {name}"))?.path)
}

/// Programs in cargo's messages.
fn built(messages: &str) -> anyhow::Result<Vec<Program>> {
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("cannot read a message of cargo")?;
        if let (Some(name), Some(path)) = (message["target"]["name"].as_str(), message["executable"].as_str()) {
            found.push(Program { name: name.replace('-', "_"), path: path.into() });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Program, built, find};
    use std::path::Path;

    #[test]
    fn programs_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"candle_core"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"equimod-core"},"executable":"/t/deps/equimod_core-1"}
{"reason":"build-finished","success":true}"#;
        let programs = built(messages).unwrap();
        assert_eq!(programs, [Program { name: "equimod_core".into(), path: "/t/deps/equimod_core-1".into() }]);
        assert_eq!(find(&programs, "equimod_core").unwrap(), Path::new("/t/deps/equimod_core-1"));
        assert!(find(&programs, "candle_core").is_err());
        assert!(built("no JSON").is_err());
    }
}
