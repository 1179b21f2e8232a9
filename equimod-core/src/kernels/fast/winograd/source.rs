//! What tiles are cut from: values, or what a rectifier makes of them on the way.

use std::borrow::Cow;

use pulp::{Arch, Simd};

use super::super::Input;
use super::super::lanes::load_some;
use super::super::norm::Rectifier;

/// Values that are read, and what they go through.
pub struct Source<'a> {
    /// The values.
    pub values: Cow<'a, [f32]>,
    /// What makes of them what is transformed.
    pub rectified: Option<Rectified<'a>>,
}

/// A rectifier that makes 0 of what lies outside of the pictures.
pub struct Rectified<'a> {
    rectifier: Rectifier<'a>,
    /// The value of every channel there: infinitely far on the side of which the ReLU makes 0.
    outside: Vec<f32>,
}

impl<'a> Source<'a> {
    /// As they are.
    pub fn plain(values: &'a [f32]) -> Self {
        Self { values: values.into(), rectified: None }
    }

    /// What is read of an input. Where there is no value of which its rectifier makes 0, it is made beforehand.
    pub fn of(arch: Arch, x: Input<'a>) -> Self {
        match x.rectifier {
            Some(rectifier) if rectifier.reaches_zero() => {
                let outside = rectifier.scale.iter().map(|scale| f32::NEG_INFINITY.copysign(-scale)).collect();
                Self { values: x.values.into(), rectified: Some(Rectified { rectifier, outside }) }
            }
            _ => Self { values: x.made(arch), rectified: None },
        }
    }
}

impl Rectifier<'_> {
    /// Whether every channel becomes 0 for infinite values of one sign.
    fn reaches_zero(&self) -> bool {
        self.scale.iter().all(|&scale| scale != 0.0 && !scale.is_nan())
            && self.shift.iter().all(|shift| shift.is_finite())
    }
}

impl Rectified<'_> {
    /// The values outside, from a channel on.
    pub fn outside(&self, channel: usize) -> *const f32 {
        self.outside[channel..].as_ptr()
    }

    /// Scale and shift of `count` channels from `c` on.
    #[inline(always)]
    pub fn vectors<S: Simd>(&self, simd: S, c: usize, count: usize) -> [S::f32s; 2] {
        let (scale, shift) = (&self.rectifier.scale[c..c + count], &self.rectifier.shift[c..c + count]);
        // SAFETY: they are so long.
        unsafe { [load_some(simd, scale.as_ptr(), count), load_some(simd, shift.as_ptr(), count)] }
    }
}
