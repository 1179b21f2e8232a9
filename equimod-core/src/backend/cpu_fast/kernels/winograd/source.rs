//! Source of the tiles: values, or their activation, which is computed as they are read.

use std::borrow::Cow;

use pulp::{Arch, Simd};

use super::super::ConvInputRows;
use super::super::batch_norm::ScaleShiftReluRows;
use super::super::vectors::load_some;

/// Values that are read, and the activation that is applied to them.
pub struct Source<'a> {
    /// Values before the activation.
    pub values: Cow<'a, [f32]>,
    /// Activation that is applied before the transform.
    pub activated: Option<Activated<'a>>,
}

/// An activation that gives 0 for the pixels outside of the images.
pub struct Activated<'a> {
    activation: ScaleShiftReluRows<'a>,
    /// Value of every channel outside of the images: infinite, with the sign that the ReLU turns into 0.
    outside: Vec<f32>,
}

impl<'a> Source<'a> {
    /// Values without an activation.
    pub fn plain(values: &'a [f32]) -> Self {
        Self { values: values.into(), activated: None }
    }

    /// Source of a convolution's input. An activation that is 0 for no input cannot produce the zero padding, so it is
    /// computed beforehand.
    pub fn of(arch: Arch, x: ConvInputRows<'a>) -> Self {
        match x.activation {
            Some(activation) if activation.reaches_zero() => {
                let outside = activation.scale.iter().map(|scale| f32::NEG_INFINITY.copysign(-scale)).collect();
                Self { values: x.values.into(), activated: Some(Activated { activation, outside }) }
            }
            _ => Self { values: x.materialized(arch), activated: None },
        }
    }
}

impl ScaleShiftReluRows<'_> {
    /// Whether the activation of every channel is 0 for infinite values of one sign.
    fn reaches_zero(&self) -> bool {
        self.scale.iter().all(|&scale| scale != 0.0 && !scale.is_nan())
            && self.shift.iter().all(|shift| shift.is_finite())
    }
}

impl Activated<'_> {
    /// Values outside of the images, from a channel on.
    pub fn outside(&self, channel: usize) -> *const f32 {
        self.outside[channel..].as_ptr()
    }

    /// Scale and shift of `count` channels from `c` on.
    #[inline(always)]
    pub fn vectors<S: Simd>(&self, simd: S, c: usize, count: usize) -> [S::f32s; 2] {
        let (scale, shift) = (&self.activation.scale[c..c + count], &self.activation.shift[c..c + count]);
        // SAFETY: they have that many channels.
        unsafe { [load_some(simd, scale.as_ptr(), count), load_some(simd, shift.as_ptr(), count)] }
    }
}
