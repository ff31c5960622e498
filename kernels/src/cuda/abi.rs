//! Structs that kernels take, declared once: the macro makes the Rust struct and the text of the C one.
//!
//! The C text is `src/abi.h`, which every source includes; a test compares it, so host and device cannot drift apart. `SBNC_BLESS=1 cargo test -p
//! sbnc-kernels` writes it again, and then the images are stale until `cargo xtask kernels`.

/// Declares structs of fields whose sizes leave no gaps, each with its type in C.
macro_rules! shared {
    ($($(#[doc = $what:literal])* struct $name:ident { $($(#[doc = $field_what:literal])* $field:ident: $rust:ty = $c:literal,)* })*) => {
        $(
            $(#[doc = $what])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
            pub(crate) struct $name {
                $($(#[doc = $field_what])* pub(crate) $field: $rust,)*
            }
        )*

        /// The same structs in C, with their sizes as the compiler of the host sees them.
        #[cfg(test)]
        fn text() -> String {
            let mut text = String::from("// Written by kernels/src/cuda/abi.rs; see there.\n#pragma once\n");
            $(
                text.push_str("\n");
                $(text.push_str(&format!("//{}\n", $what));)*
                text.push_str(concat!("struct ", stringify!($name), " {\n"));
                $(
                    $(text.push_str(&format!("    //{}\n", $field_what));)*
                    text.push_str(concat!("    ", $c, " ", stringify!($field), ";\n"));
                )*
                text.push_str(&format!("}};\nstatic_assert(sizeof({}) == {}, \"differs from the host\");\n", stringify!($name), size_of::<$name>()));
            )*
            text
        }
    };
}

shared! {
    /// What a linear layer's kernels take. Rows are outputs, columns are inputs.
    struct LinearArgs {
        /// Packed weights.
        weights: u64 = "const u8*",
        /// int8 activations, a row of `stride` bytes for each token.
        x: u64 = "const s8*",
        /// A multiplier for each token.
        token_scales: u64 = "const float*",
        /// A multiplier for each row of the weights.
        row_scales: u64 = "const float*",
        /// A value for each row that is added, or null. bf16.
        bias: u64 = "const u16*",
        /// Values that are added, laid out as the output, or null. bf16.
        residual: u64 = "const u16*",
        /// Output: tokens × rows, bf16, f32 or i32.
        out: u64 = "void*",
        /// Partial sums and counters of split sums, zeroed counters first.
        scratch: u64 = "void*",
        /// Rows of the weights.
        rows: u32 = "u32",
        /// Columns as stored: a multiple of 128.
        cols: u32 = "u32",
        /// Bytes of a row of `x`.
        stride: u32 = "u32",
        /// Tokens.
        tokens: u32 = "u32",
        /// What the output is: 0 bf16, 1 f32, 2 the sums themselves, i32.
        kind: u32 = "u32",
        /// Blocks that share the columns.
        splits: u32 = "u32",
        /// Always zero, which the compiler must not know.
        zero: u32 = "u32",
        /// No meaning.
        reserved: u32 = "u32",
    }

    /// What the repacking of dense trits takes.
    struct RepackArgs {
        /// Rows of `row_bytes` bytes, four trits each.
        trits: u64 = "const u8*",
        /// Tiles of 512 bytes.
        tiles: u64 = "u8*",
        /// Rows of trits.
        rows: u32 = "u32",
        /// Bytes of a row.
        row_bytes: u32 = "u32",
        /// Tiles down.
        tile_rows: u32 = "u32",
        /// Tiles across.
        tile_cols: u32 = "u32",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    #[test]
    fn c_header_is_what_the_structs_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cuda/src/abi.h");
        let text = super::text();
        if std::env::var_os("SBNC_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), text, "SBNC_BLESS=1 writes it again");
    }
}
