//! Runs of several processes that an MPI launcher such as `mpirun` or `srun` starts, on one machine or several.
//!
//! A process [joins](Processes::join) the others, trains with their [collective](Processes::collective), and
//! [leaves](Processes::leave) together with them, or [fails](Processes::fail). Tensors meet in host memory, and sums are
//! added in the order of ranks, as in a [thread group](equimod_core::thread_group): the numbers of a run do not depend on
//! whether its ranks are processes or threads.

mod ending;
mod exchange;
mod link;
mod pause;
mod peers;
mod progress;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use candle_core::{Device, Tensor};
use equimod_core::reduce::on_host;
use equimod_core::request::Request;
use equimod_core::{Collective, CollectiveError, CollectiveResult, Exchange, Reduction, Result, SharedCollective};

pub use ending::Failure;
use link::Link;
use peers::Peers;
pub use peers::Place;
use progress::Progress;

/// Time limit of the exchange in which the processes get to know each other.
const MEETING: Duration = Duration::from_secs(300);

/// The processes of a run, as one of them sees them.
pub struct Processes {
    progress: Arc<Progress>,
    place: Place,
}

impl Processes {
    /// Starts the MPI library, and meets the other processes.
    ///
    /// # Errors
    ///
    /// If the library cannot be started or used from several threads, or a process does not come.
    pub fn join() -> Result<Self> {
        let link = Link::start()?;
        let unknown = Peers::unknown(link.rank, link.size);
        let meeting = MpiRank { progress: Arc::new(Progress::new(link, unknown)), timeout: MEETING };
        let peers = Peers::meet(&meeting)?;
        let place = peers.place();
        meeting.progress.know(peers);
        Ok(Self { progress: meeting.progress, place })
    }

    /// Rank of this process.
    pub fn rank(&self) -> usize {
        self.progress.rank
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.progress.size
    }

    /// Place of this process on its machine.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The collective of this process, whose exchanges may take `timeout`.
    pub fn collective(&self, timeout: Duration) -> SharedCollective {
        Arc::new(MpiRank { progress: self.progress.clone(), timeout })
    }

    /// Ends the library when all processes do so.
    ///
    /// # Errors
    ///
    /// If a process is lost.
    pub fn leave(&self) -> Result<()> {
        self.collective(MEETING).wait_for_all()?;
        self.progress.finish();
        Ok(())
    }
}

/// Handle of one process.
struct MpiRank {
    progress: Arc<Progress>,
    timeout: Duration,
}

impl MpiRank {
    /// Starts an exchange of tensors, which stay as they are until it is finished.
    fn start(&self, request: Request, tensors: &[Tensor]) -> CollectiveResult<Started> {
        let own = tensors.iter().map(on_host).collect::<candle_core::Result<Vec<_>>>()?;
        let forms = tensors.iter().map(|tensor| (tensor.dims().to_vec(), tensor.device().clone())).collect();
        let number = self.progress.start(request, own)?;
        Ok(Started { progress: self.progress.clone(), timeout: self.timeout, number, request, forms })
    }
}

impl Collective for MpiRank {
    fn rank(&self) -> usize {
        self.progress.rank
    }

    fn size(&self) -> usize {
        self.progress.size
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn all_reduce(&self, tensors: &[Tensor], reduction: Reduction) -> CollectiveResult<Vec<Tensor>> {
        self.start(Request::AllReduce(reduction), tensors)?.results()
    }

    fn all_gather(&self, tensor: &Tensor) -> CollectiveResult<Tensor> {
        let mut gathered = self.start(Request::AllGather, std::slice::from_ref(tensor))?.results()?;
        gathered.pop().ok_or_else(|| {
            let what = "no result for one tensor".to_owned();
            CollectiveError::Mismatch { operation: Request::AllGather.name(), what }
        })
    }

    fn broadcast(&self, tensors: &[Tensor], root: usize) -> CollectiveResult<Vec<Tensor>> {
        self.start(Request::Broadcast(root), tensors)?.results()
    }

    fn start_all_reduce(&self, tensors: Vec<Tensor>, reduction: Reduction) -> CollectiveResult<Box<dyn Exchange>> {
        Ok(Box::new(self.start(Request::AllReduce(reduction), &tensors)?))
    }

    fn wait_for_all(&self) -> CollectiveResult<()> {
        // One rank may do work of any length before it waits for the others.
        let unlimited = Self { progress: self.progress.clone(), timeout: Duration::MAX };
        unlimited.start(Request::WaitForAll, &[])?.results().map(|_| ())
    }

    fn waited(&self) -> Duration {
        self.progress.waited()
    }

    fn lost(&self) -> Option<usize> {
        self.progress.lost()
    }
}

/// An exchange under way.
struct Started {
    progress: Arc<Progress>,
    timeout: Duration,
    number: u64,
    request: Request,
    /// Shape and device of each tensor.
    forms: Vec<(Vec<usize>, Device)>,
}

impl Started {
    fn results(self) -> CollectiveResult<Vec<Tensor>> {
        let flat = self.progress.finished(self.number, self.request, self.timeout)?;
        let shaped = |(flat, (dims, device)): (Tensor, &(Vec<usize>, Device))| {
            let mut dims = dims.clone();
            if let (Request::AllGather, Some(rows)) = (self.request, dims.first_mut()) {
                *rows *= self.progress.size;
            }
            flat.reshape(dims)?.to_device(device)
        };
        Ok(flat.into_iter().zip(&self.forms).map(shaped).collect::<candle_core::Result<_>>()?)
    }
}

impl Exchange for Started {
    fn finish(self: Box<Self>) -> CollectiveResult<Vec<Tensor>> {
        self.results()
    }
}
