//! NCCL: exchanges between GPUs that do not pass through the host, as a [`Collective`].
//!
//! [`connect`] builds on a collective that already connects the ranks, which may be threads or processes: it brings them
//! NCCL's identifier, and goes on exchanging what lies in host memory. [`connect_alone`] needs an identifier from
//! elsewhere, and sends all tensors through NCCL.
//!
//! All exchanges of a rank go to one stream beside that of its computation, in program order, and the computation waits
//! for their results on the device. The host waits for none of them.

mod communicator;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};

use crate::collective::{Collective, CollectiveResult, Exchange, Reduction, SharedCollective, check_number};
use crate::request::Request;
use crate::{Error, Result, host};
use communicator::{Communicator, Started};
pub use communicator::{ID_BYTES, Id, new_id};

/// A collective that sends tensors on a GPU through NCCL, in the same order on every rank.
///
/// Narrow floats are summed in f32. Sums of f32 and f64 are NCCL's, which adds in an order that depends on the number of
/// ranks and their connections.
struct Nccl {
    communicator: Communicator,
    /// Collective for tensors in host memory; without one, they go through the GPU.
    others: Option<SharedCollective>,
}

/// Connects the ranks of a collective, each of which has a GPU of its own. Every rank has to call this. What takes
/// longer than `timeout`, the connection or an exchange, ends in an error.
///
/// # Errors
///
/// If NCCL fails, or a rank is lost.
pub fn connect(others: SharedCollective, device: &Device, timeout: Duration) -> Result<SharedCollective> {
    let own = if others.is_first() { new_id()? } else { [0; ID_BYTES] };
    let shared = others.broadcast(&[Tensor::new(&own[..], &Device::Cpu)?], 0)?;
    check_number(&shared, 1)?;
    let id = host::bytes(&shared[0])?;
    let id = Id::try_from(id).map_err(|_| Error::internal("an identifier of NCCL has another length"))?;
    let (rank, size) = (others.rank(), others.size());
    let communicator = Communicator::open(&id, rank, size, device, timeout, Some(others.clone()))?;
    // A rank that went on could wait for the device as a whole while others still connect.
    others.all_reduce(&[], Reduction::Max)?;
    Ok(Arc::new(Nccl { communicator, others: Some(others) }))
}

/// Connects `size` ranks that know an identifier which one of them [made](new_id), each with a GPU of its own.
///
/// # Errors
///
/// If NCCL fails, or a rank does not come in time.
pub fn connect_alone(
    id: &Id,
    rank: usize,
    size: usize,
    device: &Device,
    timeout: Duration,
) -> Result<SharedCollective> {
    let communicator = Communicator::open(id, rank, size, device, timeout, None)?;
    communicator.wait_for_all()?;
    Ok(Arc::new(Nccl { communicator, others: None }))
}

impl Nccl {
    /// Starts an exchange of tensors through NCCL.
    fn start(&self, request: Request, tensors: &[Tensor]) -> CollectiveResult<Started> {
        let prepared = tensors.iter().map(|tensor| self.prepare(tensor, request));
        self.communicator.start(request, prepared.collect::<candle_core::Result<_>>()?)
    }

    /// The tensor as it is sent: contiguous, on the device, and of a type that NCCL adds exactly enough.
    fn prepare(&self, tensor: &Tensor, request: Request) -> candle_core::Result<Tensor> {
        let tensor = tensor.detach().to_device(self.communicator.device())?;
        let is_narrow = matches!(tensor.dtype(), DType::BF16 | DType::F16);
        let wide = if is_narrow && matches!(request, Request::AllReduce(_)) { DType::F32 } else { tensor.dtype() };
        tensor.to_dtype(wide)?.contiguous()
    }

    /// Exchanges tensors through NCCL. Computation on the device waits for the results, the host does not.
    fn exchange(&self, request: Request, tensors: &[Tensor]) -> CollectiveResult<Vec<Tensor>> {
        let results = as_given(self.start(request, tensors)?.finish()?, tensors)?;
        if tensors.iter().any(|tensor| tensor.device().is_cpu()) {
            // The host has read them.
            self.check()?;
        }
        Ok(results)
    }

    /// The collective for a tensor in host memory, if there is one.
    fn other(&self, tensor: &Tensor) -> Option<&SharedCollective> {
        self.others.as_ref().filter(|_| tensor.device().is_cpu())
    }

    /// Exchanges tensors through NCCL, but those in host memory through the other collective.
    fn divided(
        &self,
        request: Request,
        tensors: &[Tensor],
        other: impl Fn(&SharedCollective, &[Tensor]) -> CollectiveResult<Vec<Tensor>>,
    ) -> CollectiveResult<Vec<Tensor>> {
        let (host, device): (Vec<_>, Vec<_>) = tensors.iter().cloned().partition(|t| self.other(t).is_some());
        // Without tensors, the exchange is a meeting of the hosts.
        let of_host = match &self.others {
            Some(others) if device.is_empty() || !host.is_empty() => other(others, &host)?,
            _ => Vec::new(),
        };
        let of_device = if device.is_empty() { Vec::new() } else { self.exchange(request, &device)? };
        let (mut of_host, mut of_device) = (of_host.into_iter(), of_device.into_iter());
        let next = |t: &Tensor| if self.other(t).is_some() { of_host.next() } else { of_device.next() };
        Ok(tensors.iter().filter_map(next).collect())
    }
}

/// Results on the devices and of the types of `tensors`.
fn as_given(results: Vec<Tensor>, tensors: &[Tensor]) -> candle_core::Result<Vec<Tensor>> {
    let one = |(result, tensor): (Tensor, &Tensor)| result.to_dtype(tensor.dtype())?.to_device(tensor.device());
    results.into_iter().zip(tensors).map(one).collect()
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.communicator.rank()
    }

    fn size(&self) -> usize {
        self.communicator.size()
    }

    fn is_deterministic(&self) -> bool {
        // The order of more than two numbers is NCCL's, which may choose another one.
        self.size() <= 2
    }

    fn all_reduce(&self, tensors: &[Tensor], reduction: Reduction) -> CollectiveResult<Vec<Tensor>> {
        let other = |others: &SharedCollective, host: &[Tensor]| others.all_reduce(host, reduction);
        self.divided(Request::AllReduce(reduction), tensors, other)
    }

    fn all_gather(&self, tensor: &Tensor) -> CollectiveResult<Tensor> {
        if let Some(others) = self.other(tensor) {
            return others.all_gather(tensor);
        }
        let mut gathered = self.exchange(Request::AllGather, std::slice::from_ref(tensor))?;
        check_number(&gathered, 1)?;
        Ok(gathered.swap_remove(0))
    }

    fn broadcast(&self, tensors: &[Tensor], root: usize) -> CollectiveResult<Vec<Tensor>> {
        let other = |others: &SharedCollective, host: &[Tensor]| others.broadcast(host, root);
        self.divided(Request::Broadcast(root), tensors, other)
    }

    fn start_all_reduce(&self, tensors: Vec<Tensor>, reduction: Reduction) -> CollectiveResult<Box<dyn Exchange>> {
        let request = Request::AllReduce(reduction);
        if let Some(others) = self.others.as_ref().filter(|_| tensors.iter().all(|tensor| tensor.device().is_cpu())) {
            return others.start_all_reduce(tensors, reduction);
        }
        let started = self.start(request, &tensors)?;
        Ok(Box::new(UnderWay { started, tensors }))
    }

    fn wait_for_all(&self) -> CollectiveResult<()> {
        match &self.others {
            Some(others) => others.wait_for_all(),
            None => self.communicator.wait_for_all(),
        }
    }

    fn check(&self) -> CollectiveResult<()> {
        self.communicator.check()
    }

    fn lost(&self) -> Option<usize> {
        self.others.as_ref()?.lost()
    }

    /// Time for what lies in host memory; exchanges between GPUs do not make the host wait.
    fn waited(&self) -> Duration {
        self.others.as_ref().map_or(Duration::ZERO, |others| others.waited())
    }
}

/// A reduction under way.
struct UnderWay {
    started: Started,
    tensors: Vec<Tensor>,
}

impl Exchange for UnderWay {
    fn finish(self: Box<Self>) -> CollectiveResult<Vec<Tensor>> {
        Ok(as_given(self.started.finish()?, &self.tensors)?)
    }
}

#[cfg(test)]
mod tests;
