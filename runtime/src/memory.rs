//! Memory for sessions: zeroed, and refused with an error where there is not enough.

use crate::error::{Error, Kind, Result};

/// `len` zeros for `what`. The system gives large pieces page by page as they are touched.
pub(crate) fn zeros<T: bytemuck::Zeroable>(len: usize, what: &str) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| {
        let bytes = len as u128 * size_of::<T>() as u128;
        Error::new(Kind::Budget, format!("memory for {what}"), format!("{bytes} bytes"), "no such amount left")
            .remedy("open the session with a smaller context, chunk or number of sequences")
    })
}
