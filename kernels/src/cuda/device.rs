//! Opening a GPU: is there a driver, is it new enough, can the GPU run the kernels.
//!
//! A [`Device`] is a handle that is cheap to clone; the context lives as long as any clone, buffer, stream or graph of it.

use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::Pod;
use cudarc::driver::{result, sys};

use super::buffer::Buffer;
use super::error::{DeviceError, Doing, Result};
use super::images::Image;
use super::launch::{Kernel, Stream};

/// The least CUDA version of a driver that loads the embedded images, as `1000 · major + 10 · minor`.
const MIN_DRIVER: c_int = 12040;

/// An open GPU.
///
/// ```
/// use sbnc_kernels::cuda::{Device, DeviceError};
/// match Device::open(0) {
///     Ok(device) => println!("{} with {} multiprocessors", device.name(), device.multiprocessors()),
///     Err(DeviceError::NoDriver(_)) => println!("no GPU here"),
///     Err(other) => println!("{other}"),
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Device(Arc<Context>);

#[derive(Debug)]
struct Context {
    raw: sys::CUcontext,
    device: sys::CUdevice,
    name: String,
    capability: (u32, u32),
    multiprocessors: u32,
    /// Whether it is given the machine code for Hopper.
    hopper: bool,
    shared_bytes: u32,
    modules: Mutex<HashMap<&'static str, Module>>,
    kernels: Mutex<HashMap<String, Kernel>>,
}

/// A loaded image. It stays loaded as long as the context.
#[derive(Debug)]
struct Module(sys::CUmodule);

// SAFETY: contexts and modules are the driver's handles; the driver is thread-safe, and every use makes the context current in its thread first.
unsafe impl Send for Context {}
// SAFETY: as above; the only field that changes is behind a mutex.
unsafe impl Sync for Context {}

impl Device {
    /// Opens a GPU by its number, from 0.
    pub fn open(ordinal: usize) -> Result<Self> {
        probe()?;
        result::init().doing("the start of CUDA")?;
        let found = result::device::get_count().doing("counting GPUs")?;
        let wanted = c_int::try_from(ordinal).ok().filter(|&wanted| wanted < found);
        let wanted = wanted.ok_or(DeviceError::NoDevice { wanted: ordinal, found: found.unsigned_abs() as usize })?;
        let device = result::device::get(wanted).doing("looking up a GPU")?;
        let name = result::device::get_name(device).doing("reading a GPU's name")?;
        use sys::CUdevice_attribute as A;
        let capability = (
            attribute(device, A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(device, A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if capability < (8, 0) {
            return Err(DeviceError::Unsupported { name, capability });
        }
        let multiprocessors = attribute(device, A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let shared_bytes = attribute(device, A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let hopper = capability == (9, 0) && std::env::var_os("SBNC_CUDA_PTX").is_none();
        // SAFETY: `device` was given by the driver just now.
        let raw = unsafe { result::primary_ctx::retain(device) }.doing("opening a GPU")?;
        let (modules, kernels) = (Mutex::default(), Mutex::default());
        Ok(Self(Arc::new(Context {
            raw,
            device,
            name,
            capability,
            multiprocessors,
            hopper,
            shared_bytes,
            modules,
            kernels,
        })))
    }

    /// The GPU's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Compute capability: major, minor.
    pub fn capability(&self) -> (u32, u32) {
        self.0.capability
    }

    /// How many multiprocessors it has.
    pub fn multiprocessors(&self) -> u32 {
        self.0.multiprocessors
    }

    /// Whether it runs the machine code for Hopper (`sm_90a`), and not the PTX that every GPU can run. The variable `SBNC_CUDA_PTX` forces the latter, for tests.
    pub fn is_hopper(&self) -> bool {
        self.0.hopper
    }

    /// Whether launches may overlap: the PTX for Ampere does not know how to wait for the launch before.
    pub(crate) fn can_overlap(&self) -> bool {
        self.is_hopper()
    }

    /// Shared memory that a block can have.
    pub fn shared_bytes(&self) -> u32 {
        self.0.shared_bytes
    }

    /// Memory that is free, and all of it, in bytes.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.bind()?;
        result::mem_get_info().doing("reading the free memory")
    }

    /// Memory for `len` values, unset.
    pub fn alloc<T: Pod>(&self, len: usize) -> Result<Buffer<T>> {
        Buffer::new(self, len)
    }

    /// A copy of `values` on the GPU.
    pub fn upload<T: Pod>(&self, values: &[T]) -> Result<Buffer<T>> {
        let mut buffer = Buffer::new(self, values.len())?;
        buffer.fill_at(0, values)?;
        Ok(buffer)
    }

    /// A new stream: work in it happens in order.
    pub fn stream(&self) -> Result<Stream> {
        Stream::new(self)
    }

    /// Waits for everything on the GPU.
    pub fn synchronize(&self) -> Result<()> {
        self.bind()?;
        result::ctx::synchronize().doing("waiting for the GPU")
    }

    /// A kernel of an image, looked up once. `shared` is the dynamic shared memory of its launches. Names are unique among all images.
    pub(crate) fn kernel(&self, image: &'static Image, name: &str, shared: u32) -> Result<Kernel> {
        let mut kernels = self.0.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        // What was reserved for one launch serves those that need less; one that needs more is looked up again.
        if let Some(kernel) = kernels.get(name).filter(|kernel| shared <= kernel.shared()) {
            return Ok(kernel.with_shared(shared));
        }
        let kernel = self.look_up(image, name, shared)?;
        kernels.insert(name.to_owned(), kernel);
        Ok(kernel)
    }

    fn look_up(&self, image: &'static Image, name: &str, shared: u32) -> Result<Kernel> {
        self.bind()?;
        let module = self.module(image)?;
        let symbol = CString::new(name).map_err(|_| DeviceError::Misuse(format!("no kernel is called {name:?}")))?;
        // SAFETY: the module was loaded in this context, which keeps it.
        let function = unsafe { result::module::get_function(module, symbol) }.doing("looking up a kernel")?;
        if shared > 48 << 10 {
            use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as SHARED;
            // SAFETY: the function belongs to a module that stays loaded.
            let set = unsafe { result::function::set_function_attribute(function, SHARED, shared.cast_signed()) };
            set.doing("reserving shared memory")?;
        }
        Ok(Kernel::new(function, shared))
    }

    fn module(&self, image: &'static Image) -> Result<sys::CUmodule> {
        let mut modules = self.0.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(image.name) {
            return Ok(module.0);
        }
        let bytes = image.bytes(self.is_hopper());
        // SAFETY: the image is machine code, whose length its header states, or PTX with a zero byte after it.
        let module = unsafe { result::module::load_data(bytes.as_ptr().cast()) }.doing("loading kernels")?;
        modules.insert(image.name, Module(module));
        Ok(module)
    }

    /// Makes the context current in this thread; calls of the driver need it.
    pub(crate) fn bind(&self) -> Result<()> {
        // SAFETY: the context was retained and lives as long as `self`.
        unsafe { result::ctx::set_current(self.0.raw) }.doing("choosing a GPU")
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // The last user is gone. An error here means that the GPU is lost, and then there is nothing to give back.
        // SAFETY: retained when the device was opened, released once.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// Fails where there is no driver, or one that is too old, without calling anything that an old one lacks.
fn probe() -> Result<()> {
    // SAFETY: it opens the driver's library, whose initialisers are those of the driver that this system's owner installed.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::NoDriver("libcuda is not installed"));
    }
    let mut version = 0;
    // SAFETY: the library is there, this function is in every version of it, and it writes one integer.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.doing("reading the driver's version")?;
    if version < MIN_DRIVER {
        let text = |v: c_int| format!("{}.{}", v / 1000, v % 1000 / 10);
        return Err(DeviceError::OldDriver { found: text(version), wanted: text(MIN_DRIVER) });
    }
    Ok(())
}

fn attribute(device: sys::CUdevice, which: sys::CUdevice_attribute) -> Result<u32> {
    // SAFETY: `device` was given by the driver.
    let value = unsafe { result::device::get_attribute(device, which) }.doing("reading a GPU's properties")?;
    Ok(value.unsigned_abs())
}
