//! Kernels for x86-64: the only place of the kernels for processors, beside the pool, where code is unsafe.

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod peak;
mod simd_avx2;
mod simd_avx512;

pub(crate) use simd_avx2::Avx2;
pub(crate) use simd_avx512::Avx512;

/// Safe methods of a token: each body is compiled with the features, and may use their intrinsics as safe functions.
macro_rules! methods {
    ($features:literal: $(fn $name:ident($($argument:ident: $type:ty),*) $(-> $output:ty)? $body:block)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) $(-> $output)? {
            #[inline]
            #[target_feature(enable = $features)]
            fn with_features($($argument: $type),*) $(-> $output)? $body
            // SAFETY: `self` exists only where `Platform` found these features.
            unsafe { with_features($($argument),*) }
        }
    )*};
}
use methods;
