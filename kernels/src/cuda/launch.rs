//! Running kernels: streams, launches, captured graphs, events.
//!
//! A launch may *overlap* the one before it (programmatic dependent launch): its blocks start while the other still runs, and the kernel itself waits,
//! with `griddepcontrol.wait`, before it touches what the other writes. Kernels without that instruction must not be launched so.

use std::ffi::c_void;

use bytemuck::NoUninit;
use cudarc::driver::{result, sys};

use super::device::Device;
use super::error::{DeviceError, Doing, Result};

/// A kernel that can be launched. It belongs to the device that gave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    function: sys::CUfunction,
    shared: u32,
}

// SAFETY: a handle of the driver, which is thread-safe; modules are never unloaded before their context goes.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernel {
    pub(crate) fn new(function: sys::CUfunction, shared: u32) -> Self {
        Self { function, shared }
    }

    /// Dynamic shared memory that it was looked up for.
    pub(crate) fn shared(self) -> u32 {
        self.shared
    }

    /// The same kernel with less shared memory than it was looked up for.
    pub(crate) fn with_shared(self, shared: u32) -> Self {
        Self { shared: shared.min(self.shared), ..self }
    }
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Blocks in x, y and z.
    pub(crate) blocks: [u32; 3],
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Whether the launch may overlap the one before it.
    pub(crate) overlap: bool,
    /// Blocks in x that form a cluster; 1 for none.
    pub(crate) cluster: u32,
}

/// A value that is passed to a kernel, by address: plain data, or a tensor map.
pub(crate) trait Argument {
    /// Where the value is.
    fn pointer(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

impl<T: NoUninit> Argument for T {}

/// Work that happens in order.
#[derive(Debug)]
pub struct Stream {
    raw: sys::CUstream,
    device: Device,
}

// SAFETY: a handle of the driver, which is thread-safe.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    pub(crate) fn new(device: &Device) -> Result<Self> {
        device.bind()?;
        let raw = result::stream::create(result::stream::StreamKind::NonBlocking).doing("making a stream")?;
        Ok(Self { raw, device: device.clone() })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn raw(&self) -> sys::CUstream {
        self.raw
    }

    /// Waits until everything given to the stream is done.
    pub fn synchronize(&self) -> Result<()> {
        self.device.bind()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.raw) }.doing("waiting for kernels")
    }

    /// Launches a kernel.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in order; every address in them is of memory on this device that is as long as the kernel's contract says and
    /// lives until the stream has done the work; the grid is one the kernel allows.
    pub(crate) unsafe fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[&dyn Argument]) -> Result<()> {
        self.device.bind()?;
        let mut pointers: [*mut c_void; 8] = [std::ptr::null_mut(); 8];
        for (slot, argument) in pointers.iter_mut().zip(arguments) {
            *slot = argument.pointer();
        }
        use sys::CUlaunchAttributeID as Id;
        let attribute = |id, value| sys::CUlaunchAttribute { id, pad: [0; 4], value };
        let overlap = sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 };
        let size = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: grid.cluster, y: 1, z: 1 };
        let mut attributes = [
            attribute(Id::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, overlap),
            attribute(Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, sys::CUlaunchAttributeValue { clusterDim: size }),
        ];
        // The attributes that are wanted, as a part of the two.
        let (first, count) = (usize::from(!grid.overlap), usize::from(grid.overlap) + usize::from(grid.cluster > 1));
        let config = sys::CUlaunchConfig {
            gridDimX: grid.blocks[0],
            gridDimY: grid.blocks[1],
            gridDimZ: grid.blocks[2],
            blockDimX: grid.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: kernel.shared,
            hStream: self.raw,
            attrs: attributes[first..].as_mut_ptr(),
            numAttrs: count as u32,
        };
        // SAFETY: the configuration and the arguments live through the call, which copies them; the rest is the caller's promise.
        unsafe {
            sys::cuLaunchKernelEx(&raw const config, kernel.function, pointers.as_mut_ptr(), std::ptr::null_mut())
        }
        .doing("a launch")
    }

    /// Records what `work` gives to this stream, instead of running it. Memory that the work uses must live as long as the graph.
    pub fn capture(&self, work: impl FnOnce(&Self) -> Result<()>) -> Result<Graph> {
        use sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as MODE;
        self.device.bind()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::begin_capture(self.raw, MODE) }.doing("beginning a graph")?;
        let outcome = work(self);
        // SAFETY: as above; a capture was begun.
        let graph = unsafe { result::stream::end_capture(self.raw) }.doing("ending a graph");
        // What went wrong in the work explains more than a capture that broke by it.
        outcome?;
        let graph = graph?;
        // SAFETY: the graph was made just now.
        let made = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
        // SAFETY: the executable graph keeps nothing of it.
        let _ = unsafe { result::graph::destroy(graph) };
        Ok(Graph { raw: made.doing("making a graph executable")?, device: self.device.clone() })
    }

    /// Marks this point of the stream.
    pub fn event(&self) -> Result<Event> {
        self.device.bind()?;
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
        let event = Event { raw: result::event::create(flags).doing("making an event")?, device: self.device.clone() };
        // SAFETY: both live through the call.
        unsafe { result::event::record(event.raw, self.raw) }.doing("recording an event")?;
        Ok(event)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made by `new`, destroyed once; the driver finishes its work first.
            let _ = unsafe { result::stream::destroy(self.raw) };
        }
    }
}

/// Captured work, which is launched as a whole.
#[derive(Debug)]
pub struct Graph {
    raw: sys::CUgraphExec,
    device: Device,
}

// SAFETY: a handle of the driver, which is thread-safe.
unsafe impl Send for Graph {}

impl Graph {
    /// Runs the work in a stream.
    pub fn launch(&self, stream: &Stream) -> Result<()> {
        self.device.bind()?;
        // SAFETY: graph and stream live through the call; that the memory lives is what `capture` asks.
        unsafe { result::graph::launch(self.raw, stream.raw()) }.doing("launching a graph")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made by `capture`, destroyed once; the driver finishes its launches first.
            let _ = unsafe { result::graph::exec_destroy(self.raw) };
        }
    }
}

/// A point in a stream.
#[derive(Debug)]
pub struct Event {
    raw: sys::CUevent,
    device: Device,
}

impl Event {
    /// Milliseconds from `self` to `later`, waiting for both.
    pub fn milliseconds_to(&self, later: &Self) -> Result<f32> {
        if !std::ptr::eq(self.device.name(), later.device.name()) {
            return Err(DeviceError::Misuse("events of two devices have no time between them".to_owned()));
        }
        self.device.bind()?;
        // SAFETY: the event lives as long as `later`.
        unsafe { result::event::synchronize(later.raw) }.doing("waiting for an event")?;
        // SAFETY: both live through the call and were recorded.
        unsafe { result::event::elapsed(self.raw, later.raw) }.doing("reading a time")
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made by `event`, destroyed once.
            let _ = unsafe { result::event::destroy(self.raw) };
        }
    }
}
