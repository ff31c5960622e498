//! Methods that are compiled for some features of a processor.

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
pub(super) use methods;
