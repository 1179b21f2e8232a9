//! Uploads beside computation: from pinned host memory, on a stream of their own.
//!
//! Host memory that is not pinned is copied by the driver in program order, so that the host would wait for the step
//! before. Here, bytes are copied to a pinned buffer, from there to a buffer on the device while the device computes,
//! and the device's stream waits for that copy alone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice, result};
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{DType, Device, Error, Result, Tensor};

use super::memory::{address, uninitialized};

/// Buffers of a device. A step uploads up to four batches of images; those of two steps can be under way.
const BUFFERS: usize = 8;

/// Alignment of the parts of an upload, in bytes.
const ALIGNMENT: usize = 256;

/// A buffer on the host and its counterpart on the device.
struct Buffer {
    host: PinnedHostSlice<u8>,
    on_device: Tensor,
    /// The copy to the device is done.
    copied: CudaEvent,
    /// The device's stream no longer needs the values.
    consumed: CudaEvent,
}

impl Buffer {
    fn new(bytes: usize, device: &Device) -> Result<Self> {
        let context = device.as_cuda_device()?.cuda_stream().context().clone();
        let on_device = uninitialized(&[bytes], DType::U8, device)?;
        let (copied, consumed) =
            (context.new_event(None).map_err(Error::wrap)?, context.new_event(None).map_err(Error::wrap)?);
        // The buffer on the device exists once the stream has got this far.
        consumed.record(&device.as_cuda_device()?.cuda_stream()).map_err(Error::wrap)?;
        // SAFETY: The bytes are written before they are read.
        let host = unsafe { context.alloc_pinned::<u8>(bytes) };
        let host = host.map_err(|error| {
            Error::msg(format!("cannot pin {bytes} bytes of host memory for uploads: {error}; free some memory"))
        })?;
        Ok(Self { host, on_device, copied, consumed })
    }
}

/// Uploads to one device by one thread.
struct Uploader {
    stream: Arc<CudaStream>,
    buffers: Vec<Option<Buffer>>,
    next: usize,
}

impl Uploader {
    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream().context().new_stream().map_err(Error::wrap)?;
        Ok(Self { stream, buffers: (0..BUFFERS).map(|_| None).collect(), next: 0 })
    }

    /// Uploads `parts`, calls `consume` with their addresses, and keeps the buffer until the launches of `consume` are
    /// done.
    fn upload<T>(&mut self, parts: &[&[u8]], device: &Device, consume: impl FnOnce(&[u64]) -> Result<T>) -> Result<T> {
        let (places, bytes) = places(parts);
        let main = device.as_cuda_device()?.cuda_stream();
        let slot = &mut self.buffers[self.next];
        self.next = (self.next + 1) % BUFFERS;
        if let Some(buffer) = slot.as_ref().filter(|buffer| buffer.host.len() < bytes) {
            // Its memory is freed in the order of the device's stream, which may be ahead of the copy.
            buffer.copied.synchronize().map_err(Error::wrap)?;
            *slot = None;
        }
        let buffer = match slot {
            Some(buffer) => buffer,
            None => slot.insert(Buffer::new(bytes, device)?),
        };
        buffer.copied.synchronize().map_err(Error::wrap)?;
        let host = &mut buffer.host.as_mut_slice().map_err(Error::wrap)?[..bytes];
        for (part, &place) in parts.iter().zip(&places) {
            host[place..place + part.len()].copy_from_slice(part);
        }
        let target = address(&buffer.on_device)?;
        self.stream.wait(&buffer.consumed).map_err(Error::wrap)?;
        // SAFETY: Both buffers hold as many bytes. The one on the host is not written before `copied` has passed, the
        // one on the device not before `consumed`.
        unsafe { result::memcpy_htod_async(target, host, self.stream.cu_stream()) }.map_err(Error::wrap)?;
        buffer.copied.record(&self.stream).map_err(Error::wrap)?;
        main.wait(&buffer.copied).map_err(Error::wrap)?;
        let addresses: Vec<u64> = places.iter().map(|&place| target + place as u64).collect();
        let consumed = consume(&addresses)?;
        buffer.consumed.record(&main).map_err(Error::wrap)?;
        Ok(consumed)
    }
}

impl Drop for Uploader {
    /// Waits for copies under way, whose buffers are freed next.
    fn drop(&mut self) {
        // An error at the end of a thread is of no consequence.
        let _ = self.stream.synchronize();
    }
}

thread_local! {
    static UPLOADERS: RefCell<HashMap<DeviceId, Uploader>> = RefCell::default();
}

/// Place of each part in a buffer, aligned for any type, and the length of the buffer.
fn places(parts: &[&[u8]]) -> (Vec<usize>, usize) {
    let mut end = 0;
    let place = |part: &&[u8]| {
        let place = usize::next_multiple_of(end, ALIGNMENT);
        end = place + part.len();
        place
    };
    (parts.iter().map(place).collect(), end.max(1))
}

/// Uploads `parts` to the device and calls `consume` with their addresses there, from which its launches may read.
/// Addresses are aligned to 256 bytes.
///
/// # Errors
///
/// If there is not enough memory, the driver fails, or `consume` does.
pub fn upload<T>(parts: &[&[u8]], device: &Device, consume: impl FnOnce(&[u64]) -> Result<T>) -> Result<T> {
    let cuda = device.as_cuda_device()?;
    UPLOADERS.with_borrow_mut(|uploaders| {
        let uploader = match uploaders.entry(cuda.id()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Uploader::new(cuda)?),
        };
        uploader.upload(parts, device, consume)
    })
}
