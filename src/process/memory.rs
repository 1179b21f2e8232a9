//! Memory of the machine, the control group's limit on it, and the limit of locked memory.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Memory in bytes.
#[derive(Clone, Copy, Serialize)]
pub struct Memory {
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// Memory that this process can still take, within the control group's limit.
    pub memory_available_bytes: Option<u64>,
    /// Limit of the control group, if it is below the machine's memory.
    pub memory_limit_bytes: Option<u64>,
}

impl Memory {
    /// Memory of this machine, as Linux reports it.
    pub fn measured() -> Self {
        let meminfo = read("/proc/meminfo").unwrap_or_default();
        let (total, free) = (kibibytes(&meminfo, "MemTotal:"), kibibytes(&meminfo, "MemAvailable:"));
        let groups = read("/proc/self/cgroup").unwrap_or_default();
        let mut limits = limits_of(Path::new("/sys/fs/cgroup"), &groups);
        limits.retain(|limit| total.is_none_or(|total| limit.most < total));
        let left = limits.iter().map(Limit::left).min();
        Self {
            memory_bytes: total,
            memory_available_bytes: [free, left].into_iter().flatten().min(),
            memory_limit_bytes: limits.iter().map(|limit| limit.most).min(),
        }
    }
}

/// Value of a line `KEY 123 kB` in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Limit of a control group, in bytes.
struct Limit {
    most: u64,
    /// Memory in use that is not a cache of files.
    used: u64,
}

impl Limit {
    fn left(&self) -> u64 {
        self.most.saturating_sub(self.used)
    }

    /// Limit of the control group with this folder, from the files for limit and usage and the key for cached files.
    fn of(folder: &Path, [most, used, cached]: [&str; 3]) -> Option<Self> {
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
        let stat = text("memory.stat").unwrap_or_default();
        let cached = stat.lines().find_map(|line| line.strip_prefix(cached)?.trim().parse::<u64>().ok());
        // Without a limit, the second version's file says "max".
        let most = number(most)?;
        Some(Self { most, used: number(used).unwrap_or(0).saturating_sub(cached.unwrap_or(0)) })
    }
}

/// Files of limit and usage, and the key of cached files in `memory.stat`, in both versions of control groups.
const VERSION_1: [&str; 3] = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "];
const VERSION_2: [&str; 3] = ["memory.max", "memory.current", "inactive_file "];

/// Limits of the process's control groups and all above them. `groups` is the text of `/proc/self/cgroup`.
fn limits_of(root: &Path, groups: &str) -> Vec<Limit> {
    let mut limits = Vec::new();
    for group in groups.lines() {
        let mut fields = group.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, files) = match controllers {
            "" => (root.to_owned(), VERSION_2),
            names if names.split(',').any(|name| name == "memory") => (root.join("memory"), VERSION_1),
            _ => continue,
        };
        let path: PathBuf = path.trim_start_matches('/').into();
        // Within a container, the path may not exist, but its root does.
        limits.extend(path.ancestors().filter_map(|path| Limit::of(&root.join(path), files)));
    }
    limits
}

/// Bytes in MiB, or in GiB from one on.
pub fn mebibytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 { format!("{mebibytes:.0} MiB") } else { format!("{:.1} GiB", mebibytes / 1024.0) }
}

/// Peak memory of a run; one that was killed did not record it.
pub fn peak(bytes: u64) -> String {
    if bytes == 0 { "not recorded".into() } else { mebibytes(bytes) }
}

/// Text of a file, if there is one.
pub fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Limit of the memory that a process may lock, from which buffers for transfers to a GPU are taken.
#[derive(Clone, Copy, Serialize)]
pub struct Locked {
    /// Limit in bytes, if there is one.
    locked_memory_bytes: Option<u64>,
    /// Whether there is no limit.
    locked_memory_unlimited: Option<bool>,
}

impl Locked {
    /// Limit of this process, as Linux reports it.
    pub fn of_process() -> Self {
        Self::parsed(&read("/proc/self/limits").unwrap_or_default())
    }

    fn parsed(limits: &str) -> Self {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        let soft = line.and_then(|line| line.split_whitespace().next());
        let bytes = soft.and_then(|soft| soft.parse().ok());
        Self { locked_memory_bytes: bytes, locked_memory_unlimited: soft.map(|soft| soft == "unlimited") }
    }
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.locked_memory_unlimited, self.locked_memory_bytes) {
            (Some(true), _) => f.write_str("unlimited"),
            (_, Some(bytes)) => write!(f, "at most {} (`ulimit -l`)", mebibytes(bytes)),
            _ => f.write_str("unknown: this system does not tell"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_limits_memory() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "4096\n");
        write("a/memory.current", "3000\n");
        write("a/memory.stat", "anon 1\ninactive_file 1000\n");
        write("a/b/memory.max", "max\n");
        write("memory/memory.limit_in_bytes", "8192\n");
        write("memory/memory.usage_in_bytes", "100\n");
        let limits = |groups: &str| -> Vec<(u64, u64)> {
            limits_of(folder.path(), groups).iter().map(|limit| (limit.most, limit.left())).collect()
        };
        assert_eq!(limits("0::/a/b\n"), [(4096, 2096)]);
        assert_eq!(limits("5:cpu:/x\n4:hugetlb,memory:/gone/for/long\n"), [(8192, 8092)]);
        assert_eq!(limits("nonsense\n"), []);
    }

    #[test]
    fn limits_of_linux_are_read() {
        assert_eq!(kibibytes("MemTotal:       24684092 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(24_684_092 * 1024));
        assert_eq!(kibibytes("MemTotal: many\n", "MemTotal:"), None);
        let limits =
            |soft: &str| format!("Limit  Soft  Hard  Units\nMax locked memory     {soft}   unlimited   bytes\n");
        assert_eq!(Locked::parsed(&limits("8388608")).to_string(), "at most 8 MiB (`ulimit -l`)");
        assert_eq!(Locked::parsed(&limits("unlimited")).to_string(), "unlimited");
        assert!(Locked::parsed("").to_string().starts_with("unknown"));
    }
}
