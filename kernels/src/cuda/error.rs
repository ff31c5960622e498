//! What can go wrong with a GPU, and what to do about it.

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;

/// Why a GPU cannot be used, or stopped being usable. Every message says what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The driver's library is not there, or is a stub.
    #[error("no NVIDIA driver was found ({0}): install one, or run on the CPU (--device cpu)")]
    NoDriver(&'static str),
    /// The driver cannot load the embedded kernels.
    #[error(
        "the NVIDIA driver is too old: it supports CUDA {found}, and at least {wanted} is needed (driver 550 or newer); update it, or run on the CPU (--device cpu)"
    )]
    OldDriver {
        /// CUDA version of the driver.
        found: String,
        /// The least that works.
        wanted: String,
    },
    /// No such GPU.
    #[error("there is no GPU {wanted}: the driver sees {found}; choose one of those, or run on the CPU (--device cpu)")]
    NoDevice {
        /// The ordinal that was asked for.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// A GPU without the instructions that the kernels are made of.
    #[error(
        "{name} has compute capability {}.{}, and at least 8.0 (Ampere) is needed; run on the CPU (--device cpu)", capability.0, capability.1
    )]
    Unsupported {
        /// The GPU's name.
        name: String,
        /// Its compute capability.
        capability: (u32, u32),
    },
    /// The GPU's memory does not suffice.
    #[error(
        "out of GPU memory: {wanted} bytes were asked for and {free} of {total} are free; use a smaller batch or context, close other programs on the GPU, or run on the CPU (--device cpu)"
    )]
    OutOfMemory {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes free.
        free: usize,
        /// Bytes that the GPU has.
        total: usize,
    },
    /// The GPU failed, or a kernel did; nothing on it can be used any more.
    #[error(
        "the GPU was lost ({0}): everything on it is gone; start again, and if it repeats look for Xid messages in the system's log"
    )]
    Lost(String),
    /// The call does not fit the tensor, the device or the launch.
    #[error("{0}")]
    Misuse(String),
    /// Anything else that the driver reports.
    #[error("the NVIDIA driver refused {doing}: {what}")]
    Driver {
        /// What was being done.
        doing: &'static str,
        /// The driver's words.
        what: String,
    },
}

/// What most functions of this module give.
pub type Result<T, E = DeviceError> = std::result::Result<T, E>;

/// Errors of the driver, with what was being done.
pub(crate) trait Doing<T> {
    /// Says what was being done when the driver refused.
    fn doing(self, doing: &'static str) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, DriverError> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|DriverError(code)| translate(code, doing))
    }
}

impl Doing<()> for CUresult {
    fn doing(self, doing: &'static str) -> Result<()> {
        self.result().doing(doing)
    }
}

fn translate(code: CUresult, doing: &'static str) -> DeviceError {
    use CUresult as C;
    let what = format!("{code:?}");
    match code {
        C::CUDA_ERROR_STUB_LIBRARY => DeviceError::NoDriver("only the toolkit's stub of it"),
        C::CUDA_ERROR_NO_DEVICE => DeviceError::NoDevice { wanted: 0, found: 0 },
        C::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | C::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            DeviceError::NoDriver("its parts are of different versions: restart the machine")
        }
        // The driver knows no more here; allocations fill in the sizes.
        C::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::OutOfMemory { wanted: 0, free: 0, total: 0 },
        C::CUDA_ERROR_ECC_UNCORRECTABLE
        | C::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | C::CUDA_ERROR_ILLEGAL_ADDRESS
        | C::CUDA_ERROR_LAUNCH_TIMEOUT
        | C::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | C::CUDA_ERROR_ASSERT
        | C::CUDA_ERROR_HARDWARE_STACK_ERROR
        | C::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | C::CUDA_ERROR_MISALIGNED_ADDRESS
        | C::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | C::CUDA_ERROR_INVALID_PC
        | C::CUDA_ERROR_LAUNCH_FAILED
        | C::CUDA_ERROR_DEINITIALIZED
        | C::CUDA_ERROR_UNKNOWN => DeviceError::Lost(format!("{what} while {doing}")),
        _ => DeviceError::Driver { doing, what },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_kernel_is_a_lost_gpu() {
        let error = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS.doing("waiting");
        assert_eq!(error, Err(DeviceError::Lost("CUDA_ERROR_ILLEGAL_ADDRESS while waiting".to_owned())));
    }

    #[test]
    fn other_errors_keep_the_drivers_words() {
        let error = CUresult::CUDA_ERROR_INVALID_VALUE.doing("a launch").expect_err("it is an error");
        assert_eq!(error.to_string(), "the NVIDIA driver refused a launch: CUDA_ERROR_INVALID_VALUE");
    }
}
