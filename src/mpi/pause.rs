//! Pauses of a rank that waits for messages.

use std::thread;
use std::time::Duration;

/// Time for which a waiting rank leaves its processor only to threads that need it.
const ATTENTIVE: Duration = Duration::from_millis(2);
/// Time after which a waiting rank looks for messages less often, and for processes that have ended.
pub const PATIENT: Duration = Duration::from_millis(50);
/// Pauses of a waiting rank before and after that time.
const PAUSES: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(1)];

/// Leaves the processor to others for a while, the longer the longer the rank has waited.
pub fn pause(waited: Duration) {
    match waited {
        waited if waited < ATTENTIVE => thread::yield_now(),
        waited => thread::sleep(PAUSES[usize::from(waited >= PATIENT)]),
    }
}
