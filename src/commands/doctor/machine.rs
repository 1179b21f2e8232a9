//! The machine: operating system, CPU, memory. What the system does not tell is `None`.

use std::thread::available_parallelism;

use serde::Serialize;

use super::text::or_unknown;
use crate::process::memory::{Locked, Memory, mebibytes, read};

/// The machine as this process sees it.
#[derive(Serialize)]
pub struct Machine {
    system: Option<String>,
    cpu: Option<String>,
    /// Cores that this process may use.
    cores: Option<usize>,
    /// Compute threads.
    threads: usize,
    #[serde(flatten)]
    memory: Memory,
    #[serde(flatten)]
    locked: Locked,
}

impl Machine {
    /// Facts of this machine.
    pub fn new() -> Self {
        Self {
            system: system(),
            cpu: read("/proc/cpuinfo").as_deref().and_then(cpu_name),
            cores: available_parallelism().ok().map(Into::into),
            threads: rayon::current_num_threads(),
            memory: Memory::measured(),
            locked: Locked::of_process(),
        }
    }

    /// Names and values for people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let Memory { memory_bytes, memory_available_bytes, memory_limit_bytes } = self.memory;
        let amount = |bytes: Option<u64>| or_unknown(bytes.map(mebibytes));
        let mut memory = format!("{}, {} available", amount(memory_bytes), amount(memory_available_bytes));
        if let Some(limit) = memory_limit_bytes {
            memory += &format!("; the control group allows {}", mebibytes(limit));
        }
        let cores = or_unknown(self.cores.map(|cores| cores.to_string()));
        vec![
            ("system", or_unknown(self.system.clone())),
            ("cpu", or_unknown(self.cpu.clone())),
            ("cores", format!("{cores} for this process, {} compute threads", self.threads)),
            ("memory", memory),
            ("locked memory", self.locked.to_string()),
        ]
    }
}

/// Distribution and kernel, or the name of the operating system alone.
fn system() -> Option<String> {
    let name = read("/etc/os-release").as_deref().and_then(distribution);
    let kernel = read("/proc/sys/kernel/osrelease").map(|release| format!("Linux {}", release.trim()));
    let parts: Vec<String> = [name, kernel].into_iter().flatten().collect();
    Some(if parts.is_empty() { std::env::consts::OS.to_owned() } else { parts.join(", ") })
}

fn distribution(release: &str) -> Option<String> {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches(['"', '\'']).to_owned()).filter(|name| !name.is_empty())
}

/// Name of the first processor in `/proc/cpuinfo`; ARM's does not name any.
fn cpu_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_files_of_linux() {
        let cpuinfo = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9454\nmodel\t\t: 17\n";
        assert_eq!(cpu_name(cpuinfo).as_deref(), Some("AMD EPYC 9454"));
        assert_eq!(cpu_name("processor : 0\nBogoMIPS : 50.00\n"), None);
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(distribution(release).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(distribution("PRETTY_NAME=\"\"\n"), None);
    }
}
