//! A rank's connection to the others: its handle of NCCL, its stream, and exchanges on it.

use std::ffi::{CStr, c_char, c_void};
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use candle_core::cuda_backend::cudarc::driver::{self, CudaContext, CudaEvent, CudaStream, DriverError};
use candle_core::cuda_backend::cudarc::nccl::result::{self, NcclError};
use candle_core::cuda_backend::cudarc::nccl::sys;
use candle_core::{DType, Device, Error as TensorError, Tensor};

use super::watch::{Handle, Watched, transport};
use crate::backend::cuda::{address, uninitialized};
use crate::collective::{CollectiveError, CollectiveResult, Reduction, SharedCollective};
use crate::request::Request;

/// Length of an identifier in bytes.
pub const ID_BYTES: usize = 128;

/// Name of the operation that connects the ranks.
const CONNECTION: &str = "connection";

/// An identifier of NCCL, which names a group of ranks and says where its first one is reached.
pub type Id = [u8; ID_BYTES];

/// A new identifier. The process that makes it waits for connections of the others.
///
/// # Errors
///
/// If NCCL fails.
pub fn new_id() -> CollectiveResult<Id> {
    let id = result::get_uniqueid().map_err(|error| failed(CONNECTION, &error))?;
    Ok(id.internal.map(|byte| byte as u8))
}

fn failed(operation: &'static str, error: &NcclError) -> CollectiveError {
    // SAFETY: NCCL returns texts that live as long as the thread.
    let [kind, last] = unsafe { [sys::ncclGetErrorString(error.0), sys::ncclGetLastError(std::ptr::null_mut())] };
    let text = |text: *const c_char| match text.is_null() {
        true => String::new(),
        // SAFETY: They end with a zero.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned(),
    };
    let (kind, last) = (text(kind), text(last));
    let last = if last.is_empty() { last } else { format!(" ({last})") };
    transport(operation, format!("NCCL reports {:?}: {kind}{last}", error.0))
}

fn of_driver(operation: &'static str) -> impl Fn(DriverError) -> CollectiveError {
    move |error| transport(operation, error.to_string())
}

/// Lets the other GPUs of this process use the memory that a GPU's pool gives to tensors, as far as they can reach it:
/// NCCL reads and writes tensors of its neighbors directly.
fn share_pool(ordinal: usize) -> Result<(), DriverError> {
    /// `CUmemAccessDesc` as in all versions of CUDA.
    #[repr(C)]
    struct Access {
        /// `CU_MEM_LOCATION_TYPE_DEVICE`.
        kind: i32,
        device: i32,
        /// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
        flags: i32,
    }
    let device = |ordinal: usize| driver::result::device::get(ordinal.try_into().unwrap_or(i32::MAX));
    let own = device(ordinal)?;
    for other in 0..usize::try_from(CudaContext::device_count()?).unwrap_or(0) {
        let (peer, mut can) = (device(other)?, 0);
        // SAFETY: Both devices exist, and the place is valid.
        unsafe { driver::sys::cuDeviceCanAccessPeer(&raw mut can, peer, own) }.result()?;
        if other == ordinal || can == 0 {
            continue;
        }
        let access = Access { kind: 1, device: peer, flags: 3 };
        // SAFETY: The pool is the device's own, and the description is as the driver reads it.
        unsafe {
            let pool = driver::result::device::get_mem_pool(own)?;
            driver::sys::cuMemPoolSetAccess(pool, (&raw const access).cast(), 1).result()?;
        }
    }
    Ok(())
}

/// NCCL's handle of a rank. NCCL itself waits for other ranks for any time, so a thread of its own does, which stays
/// behind when the time is over.
fn connected(
    id: Id,
    [rank, size]: [usize; 2],
    context: &Arc<CudaContext>,
    timeout: Duration,
) -> CollectiveResult<Handle> {
    let (context, (send, receive)) = (context.clone(), mpsc::channel());
    let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let connect = move || {
        context.bind_to_thread().map_err(of_driver(CONNECTION))?;
        let id = sys::ncclUniqueId { internal: id.map(|byte| byte as c_char) };
        let mut handle = std::ptr::null_mut();
        // SAFETY: The identifier is NCCL's own, and the handle is used only if this succeeds.
        unsafe { result::comm_init_rank(&raw mut handle, number(size), id, number(rank)) }
            .map_err(|error| failed(CONNECTION, &error))?;
        Ok(Handle(handle))
    };
    // Nobody receives what comes too late.
    let thread = std::thread::Builder::new().name("nccl-connect".into()).spawn(move || drop(send.send(connect())));
    thread.map_err(of_thread)?;
    let late = CollectiveError::Timeout { operation: CONNECTION, seconds: timeout.as_secs(), ranks: Vec::new() };
    receive.recv_timeout(timeout).unwrap_or(Err(late))
}

fn of_thread(error: io::Error) -> CollectiveError {
    transport(CONNECTION, format!("a thread for it cannot be started: {error}"))
}

/// A rank's connection to the others.
pub struct Communicator {
    rank: usize,
    size: usize,
    device: Device,
    /// Stream on which the device computes.
    computation: Arc<CudaStream>,
    /// Stream of the exchanges.
    stream: Arc<CudaStream>,
    timeout: Duration,
    watched: Arc<Watched>,
}

impl Communicator {
    /// Connects a rank; `others` is asked for ranks that failed.
    ///
    /// # Errors
    ///
    /// If NCCL cannot connect the ranks in time.
    pub fn open(
        id: &Id,
        rank: usize,
        size: usize,
        device: &Device,
        timeout: Duration,
        others: Option<SharedCollective>,
    ) -> CollectiveResult<Self> {
        let computation = device.as_cuda_device()?.cuda_stream();
        computation.context().bind_to_thread().map_err(of_driver(CONNECTION))?;
        let stream = computation.context().new_stream().map_err(of_driver(CONNECTION))?;
        share_pool(computation.context().ordinal()).map_err(of_driver(CONNECTION))?;
        let handle = connected(*id, [rank, size], computation.context(), timeout)?;
        let watched = Watched::start(handle, stream.clone(), others).map_err(of_thread)?;
        Ok(Self { rank, size, device: device.clone(), computation, stream, timeout, watched })
    }

    pub fn rank(&self) -> usize {
        self.rank
    }

    pub fn size(&self) -> usize {
        self.size
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// # Errors
    ///
    /// If an exchange was given up.
    pub fn check(&self) -> CollectiveResult<()> {
        self.watched.check()
    }

    /// Starts an exchange of contiguous tensors on the device, in one group.
    ///
    /// # Errors
    ///
    /// If NCCL or a tensor operation fails, or an earlier exchange did.
    pub fn start(&self, request: Request, tensors: Vec<Tensor>) -> CollectiveResult<Started> {
        self.start_within(request, tensors, Some(self.timeout))
    }

    /// Waits for all ranks, for any time.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub fn wait_for_all(&self) -> CollectiveResult<()> {
        let one = Tensor::zeros(1, DType::U32, &self.device)?;
        let started = self.start_within(Request::WaitForAll, vec![one], None)?;
        started.synchronize()?;
        started.finish().map(|_| ())
    }

    fn start_within(
        &self,
        request: Request,
        tensors: Vec<Tensor>,
        limit: Option<Duration>,
    ) -> CollectiveResult<Started> {
        let operation = request.name();
        let pairs = tensors.into_iter().map(|tensor| Pair::new(tensor, request, self.size));
        let pairs = pairs.collect::<candle_core::Result<Vec<_>>>()?;
        self.computation.context().bind_to_thread().map_err(of_driver(operation))?;
        // Inputs are computed, and the memory of results is free, as soon as the computation gets this far.
        let ready = self.computation.record_event(None).map_err(of_driver(operation))?;
        self.stream.wait(&ready).map_err(of_driver(operation))?;
        // The watch begins before the call, which may itself wait for other ranks.
        let done = self.watched.begin(operation, limit);
        self.watched.with_handle(operation, |handle| {
            result::group_start().map_err(|error| failed(operation, &error))?;
            let stream = self.stream.cu_stream().cast();
            // SAFETY: All addresses are those of live tensors on this device, which `Started` holds until the
            // computation has waited for the exchange.
            let called = pairs.iter().try_for_each(|pair| unsafe { pair.call(request, handle, stream) });
            // A group that was begun has to be ended.
            let ended = result::group_end().map(|_| ());
            called.and(ended).map_err(|error| failed(operation, &error))
        })?;
        let event = Arc::new(self.stream.record_event(None).map_err(of_driver(operation))?);
        let done = done.get_or_init(|| event).clone();
        let (computation, watched) = (self.computation.clone(), self.watched.clone());
        Ok(Started { operation, pairs, done, computation, watched, waited: false })
    }
}

/// A tensor and the place of its result.
struct Pair {
    from: Tensor,
    to: Tensor,
}

impl Pair {
    fn new(from: Tensor, request: Request, size: usize) -> candle_core::Result<Self> {
        let mut dims = from.dims().to_vec();
        if let (Request::AllGather, Some(rows)) = (request, dims.first_mut()) {
            *rows *= size;
        }
        let to = uninitialized(&dims, from.dtype(), from.device())?;
        Ok(Self { from, to })
    }

    /// Calls NCCL for this pair.
    ///
    /// # Safety
    ///
    /// The handle is alive, and both tensors stay so until the stream has done its work.
    unsafe fn call(&self, request: Request, comm: sys::ncclComm_t, stream: sys::cudaStream_t) -> Result<(), NcclError> {
        use sys::ncclRedOp_t::{ncclMax, ncclMin, ncclSum};
        let count = self.from.elem_count();
        if count == 0 {
            return Ok(());
        }
        let invalid = |_: TensorError| NcclError(sys::ncclResult_t::ncclInvalidArgument);
        let [from, to] = [address(&self.from), address(&self.to)];
        let (from, to) = (from.map_err(invalid)? as *const c_void, to.map_err(invalid)? as *mut c_void);
        let (count, kind) = match request {
            Request::AllReduce(_) | Request::WaitForAll => (count, number(self.from.dtype())?),
            // Nothing is computed: bytes.
            Request::AllGather | Request::Broadcast(_) => {
                (count * self.from.dtype().size_in_bytes(), sys::ncclDataType_t::ncclUint8)
            }
        };
        // SAFETY: The caller vouches for the handle and the tensors; the counts are those of the tensors.
        unsafe {
            match request {
                Request::AllReduce(Reduction::Sum) => result::all_reduce(from, to, count, kind, ncclSum, comm, stream),
                Request::AllReduce(Reduction::Min) => result::all_reduce(from, to, count, kind, ncclMin, comm, stream),
                Request::AllReduce(Reduction::Max) | Request::WaitForAll => {
                    result::all_reduce(from, to, count, kind, ncclMax, comm, stream)
                }
                Request::AllGather => result::all_gather(from, to, count, kind, comm, stream),
                Request::Broadcast(root) => result::broadcast(from, to, count, kind, root as i32, comm, stream),
            }
        }
        .map(|_| ())
    }
}

/// NCCL's name of an element type with which it computes here.
fn number(dtype: DType) -> Result<sys::ncclDataType_t, NcclError> {
    match dtype {
        DType::F32 => Ok(sys::ncclDataType_t::ncclFloat32),
        DType::F64 => Ok(sys::ncclDataType_t::ncclFloat64),
        DType::U8 => Ok(sys::ncclDataType_t::ncclUint8),
        DType::U32 => Ok(sys::ncclDataType_t::ncclUint32),
        _ => Err(NcclError(sys::ncclResult_t::ncclInvalidArgument)),
    }
}

/// An exchange under way.
pub struct Started {
    operation: &'static str,
    pairs: Vec<Pair>,
    /// The stream has done the exchange.
    done: Arc<CudaEvent>,
    computation: Arc<CudaStream>,
    watched: Arc<Watched>,
    /// Whether the computation waits for the exchange.
    waited: bool,
}

impl Started {
    /// The results, for which the computation waits on the device.
    ///
    /// # Errors
    ///
    /// If an exchange was given up.
    pub fn finish(mut self) -> CollectiveResult<Vec<Tensor>> {
        self.watched.check()?;
        self.wait()?;
        Ok(self.pairs.iter().map(|pair| pair.to.clone()).collect())
    }

    /// Waits for the exchange on the host.
    fn synchronize(&self) -> CollectiveResult<()> {
        self.done.synchronize().map_err(of_driver(self.operation))
    }

    fn wait(&mut self) -> CollectiveResult<()> {
        self.waited = true;
        self.computation.wait(&self.done).map_err(of_driver(self.operation))
    }
}

impl Drop for Started {
    /// Memory is freed in the order of the computation, which therefore has to wait in any case.
    fn drop(&mut self) {
        if !self.waited {
            // An error means that the device is gone.
            let _ = self.wait();
        }
    }
}
