//! One exchange: its messages, and their reduction.
//!
//! Small tensors go to every rank, and each reduces for itself. Of large ones, every rank reduces one part, and passes
//! it to the others: two messages of 1/N of the bytes to each of N ranks, whatever N. Both ways all ranks get the same
//! bits.

use std::ops::Range;

use candle_core::Tensor;
use equimod_core::reduce::reduce;
use equimod_core::request::Request;
use equimod_core::{CollectiveError, CollectiveResult};

use super::link::{Link, Message};
use super::wire::{Form, append, described, split, tensors};

/// Bytes from which an all-reduce goes by parts.
const LARGE: usize = 32 << 10;

/// Number of exchanges after which tags come again.
const AGAIN: u64 = 16_000;

/// Tag of the messages of an exchange, first or second ones.
fn tag(number: u64, second: bool) -> i32 {
    (2 * (number % AGAIN)) as i32 + i32::from(second)
}

/// A message that has to come from another rank.
enum Incoming {
    Awaited,
    Begun(Message),
    /// The content of the message; the rank's own place is empty.
    Complete(Vec<u8>),
}

/// An exchange under way.
pub struct Exchange {
    number: u64,
    request: Request,
    description: String,
    /// Own tensors, contiguous, in host memory.
    own: Vec<Tensor>,
    forms: Vec<Form>,
    rank: usize,
    /// First or second messages of all ranks.
    incoming: Vec<Incoming>,
    /// Whether every rank reduces a part.
    by_parts: bool,
    /// The reduction of the own part, once it is there.
    part: Option<Vec<Tensor>>,
    /// Messages that are not sent completely.
    outgoing: Vec<Message>,
}

impl Exchange {
    /// Starts an exchange.
    pub fn start(link: &Link, number: u64, request: Request, own: Vec<Tensor>) -> CollectiveResult<Self> {
        let forms: Vec<Form> = own.iter().map(Form::of).collect();
        let bytes: usize = forms.iter().map(|form| form.values() * form.dtype.size_in_bytes()).sum();
        let by_parts = matches!(request, Request::AllReduce(_)) && bytes >= LARGE;
        let description = request.describe(&own);
        let (rank, incoming) = (link.rank, awaited(link));
        let mut exchange = Self {
            number,
            request,
            description,
            own,
            forms,
            rank,
            incoming,
            by_parts,
            part: None,
            outgoing: Vec::new(),
        };
        for to in others(link) {
            let mut message = described(&exchange.description, if by_parts { bytes / link.size } else { bytes });
            exchange.append_for(&mut message, to, link.size)?;
            exchange.outgoing.push(link.send(to, tag(number, false), message)?);
        }
        Ok(exchange)
    }

    /// Appends the values that go to rank `to`.
    fn append_for(&self, message: &mut Vec<u8>, to: usize, size: usize) -> CollectiveResult<()> {
        if matches!(self.request, Request::Broadcast(root) if root != self.rank) {
            return Ok(());
        }
        for (tensor, form) in self.own.iter().zip(&self.forms) {
            let range = if self.by_parts { form.part(to, size) } else { 0..form.values() };
            append(message, tensor, range)?;
        }
        Ok(())
    }

    /// Receives what has come; returns whether the messages of the present round are complete.
    pub fn receive(&mut self, link: &Link) -> CollectiveResult<bool> {
        let (second, mut complete) = (self.part.is_some(), true);
        for from in others(link) {
            if let Incoming::Awaited = self.incoming[from]
                && let Some(message) = link.arrived(Some(from), tag(self.number, second))?
            {
                self.incoming[from] = Incoming::Begun(message);
            }
            if let Incoming::Begun(message) = &mut self.incoming[from]
                && message.is_done()?
                && let Incoming::Begun(message) = std::mem::replace(&mut self.incoming[from], Incoming::Awaited)
            {
                let bytes = message.into_bytes();
                let content = if second { bytes } else { self.agreed(from, &bytes)?.to_vec() };
                self.incoming[from] = Incoming::Complete(content);
            }
            complete &= matches!(self.incoming[from], Incoming::Complete(_));
        }
        Ok(complete)
    }

    /// The content of a first message, if its rank called the same operation with tensors of the same shapes.
    fn agreed<'a>(&self, from: usize, message: &'a [u8]) -> CollectiveResult<&'a [u8]> {
        let what = match split(message) {
            Some((description, content)) if description == self.description => return Ok(content),
            Some((description, _)) => format!("{} and, on process {from}, {description}", self.description),
            None => format!("process {from} sent a message that cannot be read"),
        };
        Err(CollectiveError::Mismatch { operation: self.request.name(), what })
    }

    /// Ranks whose messages have not come.
    pub fn missing(&self) -> Vec<usize> {
        let missing = |rank: &usize| *rank != self.rank && !matches!(self.incoming[*rank], Incoming::Complete(_));
        (0..self.incoming.len()).filter(missing).collect()
    }

    /// Whether the own part can be reduced: all first messages of an exchange by parts are there.
    pub fn awaits_part(&self) -> bool {
        self.by_parts && self.part.is_none() && self.missing().is_empty()
    }

    /// The reduction of the own part.
    pub fn reduce_part(&self) -> CollectiveResult<Vec<Tensor>> {
        let part = |form: &Form| form.part(self.rank, self.incoming.len());
        let mut own = Vec::new();
        for (tensor, form) in self.own.iter().zip(&self.forms) {
            own.push(tensor.flatten_all()?.narrow(0, part(form).start, part(form).len())?);
        }
        self.reduced(&self.of_ranks(own, |_, form| part(form))?)
    }

    /// Passes the reduction of the own part to the other ranks.
    pub fn pass_part(&mut self, link: &Link, part: Vec<Tensor>) -> CollectiveResult<()> {
        let mut message = Vec::new();
        for tensor in &part {
            append(&mut message, tensor, 0..tensor.elem_count())?;
        }
        for to in others(link) {
            self.outgoing.push(link.send(to, tag(self.number, true), message.clone())?);
        }
        (self.part, self.incoming) = (Some(part), awaited(link));
        Ok(())
    }

    /// The results, flat and in host memory, and the messages that are still on their way.
    pub fn finish(mut self) -> CollectiveResult<(Vec<Tensor>, Vec<Message>)> {
        let outgoing = std::mem::take(&mut self.outgoing);
        let (size, whole) = (self.incoming.len(), |_, form: &Form| 0..form.values());
        let flat = self.own.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
        let results = match (self.request, self.part.take()) {
            (Request::AllReduce(_), Some(part)) => joined(&self.of_ranks(part, |rank, form| form.part(rank, size))?)?,
            (Request::AllReduce(_), None) => self.reduced(&self.of_ranks(flat, whole)?)?,
            (Request::AllGather, _) => joined(&self.of_ranks(flat, whole)?)?,
            (Request::Broadcast(root), _) if root == self.rank => {
                flat.iter().map(Tensor::copy).collect::<candle_core::Result<_>>()?
            }
            (Request::Broadcast(root), _) => tensors(self.content(root), &self.forms, |form| 0..form.values())?,
            (Request::WaitForAll, _) => Vec::new(),
        };
        Ok((results, outgoing))
    }

    /// Bytes that a rank has sent; none for the own rank.
    fn content(&self, rank: usize) -> &[u8] {
        match self.incoming.get(rank) {
            Some(Incoming::Complete(bytes)) => bytes,
            _ => &[],
        }
    }

    /// The tensors of every rank in the order of ranks: those of the own rank are `own`, the values in `range` of the
    /// others come from their messages.
    fn of_ranks(
        &self,
        own: Vec<Tensor>,
        range: impl Fn(usize, &Form) -> Range<usize>,
    ) -> CollectiveResult<Vec<Vec<Tensor>>> {
        let mut own = Some(own);
        let of_rank = |rank: usize| match own.take_if(|_| rank == self.rank) {
            Some(own) => Ok(own),
            None => Ok(tensors(self.content(rank), &self.forms, |form| range(rank, form))?),
        };
        (0..self.incoming.len()).map(of_rank).collect()
    }

    /// The reduction of the ranks' tensors.
    fn reduced(&self, of_ranks: &[Vec<Tensor>]) -> CollectiveResult<Vec<Tensor>> {
        let Request::AllReduce(reduction) = self.request else { return Ok(Vec::new()) };
        (0..self.forms.len()).map(|place| Ok(reduce(&at(of_ranks, place), reduction)?)).collect()
    }
}

/// The ranks' tensors one after the other.
fn joined(of_ranks: &[Vec<Tensor>]) -> CollectiveResult<Vec<Tensor>> {
    let places = of_ranks.first().map_or(0, Vec::len);
    (0..places).map(|place| Ok(Tensor::cat(&at(of_ranks, place), 0)?)).collect()
}

/// The tensors at one place of each rank.
fn at(of_ranks: &[Vec<Tensor>], place: usize) -> Vec<&Tensor> {
    of_ranks.iter().filter_map(|tensors| tensors.get(place)).collect()
}

/// All ranks but this one, beginning with the next, so that they do not all send to the same one first.
fn others(link: &Link) -> impl Iterator<Item = usize> + use<> {
    let (rank, size) = (link.rank, link.size);
    (1..size).map(move |step| (rank + step) % size)
}

fn awaited(link: &Link) -> Vec<Incoming> {
    let of = |rank| if rank == link.rank { Incoming::Complete(Vec::new()) } else { Incoming::Awaited };
    (0..link.size).map(of).collect()
}
