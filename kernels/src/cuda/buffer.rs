//! Memory of a GPU.

use std::marker::PhantomData;

use bytemuck::Pod;
use cudarc::driver::{result, sys};

use super::device::Device;
use super::error::{DeviceError, Doing, Result};
use super::launch::Stream;

/// Values in a GPU's memory. Dropping it waits for the GPU, so no work that was started reads freed memory.
#[derive(Debug)]
pub struct Buffer<T> {
    address: sys::CUdeviceptr,
    len: usize,
    device: Device,
    values: PhantomData<T>,
}

// SAFETY: it is an address that only the driver follows, and the driver is thread-safe.
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: as above; writing needs `&mut self` or happens in kernels, whose order streams give.
unsafe impl<T: Sync> Sync for Buffer<T> {}

impl<T: Pod> Buffer<T> {
    pub(crate) fn new(device: &Device, len: usize) -> Result<Self> {
        device.bind()?;
        let bytes = len
            .checked_mul(size_of::<T>())
            .ok_or_else(|| DeviceError::Misuse("a buffer over 2^64 bytes".to_owned()))?;
        // SAFETY: the context is current. The driver refuses 0 bytes, so there is at least one. `T` is plain data: any bits are values of it.
        let address =
            unsafe { result::malloc_sync(bytes.max(1)) }.doing("an allocation").map_err(|error| match error {
                DeviceError::OutOfMemory { .. } => {
                    let (free, total) = device.memory().unwrap_or_default();
                    DeviceError::OutOfMemory { wanted: bytes, free, total }
                }
                other => other,
            })?;
        Ok(Self { address, len, device: device.clone(), values: PhantomData })
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it is, for kernels.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Sets the values from `at` on, waiting until they are there.
    pub fn fill_at(&mut self, at: usize, values: &[T]) -> Result<()> {
        if at.checked_add(values.len()).is_none_or(|end| end > self.len) {
            let what = format!("{} values from {at} on do not fit a buffer of {}", values.len(), self.len);
            return Err(DeviceError::Misuse(what));
        }
        if values.is_empty() {
            return Ok(());
        }
        self.device.bind()?;
        let address = self.address + (at * size_of::<T>()) as u64;
        // SAFETY: the buffer is at least as long as the values from `at` on, and the call returns when they are copied out of `values`.
        unsafe { result::memcpy_htod_sync(address, values) }.doing("copying to the GPU")?;
        // Out of pageable memory, which is not yet into the GPU's: streams that do not wait for the default one could read what was there before. Seen on a GPU that
        // other programs kept busy, as a model with wrong weights.
        // SAFETY: null is the default stream, in which the copy was made.
        unsafe { result::stream::synchronize(std::ptr::null_mut()) }.doing("waiting for a copy")
    }

    /// Sets the first values in the order of a stream. The driver takes its own copy of small or pageable values before it returns.
    pub fn write(&mut self, values: &[T], stream: &Stream) -> Result<()> {
        if values.len() > self.len {
            let what = format!("{} values do not fit a buffer of {}", values.len(), self.len);
            return Err(DeviceError::Misuse(what));
        }
        self.device.bind()?;
        // SAFETY: the buffer is at least as long as the values; a slice is pageable memory, which the driver stages before it returns.
        unsafe { result::memcpy_htod_async(self.address, values, stream.raw()) }.doing("copying to the GPU")
    }

    /// Sets every byte, in the order of a stream.
    pub fn set_bytes(&mut self, byte: u8, stream: &Stream) -> Result<()> {
        self.device.bind()?;
        // SAFETY: the length is the buffer's, and `T` is plain data.
        unsafe { result::memset_d8_async(self.address, byte, self.len * size_of::<T>(), stream.raw()) }
            .doing("filling memory")
    }

    /// Copies `len` values from one place to another, which do not overlap, in the order of a stream.
    pub fn copy_within(&mut self, from: usize, to: usize, len: usize, stream: &Stream) -> Result<()> {
        let overlap = from < to + len && to < from + len;
        if overlap || [from, to].iter().any(|at| at.checked_add(len).is_none_or(|end| end > self.len)) {
            let what = format!("{len} values cannot be copied from {from} to {to} in a buffer of {}", self.len);
            return Err(DeviceError::Misuse(what));
        }
        self.device.bind()?;
        let at = |place: usize| self.address + (place * size_of::<T>()) as u64;
        // SAFETY: both places lie in the buffer and do not overlap.
        unsafe { result::memcpy_dtod_async(at(to), at(from), len * size_of::<T>(), stream.raw()) }
            .doing("copying on the GPU")
    }

    /// Copies the first `len` values of another buffer to `at`, in the order of a stream.
    pub fn copy_from(&mut self, at: usize, from: &Self, len: usize, stream: &Stream) -> Result<()> {
        if len > from.len || at.checked_add(len).is_none_or(|end| end > self.len) {
            let what = format!("{len} of {} values do not fit a buffer of {} from {at} on", from.len, self.len);
            return Err(DeviceError::Misuse(what));
        }
        self.device.bind()?;
        let to = self.address + (at * size_of::<T>()) as u64;
        // SAFETY: both buffers are long enough, and two buffers do not overlap.
        unsafe { result::memcpy_dtod_async(to, from.address, len * size_of::<T>(), stream.raw()) }
            .doing("copying on the GPU")
    }

    /// The first `values.len()` values, when all work that was given to the stream is done.
    pub fn read(&self, values: &mut [T], stream: &Stream) -> Result<()> {
        if values.len() > self.len {
            let what = format!("{} values are more than the {} of a buffer", values.len(), self.len);
            return Err(DeviceError::Misuse(what));
        }
        stream.synchronize()?;
        // SAFETY: the buffer is at least as long as the values, and the call returns when they are copied.
        unsafe { result::memcpy_dtoh_sync(values, self.address) }.doing("copying from the GPU")
    }

    /// The values, when all work that was given to the stream is done.
    pub fn download(&self, stream: &Stream) -> Result<Vec<T>> {
        stream.synchronize()?;
        let mut values = vec![T::zeroed(); self.len];
        // SAFETY: both have `len` values, and the call returns when they are copied.
        unsafe { result::memcpy_dtoh_sync(&mut values, self.address) }.doing("copying from the GPU")?;
        Ok(values)
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // Of a lost GPU nothing needs to be given back, so errors are left alone.
        if self.device.bind().is_ok() {
            // SAFETY: allocated by `new`, freed once; the driver waits for running kernels first.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}
