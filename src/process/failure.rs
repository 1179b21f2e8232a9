//! The failure of a rank as the error of a command.

use equimod_core::{Error as Core, FailureCause, RankFailure};
use equimod_train::Error;

/// Conversion of failures into errors of one sentence.
pub trait InWords {
    /// The error; `ranks` is the number of ranks.
    fn in_words(self, ranks: usize) -> anyhow::Error;
}

impl InWords for RankFailure<anyhow::Error> {
    fn in_words(self, ranks: usize) -> anyhow::Error {
        let Self { rank, cause } = self;
        let error = match cause {
            FailureCause::Error(error) => error,
            FailureCause::Crash(reason) => {
                return anyhow::anyhow!(
                    "process {rank} of {ranks} was lost: {reason}; a run goes on from its newest checkpoint with \
                     --resume, and a panic is a defect of equimod, please report it"
                );
            }
        };
        // Whatever concerns a device needs its number.
        match error.downcast_ref::<Error>() {
            Some(Error::Core(Core::Tensor(_)) | Error::Tensor(_)) => {
                let text = format!("process {rank} of {ranks}: {error}");
                error.context(text)
            }
            _ => error,
        }
    }
}
