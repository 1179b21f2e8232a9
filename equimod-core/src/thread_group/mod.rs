//! A process group within one process: every rank is a thread, with a device and compute threads of its own.
//!
//! Tensors meet in host memory. Every rank sums for itself, in the order of ranks, so that all get the same bits in
//! every run. Waiting threads sleep. A rank that fails ends the others with an error that names it.

mod board;
mod run;

use std::sync::Arc;
use std::time::Duration;

use candle_core::{Device, Tensor};

use crate::collective::{Collective, CollectiveResult, Exchange, Reduction};
use crate::reduce::{on_host, reduce};
use crate::request::Request;
use board::{Board, Offer};
pub use run::{FailureCause, RankFailure, RankThreads, run_ranks};

/// Handle of one rank.
struct ThreadRank {
    rank: usize,
    board: Arc<Board>,
}

impl ThreadRank {
    /// Offers copies of `tensors`, and waits for the offers of all ranks.
    fn exchange(&self, request: Request, tensors: &[Tensor]) -> CollectiveResult<Vec<Offer>> {
        // The caller may change its tensors in place as soon as this returns, while other ranks still read the offer.
        let copies = tensors.iter().map(|tensor| match tensor.device() {
            Device::Cpu => tensor.detach().force_contiguous(),
            _ => on_host(tensor),
        });
        let copies = copies.collect::<candle_core::Result<Vec<_>>>()?;
        let number = self.board.offer(self.rank, Offer { request, tensors: copies.into() });
        self.board.take(self.rank, number, request)
    }
}

impl Collective for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.board.size()
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn all_reduce(&self, tensors: &[Tensor], reduction: Reduction) -> CollectiveResult<Vec<Tensor>> {
        let offers = self.exchange(Request::AllReduce(reduction), tensors)?;
        let devices: Vec<Device> = tensors.iter().map(|tensor| tensor.device().clone()).collect();
        Ok(reduced(&offers, reduction, &devices)?)
    }

    fn all_gather(&self, tensor: &Tensor) -> CollectiveResult<Tensor> {
        let offers = self.exchange(Request::AllGather, std::slice::from_ref(tensor))?;
        let parts: Vec<&Tensor> = offers.iter().flat_map(|offer| offer.tensors.iter()).collect();
        Ok(Tensor::cat(&parts, 0)?.to_device(tensor.device())?)
    }

    fn broadcast(&self, tensors: &[Tensor], root: usize) -> CollectiveResult<Vec<Tensor>> {
        let offers = self.exchange(Request::Broadcast(root), tensors)?;
        let Some(offer) = offers.get(root) else { return Ok(Vec::new()) };
        // A copy for every rank, which it may change in place.
        let own = |(theirs, own): (&Tensor, &Tensor)| match own.device() {
            Device::Cpu => theirs.force_contiguous(),
            device => theirs.to_device(device),
        };
        Ok(offer.tensors.iter().zip(tensors).map(own).collect::<candle_core::Result<_>>()?)
    }

    /// Offers the tensors without copying them, and returns; the sums are computed when the exchange is finished.
    fn start_all_reduce(&self, tensors: Vec<Tensor>, reduction: Reduction) -> CollectiveResult<Box<dyn Exchange>> {
        let request = Request::AllReduce(reduction);
        let devices = tensors.iter().map(|tensor| tensor.device().clone()).collect();
        let tensors = tensors.iter().map(on_host).collect::<candle_core::Result<Vec<_>>>()?;
        let number = self.board.offer(self.rank, Offer { request, tensors: tensors.into() });
        Ok(Box::new(Started { rank: self.rank, board: self.board.clone(), number, reduction, devices }))
    }

    fn wait_for_all(&self) -> CollectiveResult<()> {
        let request = Request::WaitForAll;
        let number = self.board.offer(self.rank, Offer { request, tensors: Arc::new([]) });
        self.board.take(self.rank, number, request).map(|_| ())
    }

    fn waited(&self) -> Duration {
        self.board.waited(self.rank)
    }

    fn lost(&self) -> Option<usize> {
        self.board.failed()
    }
}

/// An all-reduce whose tensors have been offered.
struct Started {
    rank: usize,
    board: Arc<Board>,
    number: u64,
    reduction: Reduction,
    devices: Vec<Device>,
}

impl Exchange for Started {
    fn finish(self: Box<Self>) -> CollectiveResult<Vec<Tensor>> {
        let offers = self.board.take(self.rank, self.number, Request::AllReduce(self.reduction))?;
        Ok(reduced(&offers, self.reduction, &self.devices)?)
    }
}

/// Reductions over the offers of all ranks, each on its device of `devices`.
fn reduced(offers: &[Offer], reduction: Reduction, devices: &[Device]) -> candle_core::Result<Vec<Tensor>> {
    let one = |(place, device): (usize, &Device)| {
        let of_ranks: Vec<&Tensor> = offers.iter().filter_map(|offer| offer.tensors.get(place)).collect();
        reduce(&of_ranks, reduction)?.to_device(device)
    };
    devices.iter().enumerate().map(one).collect()
}
