//! Processes that a launcher such as torchrun started: what its variables say, and how they get NCCL's identifier.
//!
//! The first process listens at `MASTER_ADDR` and a port, and gives the identifier to every other process that knows the
//! launcher's name of the run. Nothing else is sent there.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::process::exit::Usage;

/// First bytes of a process that asks.
const GREETING: &[u8; 8] = b"equimod1";
/// Longest name of a run that is compared.
const NAME_BYTES: usize = 64;
/// Interval between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(100);
/// Longest time that a connected process may take for its greeting.
const GREETING_TIME: Duration = Duration::from_secs(1);
/// Longest time that a process waits for its turn.
const TURN: Duration = Duration::from_secs(30);
/// Last byte of a process that has got the identifier.
const THANKS: [u8; 1] = [1];

/// This process among those of its launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// Rank of this process.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Number of this process on its machine, counted from 0.
    pub local_rank: usize,
    /// Number of processes on this machine.
    pub local_size: usize,
    /// Host of the first process.
    host: String,
    /// Port of the first process.
    port: u16,
    /// Name of the run, which tells it from others of the same launcher.
    name: String,
}

impl Rendezvous {
    /// This process by the variables of its launcher.
    ///
    /// # Errors
    ///
    /// If a variable is missing or makes no sense.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let text = |name: &str| {
            let missing = || Usage(format!("the launcher of this process does not set {name}; torchrun does"));
            variable(name).ok_or_else(missing)
        };
        let number = |name: &str| -> anyhow::Result<usize> {
            let text = text(name)?;
            Ok(text.parse().map_err(|_| Usage(format!("{name} is {text:?}, which is no number")))?)
        };
        let (rank, size, local_rank) = (number("RANK")?, number("WORLD_SIZE")?, number("LOCAL_RANK")?);
        let port = number("MASTER_PORT")?;
        // The launcher itself listens at its port.
        let is_taken = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let port = u16::try_from(port + usize::from(is_taken)).ok().filter(|port| *port > 0);
        let wrong = || Usage("MASTER_PORT is no port that has another one above it".into());
        ensure!(rank < size, Usage(format!("RANK is {rank}, and WORLD_SIZE {size}")));
        let local_size = number("LOCAL_WORLD_SIZE")?;
        ensure!(
            local_rank < local_size,
            Usage(format!("LOCAL_RANK is {local_rank}, and LOCAL_WORLD_SIZE {local_size}"))
        );
        Ok(Self {
            rank,
            size,
            local_rank,
            local_size,
            host: text("MASTER_ADDR")?,
            port: port.ok_or_else(wrong)?,
            name: variable("TORCHELASTIC_RUN_ID").unwrap_or_default().chars().take(NAME_BYTES / 4).collect(),
        })
    }

    /// The identifier that the first process makes with `new`, on every process.
    ///
    /// # Errors
    ///
    /// If it cannot be made, the address cannot be used, or a process does not come within `limit`.
    pub fn share<const N: usize>(
        &self,
        new: impl FnOnce() -> anyhow::Result<[u8; N]>,
        limit: Duration,
    ) -> anyhow::Result<[u8; N]> {
        if self.rank == 0 {
            let id = new()?;
            self.give(&id, limit)?;
            return Ok(id);
        }
        self.ask(limit)
    }

    /// Gives the identifier to all other processes.
    fn give(&self, id: &[u8], limit: Duration) -> anyhow::Result<()> {
        let Self { host, port, .. } = self;
        let listener = TcpListener::bind((host.as_str(), *port));
        let advice = "MASTER_ADDR has to be an address of this machine, and the port free";
        let listener = listener.with_context(|| format!("cannot listen at {host}:{port}: {advice}"))?;
        listener.set_nonblocking(true)?;
        let (start, mut served) = (Instant::now(), vec![false; self.size]);
        served[0] = true;
        while let Some(missing) = served.iter().position(|served| !served) {
            match listener.accept() {
                // Others than the run's processes are turned away.
                Ok((stream, _)) => {
                    if let Ok(rank) = self.serve(stream, id) {
                        served[rank] = true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(AGAIN),
                Err(error) => return Err(error).with_context(|| format!("cannot listen at {host}:{port}")),
            }
            if start.elapsed() > limit {
                bail!("process {missing} did not come to {host}:{port} within {} s", limit.as_secs());
            }
        }
        Ok(())
    }

    /// Answers a process of this run, and returns its rank.
    fn serve(&self, mut stream: TcpStream, id: &[u8]) -> io::Result<usize> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(GREETING_TIME))?;
        let mut greeting = vec![0; self.greeting(0).len()];
        stream.read_exact(&mut greeting)?;
        let known = (1..self.size).find(|&rank| greeting == self.greeting(rank));
        let rank = known.ok_or(ErrorKind::InvalidData)?;
        stream.write_all(id)?;
        // One that has gone meanwhile comes again.
        stream.read_exact(&mut [0; THANKS.len()])?;
        Ok(rank)
    }

    /// What the process with this rank says: that it is one of this run.
    fn greeting(&self, rank: usize) -> Vec<u8> {
        let mut name = self.name.clone().into_bytes();
        name.resize(NAME_BYTES, 0);
        [&GREETING[..], &name, &(self.size as u64).to_le_bytes(), &(rank as u64).to_le_bytes()].concat()
    }

    /// Asks the first process for the identifier, until it answers.
    fn ask<const N: usize>(&self, limit: Duration) -> anyhow::Result<[u8; N]> {
        let Self { host, port, .. } = self;
        let start = Instant::now();
        loop {
            match self.try_to_ask() {
                Ok(id) => return Ok(id),
                Err(error) if start.elapsed() > limit => {
                    let text = format!(
                        "the first process does not answer at {host}:{port}, or is one of another run: {error}"
                    );
                    return Err(anyhow::Error::from(error).context(text));
                }
                Err(_) => sleep(AGAIN),
            }
        }
    }

    fn try_to_ask<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TURN) {
                Ok(mut stream) => {
                    stream.set_read_timeout(Some(TURN))?;
                    stream.write_all(&self.greeting(self.rank))?;
                    let mut id = [0; N];
                    stream.read_exact(&mut id)?;
                    stream.write_all(&THANKS)?;
                    return Ok(id);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLES: [(&str, &str); 7] = [
        ("RANK", "3"),
        ("WORLD_SIZE", "4"),
        ("LOCAL_RANK", "1"),
        ("LOCAL_WORLD_SIZE", "2"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29500"),
        ("TORCHELASTIC_RUN_ID", "a run"),
    ];

    fn of(changes: &[(&str, Option<&str>)]) -> anyhow::Result<Rendezvous> {
        let changed =
            |name: &str| changes.iter().find(|(key, _)| *key == name).map(|(_, value)| value.map(str::to_owned));
        let value = |name: &str| VARIABLES.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Rendezvous::of(|name| changed(name).unwrap_or_else(|| value(name)))
    }

    #[test]
    fn variables_of_a_launcher_are_read_or_refused() {
        let all = of(&[]).unwrap();
        assert_eq!((all.rank, all.size, all.local_rank, all.local_size, all.port), (3, 4, 1, 2, 29500));
        // torchrun's own store has the port.
        assert_eq!(of(&[("TORCHELASTIC_USE_AGENT_STORE", Some("True"))]).unwrap().port, 29501);
        for (name, value, reason) in [
            ("MASTER_ADDR", None, "does not set MASTER_ADDR"),
            ("LOCAL_WORLD_SIZE", None, "does not set LOCAL_WORLD_SIZE"),
            ("LOCAL_RANK", Some("one"), "LOCAL_RANK is \"one\""),
            ("MASTER_PORT", Some("70000"), "MASTER_PORT"),
            ("RANK", Some("4"), "RANK is 4"),
        ] {
            let error = of(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    /// A port that nobody uses.
    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn process(rank: usize, size: usize, port: u16, name: &str) -> Rendezvous {
        Rendezvous { rank, size, port, name: name.into(), ..of(&[]).unwrap() }
    }

    #[test]
    fn every_process_of_the_run_gets_the_identifier_and_no_other_one() {
        let (port, limit) = (free_port(), Duration::from_secs(30));
        let id: [u8; 128] = std::array::from_fn(|place| place as u8);
        let share = move |rank: usize| move || process(rank, 3, port, "ours").share(|| Ok(id), limit);
        let others = [1, 2].map(|rank| std::thread::spawn(share(rank)));
        // A process of another run, one that says nothing, and one that goes away.
        let stranger = std::thread::spawn(move || process(1, 3, port, "theirs").share(|| Ok(id), AGAIN));
        sleep(3 * AGAIN);
        let first = std::thread::spawn(share(0));
        let silent = TcpStream::connect(("127.0.0.1", port));
        drop(TcpStream::connect(("127.0.0.1", port)));
        assert_eq!(first.join().unwrap().unwrap(), id);
        for other in others {
            assert_eq!(other.join().unwrap().unwrap(), id);
        }
        drop(silent);
        assert!(stranger.join().unwrap().unwrap_err().to_string().contains("one of another run"));
    }

    #[test]
    fn a_process_that_does_not_come_is_named() {
        let port = free_port();
        let error = process(0, 2, port, "").share(|| Ok([0; 128]), AGAIN).unwrap_err().to_string();
        assert!(error.starts_with("process 1 did not come"), "{error}");
    }
}
