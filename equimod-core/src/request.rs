//! Operations of a collective as values, by which ranks notice that they disagree.

use candle_core::Tensor;

use crate::collective::Reduction;

/// An operation of a [`Collective`](crate::Collective) with its arguments other than tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `all_reduce` or `start_all_reduce`.
    AllReduce(Reduction),
    /// `all_gather`.
    AllGather,
    /// `broadcast` from this rank.
    Broadcast(usize),
    /// `wait_for_all`.
    WaitForAll,
}

impl Request {
    /// Name for errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllReduce(_) => "all-reduce",
            Self::AllGather => "all-gather",
            Self::Broadcast(_) => "broadcast",
            Self::WaitForAll => "the wait for all processes",
        }
    }

    /// Operation, number, shapes and types of tensors in words: the same on ranks that agree.
    pub fn describe(self, tensors: &[Tensor]) -> String {
        let list: Vec<String> =
            tensors.iter().map(|tensor| format!("{:?} of {}", tensor.dims(), tensor.dtype().as_str())).collect();
        format!("{self:?} of {} tensors: {}", list.len(), list.join(", "))
    }
}
