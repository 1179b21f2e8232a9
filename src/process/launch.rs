//! The processes that a launcher such as `mpirun` or `srun` started together with this one.

#[cfg(feature = "mpi")]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
#[cfg(feature = "mpi")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "mpi")]
use crate::mpi::Processes;
use candle_core::Device;
use equimod_core::SharedCollective;
#[cfg(feature = "nccl")]
use equimod_core::nccl;
#[cfg(feature = "mpi")]
use equimod_core::{FailureCause, RankFailure};

#[cfg(feature = "mpi")]
use crate::process::between_gpus::between_gpus;
use crate::process::device;
use crate::process::exit::Usage;
#[cfg(feature = "nccl")]
use crate::process::rendezvous::Rendezvous;
#[cfg(feature = "mpi")]
use crate::process::{exit, failure::InWords};

/// Way to a build with MPI.
pub const MPI_BUILD: &str = "`cargo build --release --features mpi` builds it with MPI";

/// What connects the processes of a launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Mpi,
    /// NCCL, whose identifier is passed on over TCP.
    Nccl,
}

/// A launcher and the number of processes that it started, by the variables that it sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Launcher {
    name: &'static str,
    processes: usize,
    connection: Connection,
}

/// The variable of each launcher that holds the number of processes, for `srun` those of one step: the shell of an
/// allocation, and the script of a job, are alone in theirs.
const LAUNCHERS: [(&str, &str, Connection); 5] = [
    ("OMPI_COMM_WORLD_SIZE", "mpirun", Connection::Mpi),
    ("PMI_SIZE", "mpiexec", Connection::Mpi),
    ("MV2_COMM_WORLD_SIZE", "mpirun", Connection::Mpi),
    ("SLURM_STEP_NUM_TASKS", "srun", Connection::Mpi),
    ("WORLD_SIZE", "a launcher that sets WORLD_SIZE", Connection::Nccl),
];

impl Launcher {
    /// The launcher of several processes by the variables of the environment; `None` for a process on its own.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let found = |(name, launcher, connection): (&str, &'static str, Connection)| {
            // Without a rank it is the variable of something else.
            let is_set = name != "WORLD_SIZE" || variable("RANK").is_some();
            let processes = variable(name).filter(|_| is_set)?.parse::<usize>().ok()?;
            Some(Self { name: launcher, processes, connection }).filter(|_| processes > 1)
        };
        // torchrun may itself have been started by srun, once on each machine.
        let of_torchrun = variable("TORCHELASTIC_RUN_ID").is_some();
        let torchrun = LAUNCHERS.into_iter().filter(|_| of_torchrun).rev().take(1);
        torchrun.chain(LAUNCHERS).find_map(found)
    }

    /// The reason why this build cannot train with the launcher's processes; `None` if it can.
    fn refusal(self, has: impl Fn(Connection) -> bool) -> Option<String> {
        let Self { name, processes, connection } = self;
        let started = format!("{name} started {processes} processes");
        match connection {
            _ if has(connection) => None,
            Connection::Mpi => Some(format!(
                "{started}, but this build lacks MPI, and each would train a run of its own; {MPI_BUILD}, and one \
                 process alone uses several devices with --device cuda:all"
            )),
            Connection::Nccl => Some(format!(
                "{started}, which this build cannot connect, because it lacks NCCL (--features cuda,nccl); start them \
                 with mpirun or srun and a build with MPI, or one process alone with --device cuda:all"
            )),
        }
    }
}

/// Refuses the processes of a launcher for a command that does all work in one.
///
/// # Errors
///
/// If a launcher started several.
pub fn refuse_several(command: &str) -> anyhow::Result<()> {
    let Some(Launcher { name, processes, .. }) = Launcher::of(|name| std::env::var(name).ok()) else { return Ok(()) };
    let text = format!(
        "{name} started {processes} processes, and each would do all of `equimod {command}`; start one, which uses several \
         devices with --device cuda:all"
    );
    Err(Usage(text).into())
}

/// This process among those of its launcher.
#[derive(Clone)]
pub enum Launch {
    /// A process on its own, whose ranks are threads.
    Alone,
    /// One of several processes, each of which is a rank.
    #[cfg(feature = "mpi")]
    Together(Arc<Processes>),
    /// One of several processes, each of which is a rank and has a GPU.
    #[cfg(feature = "nccl")]
    OnGpus(Rendezvous),
}

impl Launch {
    /// Joins the other processes, if a launcher started any.
    ///
    /// # Errors
    ///
    /// If they cannot communicate.
    pub fn join() -> anyhow::Result<Self> {
        let Some(launcher) = Launcher::of(|name| std::env::var(name).ok()) else { return Ok(Self::Alone) };
        let has = |connection| match connection {
            Connection::Mpi => cfg!(feature = "mpi"),
            Connection::Nccl => cfg!(feature = "nccl"),
        };
        match launcher.refusal(has) {
            Some(reason) => Err(Usage(reason).into()),
            None if launcher.connection == Connection::Nccl => on_gpus(),
            None => joined(launcher),
        }
    }

    /// Number of processes.
    pub fn processes(&self) -> usize {
        match self {
            Self::Alone => 1,
            #[cfg(feature = "mpi")]
            Self::Together(processes) => processes.size(),
            #[cfg(feature = "nccl")]
            Self::OnGpus(process) => process.size,
        }
    }

    /// Whether this process speaks and writes for all.
    pub fn is_first(&self) -> bool {
        match self {
            Self::Alone => true,
            #[cfg(feature = "mpi")]
            Self::Together(processes) => processes.rank() == 0,
            #[cfg(feature = "nccl")]
            Self::OnGpus(process) => process.rank == 0,
        }
    }

    /// The collective of this process and others, whose exchanges may take `timeout`; `None` if it is alone.
    ///
    /// # Errors
    ///
    /// If the processes, or their GPUs, cannot be connected.
    pub fn collective(&self, device: &Device, timeout: Duration) -> anyhow::Result<Option<SharedCollective>> {
        match self {
            Self::Alone => {
                let _ = (device, timeout);
                Ok(None)
            }
            #[cfg(feature = "mpi")]
            Self::Together(processes) => between_gpus(processes.collective(timeout), device, timeout).map(Some),
            #[cfg(feature = "nccl")]
            Self::OnGpus(process) => {
                let id = process.share(|| Ok(nccl::new_id()?), timeout)?;
                Ok(Some(nccl::connect_alone(&id, process.rank, process.size, device, timeout)?))
            }
        }
    }

    /// Does the work of this process. Several processes end together, after the work of all: if one fails, the others
    /// end with its exit code, and one process reports the reason.
    ///
    /// # Errors
    ///
    /// The failure of a process on its own.
    pub fn run(&self, verbose: bool, work: impl FnOnce() -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
        match self {
            Self::Alone => {
                let _ = verbose;
                work()
            }
            #[cfg(feature = "mpi")]
            Self::Together(processes) => run_together(processes, verbose, work),
            // The launcher ends the others.
            #[cfg(feature = "nccl")]
            Self::OnGpus(_) => work(),
        }
    }

    /// Opens the devices of this process's ranks: the one that its place on the machine gives it, if it is not alone.
    ///
    /// # Errors
    ///
    /// If there is no such device, or not one for each process of this machine.
    pub fn devices(&self, name: &str) -> anyhow::Result<Vec<Device>> {
        match self {
            Self::Alone => device::open_all(name),
            #[cfg(feature = "mpi")]
            Self::Together(processes) => {
                let place = processes.place();
                Ok(vec![device::open_one_of(name, place.local_rank, place.local_size)?])
            }
            #[cfg(feature = "nccl")]
            Self::OnGpus(process) => {
                let device = device::open_one_of(name, process.local_rank, process.local_size)?;
                let text = "processes of such a launcher exchange through NCCL; give --device cuda:all, or start them \
                            with mpirun or srun and a build with MPI";
                if device.is_cuda() { Ok(vec![device]) } else { Err(Usage(text.into()).into()) }
            }
        }
    }
}

#[cfg(not(feature = "nccl"))]
fn on_gpus() -> anyhow::Result<Launch> {
    Ok(Launch::Alone)
}

/// Takes a part of the machine's processors.
#[cfg(feature = "nccl")]
fn on_gpus() -> anyhow::Result<Launch> {
    let process = Rendezvous::of(|name| std::env::var(name).ok())?;
    share_processors(process.local_size);
    Ok(Launch::OnGpus(process))
}

/// Starts this process's part of the threads, if `sharing` processes may run on the same processors.
#[cfg(any(feature = "mpi", feature = "nccl"))]
fn share_processors(sharing: usize) {
    // Where --threads was given, the threads have been started, and this changes nothing.
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let _ = rayon::ThreadPoolBuilder::new().num_threads((available / sharing.max(1)).max(1)).build_global();
}

#[cfg(not(feature = "mpi"))]
fn joined(_: Launcher) -> anyhow::Result<Launch> {
    Ok(Launch::Alone)
}

/// Joins the other processes, and takes a part of the machine's processors.
#[cfg(feature = "mpi")]
fn joined(launcher: Launcher) -> anyhow::Result<Launch> {
    let processes = Processes::join()?;
    if processes.size() != launcher.processes {
        let Launcher { name, processes: started, .. } = launcher;
        return Err(Usage(format!(
            "{name} started {started} processes, but MPI connects {} of them; use the launcher of the MPI library of \
             this build, for srun with --mpi=pmix",
            processes.size()
        ))
        .into());
    }
    share_processors(processes.place().sharing);
    Ok(Launch::Together(Arc::new(processes)))
}

/// Does the work of one of several processes, and ends with the others.
#[cfg(feature = "mpi")]
fn run_together(
    processes: &Processes,
    verbose: bool,
    work: impl FnOnce() -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let done = catch_unwind(AssertUnwindSafe(|| {
        let code = work()?;
        processes.leave()?;
        Ok(code)
    }));
    let cause = match done {
        Ok(Ok(code)) => return Ok(code),
        Ok(Err(error)) => FailureCause::Error(error),
        Err(_) => FailureCause::Crash(exit::last_panic()),
    };
    let error = RankFailure { rank: processes.rank(), cause }.in_words(processes.size());
    let failure = processes.fail(exit::code_of(&error));
    if failure.reports {
        exit::of_error(&error, verbose);
    }
    processes.end_all(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Launcher> {
        Launcher::of(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn launchers_of_several_processes_are_noticed() {
        let launcher = |name, processes, connection| Some(Launcher { name, processes, connection });
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "2")]), launcher("mpirun", 2, Connection::Mpi));
        assert_eq!(of(&[("PMI_SIZE", "8")]), launcher("mpiexec", 8, Connection::Mpi));
        let srun = of(&[("SLURM_STEP_NUM_TASKS", "16"), ("SLURM_PROCID", "3")]);
        assert_eq!(srun, launcher("srun", 16, Connection::Mpi));
        let of_torch = launcher("a launcher that sets WORLD_SIZE", 4, Connection::Nccl);
        assert_eq!(of(&[("RANK", "0"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "host")]), of_torch);
        let variables =
            [("SLURM_STEP_NUM_TASKS", "2"), ("TORCHELASTIC_RUN_ID", "7"), ("RANK", "0"), ("WORLD_SIZE", "4")];
        assert_eq!(of(&variables), of_torch);
    }

    #[test]
    fn a_process_on_its_own_is_left_alone() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "1")]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "many")]), None);
        // A shell of an allocation with several tasks, and one that is a step of its own.
        assert_eq!(of(&[("SLURM_NTASKS", "8"), ("SLURM_JOB_ID", "7")]), None);
        assert_eq!(of(&[("SLURM_NTASKS", "1"), ("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_PROCID", "0")]), None);
        assert_eq!(of(&[("WORLD_SIZE", "4")]), None);
    }

    #[test]
    fn what_a_build_cannot_connect_is_refused_with_the_way_out() {
        let mpirun = of(&[("OMPI_COMM_WORLD_SIZE", "2")]).unwrap();
        let only = |own| move |connection| connection == own;
        assert_eq!(mpirun.refusal(only(Connection::Mpi)), None);
        let text = mpirun.refusal(only(Connection::Nccl)).unwrap();
        assert!(text.starts_with("mpirun started 2 processes, but this build lacks MPI"), "{text}");
        assert!(text.contains("--features mpi"), "{text}");
        let torch = of(&[("RANK", "0"), ("WORLD_SIZE", "4")]).unwrap();
        assert_eq!(torch.refusal(only(Connection::Nccl)), None);
        assert!(torch.refusal(only(Connection::Mpi)).unwrap().contains("--features cuda,nccl"));
    }
}
