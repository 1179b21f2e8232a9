//! The processes of a run, and the machines that they share.

use std::fs;
use std::path::Path;

use equimod_core::agreement::gather_bytes;
use equimod_core::{Collective, Result};

/// A process of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    /// Its machine, or the part of it with process numbers of its own.
    host: String,
    /// Its number there.
    process: u32,
    /// The processors on which it may run.
    processors: String,
}

impl Peer {
    /// This process.
    fn own() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let host = format!("{} {} {}", gethostname::gethostname().to_string_lossy(), boot.trim(), space.display());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let processors = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        Self { host, process: std::process::id(), processors: processors.trim().to_owned() }
    }

    fn to_text(&self) -> String {
        format!("{}\n{}\n{}", self.host, self.process, self.processors)
    }

    fn of_text(text: &str) -> Option<Self> {
        let mut lines = text.split('\n').map(str::to_owned);
        Some(Self { host: lines.next()?, process: lines.next()?.parse().ok()?, processors: lines.next()? })
    }
}

/// Place of a process among those on its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of this process on its machine, counted from 0.
    pub local_rank: usize,
    /// Number of processes on the machine.
    pub local_size: usize,
    /// Number of processes, with this one, that may run on the same processors.
    pub sharing: usize,
}

/// All processes of a run, in the order of ranks.
#[derive(Clone, Debug)]
pub struct Peers {
    rank: usize,
    all: Vec<Option<Peer>>,
}

impl Peers {
    /// This process alone, before it knows the others.
    pub fn unknown(rank: usize, size: usize) -> Self {
        Self { rank, all: vec![None; size] }
    }

    /// Asks all processes.
    ///
    /// # Errors
    ///
    /// If communication fails.
    pub fn meet(collective: &dyn Collective) -> Result<Self> {
        let all = gather_bytes(Peer::own().to_text().as_bytes(), collective)?;
        let all = all.iter().map(|bytes| Peer::of_text(&String::from_utf8_lossy(bytes))).collect();
        Ok(Self { rank: collective.rank(), all })
    }

    /// The place of this process.
    pub fn place(&self) -> Place {
        let own = self.all.get(self.rank).cloned().flatten();
        let here = |peer: &&Peer| own.as_ref().is_some_and(|own| peer.host == own.host);
        let local: Vec<&Peer> = self.all.iter().flatten().filter(here).collect();
        let before = self.all.iter().take(self.rank).flatten().filter(here).count();
        let sharing = local.iter().filter(|peer| own.as_ref().is_some_and(|own| peer.processors == own.processors));
        Place { local_rank: before, local_size: local.len().max(1), sharing: sharing.count().max(1) }
    }

    /// A process on this machine that has ended.
    pub fn ended(&self) -> Option<usize> {
        let own = self.all.get(self.rank)?.as_ref()?;
        let others = self.all.iter().enumerate().filter(|(rank, _)| *rank != self.rank);
        let gone = |peer: &Peer| peer.host == own.host && has_ended(peer.process);
        others
            .filter_map(|(rank, peer)| Some((rank, peer.as_ref()?)))
            .find(|(_, peer)| gone(peer))
            .map(|(rank, _)| rank)
    }
}

/// Whether a process of this machine has ended, or waits to be removed from the system's table; false where the system
/// has no table in `/proc`.
fn has_ended(process: u32) -> bool {
    if !Path::new("/proc/self/stat").exists() {
        return false;
    }
    match fs::read_to_string(format!("/proc/{process}/stat")) {
        // The name, in parentheses, may hold anything.
        Ok(text) => text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn peer(host: &str, process: u32, processors: &str) -> Option<Peer> {
        Some(Peer { host: host.into(), process, processors: processors.into() })
    }

    #[test]
    fn ranks_are_counted_by_machine() {
        let all = vec![peer("a", 1, "0-1"), peer("b", 1, "0-3"), peer("a", 2, "2-3"), peer("b", 2, "0-3")];
        let place = |rank| Peers { rank, all: all.clone() }.place();
        assert_eq!(place(2), Place { local_rank: 1, local_size: 2, sharing: 1 });
        assert_eq!(place(3), Place { local_rank: 1, local_size: 2, sharing: 2 });
        assert_eq!(Peers::unknown(1, 2).place(), Place { local_rank: 0, local_size: 1, sharing: 1 });
        let text = all[0].clone().unwrap().to_text();
        assert_eq!(Peer::of_text(&text), all[0]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_ended_is_noticed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let own = Peer::own();
        let child_peer = Some(Peer { process: child.id(), ..own.clone() });
        let peers = Peers { rank: 0, all: vec![Some(own), child_peer, peer("elsewhere", u32::MAX, "")] };
        assert_eq!(peers.ended(), None);
        child.kill().unwrap();
        while peers.ended() != Some(1) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.wait().unwrap();
        assert_eq!(peers.ended(), Some(1));
    }
}
