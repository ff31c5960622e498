//! Which instructions this processor has, and which of them to use.

use std::fmt;

/// The variable that forces a platform: `portable`, `avx2`, `avx512`, `amx` or `neon`.
pub const VARIABLE: &str = "SBNC_CPU";

/// A set of instructions that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Whatever the compiler makes of plain code; the oracle.
    Portable,
    /// 256-bit integers and fused multiply-add.
    Avx2,
    /// 512-bit vectors with VNNI and VBMI.
    Avx512,
    /// int8 tiles, beside everything of [`Isa::Avx512`].
    Amx,
    /// 128-bit vectors of 64-bit Arm.
    Neon,
}

/// A set of instructions that this processor has: the value is the proof, so kernels may rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform(Isa);

/// The platform that was asked for cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// No platform has this name.
    #[error("{VARIABLE}={0}: expected portable, avx2, avx512, amx or neon")]
    Unknown(String),
    /// The processor or the system lacks it.
    #[error("{VARIABLE}={0}: this processor does not have it; it has {1}")]
    Missing(Isa, String),
}

impl Isa {
    /// All of them, from the plainest on.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx, Self::Neon];

    /// Its name, as [`VARIABLE`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
            Self::Neon => "neon",
        }
    }

    fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
                    && is_x86_feature_detected!("bmi2")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Self::Avx512.is_available() && super::x86_64::amx::is_available(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            _ => false,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Platform {
    /// The one that every processor has.
    pub const PORTABLE: Self = Self(Isa::Portable);

    /// All that this processor has, from the plainest on.
    pub fn available() -> impl Iterator<Item = Self> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Self)
    }

    /// The best that this processor has.
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::PORTABLE)
    }

    /// This one, if the processor has it.
    pub fn new(isa: Isa) -> Result<Self, PlatformError> {
        if isa.is_available() {
            return Ok(Self(isa));
        }
        let names: Vec<_> = Self::available().map(|p| p.isa().name()).collect();
        Err(PlatformError::Missing(isa, names.join(", ")))
    }

    /// The one that [`VARIABLE`] names, or the best.
    pub fn from_env() -> Result<Self, PlatformError> {
        match std::env::var(VARIABLE) {
            Ok(name) if !name.is_empty() => {
                let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name);
                Self::new(isa.ok_or(PlatformError::Unknown(name))?)
            }
            _ => Ok(Self::detect()),
        }
    }

    /// What it stands for.
    pub fn isa(self) -> Isa {
        self.0
    }
}
