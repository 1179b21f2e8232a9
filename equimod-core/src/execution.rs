//! How the work of a step is done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ways to the same result, bit for bit or but for rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Execution {
    /// Whether the backbone forgets what is inside its blocks and computes it again on the way back (Chen et al.,
    /// arXiv 1604.06174): less than half the memory for activations, more time, the same result bit for bit. Default: no.
    pub recompute: bool,
    /// Whether the CPU convolves 3×3 windows of stride 1 by Winograd's algorithm (Lavin and Gray, arXiv 1509.09308) in
    /// f32: a quarter of the multiplications, and a rounding error of at most 4e-6 instead of 2e-6. Default: yes.
    pub winograd: bool,
}

impl Default for Execution {
    fn default() -> Self {
        Self { recompute: false, winograd: true }
    }
}
