//! Memory for sessions: zeroed, and refused with an error where there is not enough.

use std::ops::{Deref, DerefMut};

use crate::error::{Error, Kind, Result};

/// `len` zeros for `what`. The system gives large pieces page by page as they are touched.
pub(crate) fn zeros<T: bytemuck::Zeroable>(len: usize, what: &str) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| {
        let bytes = len as u128 * size_of::<T>() as u128;
        Error::new(Kind::Budget, format!("memory for {what}"), format!("{bytes} bytes"), "no such amount left")
            .remedy("open the session with a smaller context, chunk or number of sequences")
    })
}

/// Numbers that begin with a line of the cache, so that vectors of them do not straddle two: as many as were asked for, up to a whole line.
pub(crate) struct Floats(Vec<Line>);

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Floats {
    /// `len` zeros for `what`.
    pub(crate) fn zeros(len: usize, what: &str) -> Result<Self> {
        Ok(Self(zeros(len.div_ceil(16), what)?))
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}
