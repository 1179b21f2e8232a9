//! Messages of bytes between processes that do not block: all calls of the MPI library.

use std::ffi::CStr;
use std::mem::{MaybeUninit, forget, take};

use ::mpi::environment::{Threading, Universe, initialize_with_threading};
use ::mpi::ffi;
use equimod_core::{CollectiveError, CollectiveResult};

/// A failure of the MPI library.
fn transport(operation: &'static str, reason: impl Into<String>) -> CollectiveError {
    CollectiveError::Transport { operation, reason: reason.into() }
}

/// This process among those that a launcher started.
pub struct Link {
    pub rank: usize,
    pub size: usize,
    /// The library, until it is shut down.
    universe: Option<Universe>,
}

impl Link {
    /// Starts the library.
    ///
    /// # Errors
    ///
    /// If the library was started before, or cannot be used from several threads by turns.
    pub fn start() -> CollectiveResult<Self> {
        let operation = "the start of MPI";
        let started = initialize_with_threading(Threading::Serialized);
        let (universe, threading) = started.ok_or_else(|| transport(operation, "it was started before"))?;
        if threading < Threading::Serialized {
            return Err(transport(operation, "this library cannot be used from several threads"));
        }
        let (mut rank, mut size) = (0, 0);
        // SAFETY: the library has started; the pointers are valid for the calls.
        unsafe {
            check(operation, ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN))?;
            check(operation, ffi::MPI_Comm_rank(ffi::RSMPI_COMM_WORLD, &mut rank))?;
            check(operation, ffi::MPI_Comm_size(ffi::RSMPI_COMM_WORLD, &mut size))?;
        }
        Ok(Self { rank: rank as usize, size: size as usize, universe: Some(universe) })
    }

    /// Starts to send a message.
    pub fn send(&self, to: usize, tag: i32, mut bytes: Vec<u8>) -> CollectiveResult<Message> {
        let (operation, length) = ("a message", length(bytes.len())?);
        // SAFETY: `MPI_Request` is a plain value; the call below sets it.
        let mut request = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: `Message` keeps the bytes in place until the library has read them.
        let code = unsafe {
            let (data, byte, world) = (bytes.as_mut_ptr().cast(), ffi::RSMPI_UINT8_T, ffi::RSMPI_COMM_WORLD);
            ffi::MPI_Isend(data, length, byte, to as i32, tag, world, &mut request)
        };
        check(operation, code)?;
        Ok(Message { request, bytes, done: false })
    }

    /// Starts to receive the next message with this tag of a rank, or of any, if there is one.
    pub fn arrived(&self, from: Option<usize>, tag: i32) -> CollectiveResult<Option<Message>> {
        let operation = "a message";
        let (mut found, mut length) = (0, 0);
        // SAFETY: these are plain values; the calls below set them before they are read.
        let (mut message, mut status, mut request): (ffi::MPI_Message, ffi::MPI_Status, ffi::MPI_Request) =
            unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the pointers are valid for the call.
        let code = unsafe {
            let from = from.map_or(ffi::RSMPI_ANY_SOURCE, |rank| rank as i32);
            ffi::MPI_Improbe(from, tag, ffi::RSMPI_COMM_WORLD, &mut found, &mut message, &mut status)
        };
        check(operation, code)?;
        if found == 0 {
            return Ok(None);
        }
        // SAFETY: the probe has set the status.
        check(operation, unsafe { ffi::MPI_Get_count(&status, ffi::RSMPI_UINT8_T, &mut length) })?;
        let mut bytes = vec![0u8; length.max(0) as usize];
        // SAFETY: the buffer has the length of the message; `Message` keeps it in place until it is written.
        let code = unsafe {
            let (data, byte) = (bytes.as_mut_ptr().cast(), ffi::RSMPI_UINT8_T);
            ffi::MPI_Imrecv(data, length, byte, &mut message, &mut request)
        };
        check(operation, code)?;
        Ok(Some(Message { request, bytes, done: false }))
    }

    /// Whether the library has not been ended.
    pub fn is_open(&self) -> bool {
        self.universe.is_some()
    }

    /// Ends the library together with all other processes.
    pub fn finish(&mut self) {
        self.universe.take();
    }

    /// Ends all processes; the launcher's exit code is `code`.
    pub fn abort(&mut self, code: i32) -> ! {
        forget(self.universe.take());
        // SAFETY: the call does not use memory of this process.
        unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code) };
        std::process::exit(code)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // To shut down the library, all processes have to; `finish` does.
        forget(self.universe.take());
    }
}

/// A message on its way.
pub struct Message {
    request: ffi::MPI_Request,
    bytes: Vec<u8>,
    done: bool,
}

// SAFETY: the library is started for use from several threads, which take turns under the lock of the owner.
unsafe impl Send for Message {}

impl Message {
    /// Whether the message was sent or received completely.
    pub fn is_done(&mut self) -> CollectiveResult<bool> {
        if !self.done {
            let mut done = 0;
            // SAFETY: the request is that of a message on its way; the status is not asked for.
            let code = unsafe { ffi::MPI_Test(&mut self.request, &mut done, ffi::RSMPI_STATUS_IGNORE) };
            check("a message", code)?;
            self.done = done != 0;
        }
        Ok(self.done)
    }

    /// The bytes of a message that is done.
    pub fn into_bytes(mut self) -> Vec<u8> {
        if self.done { take(&mut self.bytes) } else { Vec::new() }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !self.done {
            // The library still uses the bytes.
            forget(take(&mut self.bytes));
        }
    }
}

/// The length of a message as the library counts it.
fn length(bytes: usize) -> CollectiveResult<i32> {
    i32::try_from(bytes).map_err(|_| transport("a message", format!("{bytes} bytes are too many for one message")))
}

/// Fails with the library's message unless `code` is success.
fn check(operation: &'static str, code: i32) -> CollectiveResult<()> {
    if code == ffi::MPI_SUCCESS as i32 {
        return Ok(());
    }
    let mut text = [0u8; ffi::MPI_MAX_ERROR_STRING as usize + 1];
    let mut length = 0;
    // SAFETY: the buffer is longer than any message, and stays terminated by a zero.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &mut length) };
    let text = CStr::from_bytes_until_nul(&text).map(|text| text.to_string_lossy().into_owned());
    Err(transport(operation, text.unwrap_or_else(|_| format!("error {code}"))))
}
