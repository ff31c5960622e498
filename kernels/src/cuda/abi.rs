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
        /// A value for each row that is added, or null.
        bias: u64 = "const float*",
        /// Values that are added, laid out as the output, or null. bf16.
        residual: u64 = "const u16*",
        /// Output: tokens × rows, bf16, f32 or i32; half as many, bf16, of gates.
        out: u64 = "void*",
        /// Rows of the weights.
        rows: u32 = "u32",
        /// Columns as stored: a multiple of 128.
        cols: u32 = "u32",
        /// Bytes of a row of `x`.
        stride: u32 = "u32",
        /// Tokens.
        tokens: u32 = "u32",
        /// What the output is: 0 bf16, 1 f32, 2 the sums themselves, i32, 3 f32 that is added to.
        kind: u32 = "u32",
        /// Always zero, which the compiler must not know.
        zero: u32 = "u32",
        /// Of gates: 0 silu, 1 squared relu, 2 gelu.
        activation: u32 = "u32",
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

    /// What reading rows of an embedding takes.
    struct EmbedArgs {
        /// The embedding, row-major.
        table: u64 = "const void*",
        /// A multiplier for each row, or null.
        scale: u64 = "const float*",
        /// The row of each token.
        ids: u64 = "const u32*",
        /// A row of `cols` values for each token.
        out: u64 = "float*",
        /// Values of a row.
        cols: u32 = "u32",
        /// No meaning.
        reserved: u32 = "u32",
    }

    /// What norm and quantisation take.
    struct QuantiseArgs {
        /// Rows; or gates; or sums of the parts of attention, [token][split][cols].
        x: u64 = "const void*",
        /// Up projections, where there are gates.
        up: u64 = "const void*",
        /// Largest score and total of a part, [token][split][head].
        shares: u64 = "const float2*",
        /// Positions of the tokens, which tell the number of parts; not written in this graph before.
        positions: u64 = "const u32*",
        /// Of the norm, or null.
        weight: u64 = "const float*",
        /// Quantised rows of `padded` bytes.
        out: u64 = "s8*",
        /// A multiplier for each token.
        scale: u64 = "float*",
        /// Where not null, normalised rows go here and nothing is quantised.
        plain: u64 = "float*",
        /// Where not null, token t is row rows[t] of `x`; not written in this graph before.
        rows: u64 = "const u32*",
        /// Values of a row.
        cols: u32 = "u32",
        /// From row to row of `x`, in values.
        stride: u32 = "u32",
        /// From row to row of `up`, in values.
        up_stride: u32 = "u32",
        /// Bytes of an output row: a multiple of 64.
        padded: u32 = "u32",
        /// M of a pattern whose inputs are gathered into windows, or 0.
        windows_of: u32 = "u32",
        /// 0 in order of columns, 1 as decode kernels read.
        order: u32 = "u32",
        /// 0 silu, 1 squared relu, 2 gelu.
        activation: u32 = "u32",
        /// 8 or 4.
        bits: u32 = "u32",
        /// Values of a head.
        head_dim: u32 = "u32",
        /// Heads.
        heads: u32 = "u32",
        /// Parts that there is room for.
        splits: u32 = "u32",
        /// How far attention looks back, or 0.
        window: u32 = "u32",
        /// Added to the mean of squares.
        eps: f32 = "float",
        /// No meaning.
        reserved: u32 = "u32",
    }

    /// What rotation and the filling of the cache take.
    struct RopeArgs {
        /// Queries of the tokens.
        q: u64 = "const void*",
        /// Keys.
        k: u64 = "const void*",
        /// Values.
        v: u64 = "const void*",
        /// Norm of a query's head, or null.
        q_norm: u64 = "const float*",
        /// Norm of a key's head, or null.
        k_norm: u64 = "const float*",
        /// Cosine and sine, [position][head_dim / 2].
        turns: u64 = "const float2*",
        /// The sequence of each token.
        sequences: u64 = "const u32*",
        /// The position of each token.
        positions: u64 = "const u32*",
        /// Page numbers, [sequence][max_pages].
        pages: u64 = "const u32*",
        /// Rotated queries, f16, [token][head][head_dim].
        out: u64 = "u16*",
        /// The layer's pool of pages, f16.
        cache: u64 = "u16*",
        /// From token to token of `q`, in values.
        q_stride: u32 = "u32",
        /// Of `k`.
        k_stride: u32 = "u32",
        /// Of `v`.
        v_stride: u32 = "u32",
        /// Page numbers of a sequence.
        max_pages: u32 = "u32",
        /// Query heads.
        heads: u32 = "u32",
        /// Key and value heads.
        kv_heads: u32 = "u32",
        /// Values of a head.
        head_dim: u32 = "u32",
        /// Whether element pairs are (2i, 2i + 1), not (i, i + half).
        interleaved: u32 = "u32",
        /// Of the norms.
        eps: f32 = "float",
        /// No meaning.
        reserved: u32 = "u32",
    }

    /// What attention of one new token a sequence takes.
    struct DecodeAttentionArgs {
        /// Queries of the new tokens.
        q: u64 = "const float*",
        /// Their keys.
        k: u64 = "const float*",
        /// Their values.
        v: u64 = "const float*",
        /// Norm of a query's head, or null.
        q_norm: u64 = "const float*",
        /// Norm of a key's head, or null.
        k_norm: u64 = "const float*",
        /// Cosine and sine, [position][head_dim / 2].
        turns: u64 = "const float2*",
        /// The position of each new token; not written in this graph before.
        positions: u64 = "const u32*",
        /// Their sequences; as the positions.
        sequences: u64 = "const u32*",
        /// Page numbers, [sequence][max_pages]; as the positions.
        pages: u64 = "const u32*",
        /// The layer's pool of pages, f16.
        cache: u64 = "u16*",
        /// Unscaled sums of a part's values, [sequence][split][head][head_dim].
        sums: u64 = "float*",
        /// Largest score, in powers of two, and total of a part, [sequence][split][head].
        shares: u64 = "float2*",
        /// From token to token of `q`, in values.
        q_stride: u32 = "u32",
        /// Of `k`.
        k_stride: u32 = "u32",
        /// Of `v`.
        v_stride: u32 = "u32",
        /// Page numbers of a sequence.
        max_pages: u32 = "u32",
        /// Query heads.
        heads: u32 = "u32",
        /// Key and value heads.
        kv_heads: u32 = "u32",
        /// Parts that there is room for.
        splits: u32 = "u32",
        /// How far attention looks back, or 0.
        window: u32 = "u32",
        /// As in RopeArgs.
        interleaved: u32 = "u32",
        /// Of the norms.
        eps: f32 = "float",
        /// What scores are multiplied by: log2(e) / sqrt(head_dim).
        score: f32 = "float",
        /// No meaning.
        reserved: u32 = "u32",
    }

    /// A piece of work of prefill attention: up to 128 tokens of one sequence.
    struct AttentionTile {
        /// Its first token's row.
        token: u32 = "u32",
        /// Its tokens.
        rows: u32 = "u32",
        /// Its sequence.
        sequence: u32 = "u32",
        /// Its first token's position.
        position: u32 = "u32",
    }

    /// What attention of many tokens takes.
    struct PrefillAttentionArgs {
        /// Rotated queries, f16, [token][head][head_dim].
        q: u64 = "const u16*",
        /// The layer's pool of pages, f16.
        cache: u64 = "const u16*",
        /// The work, the heaviest first.
        tiles: u64 = "const AttentionTile*",
        /// Page numbers, [sequence][max_pages].
        pages: u64 = "const u32*",
        /// f16, [token][head][head_dim].
        out: u64 = "u16*",
        /// The sequence of each token (attention_plain).
        sequences: u64 = "const u32*",
        /// The position of each token (attention_plain).
        positions: u64 = "const u32*",
        /// Page numbers of a sequence.
        max_pages: u32 = "u32",
        /// Query heads.
        heads: u32 = "u32",
        /// Key and value heads.
        kv_heads: u32 = "u32",
        /// Values of a head.
        head_dim: u32 = "u32",
        /// How far attention looks back, or 0.
        window: u32 = "u32",
        /// As in DecodeAttentionArgs.
        score: f32 = "float",
    }

    /// What the output head takes.
    struct HeadArgs {
        /// The head, row-major.
        weights: u64 = "const void*",
        /// A multiplier for each row of int8, or null.
        scale: u64 = "const float*",
        /// Normalised rows of `cols` values.
        x: u64 = "const float*",
        /// The same in two terms of 16 bits, or of 8 and then a factor for each token, [term][token][cols] (head_split, head_many).
        halves: u64 = "void*",
        /// [token][row].
        logits: u64 = "float*",
        /// The largest logit that a block found, [token][block] (head_few).
        best: u64 = "float*",
        /// Its row, the lowest where several are equal.
        best_row: u64 = "u32*",
        /// Words.
        rows: u32 = "u32",
        /// Values of a row.
        cols: u32 = "u32",
        /// Tokens.
        tokens: u32 = "u32",
        /// No meaning.
        reserved: u32 = "u32",
    }

    /// How a sequence's next token is chosen.
    struct Sampling {
        /// 0 for the largest logit.
        inverse_temperature: f32 = "float",
        /// How many of the likeliest words are kept; 0 for all.
        top_k: u32 = "u32",
        /// What share of the probability they have; 1 for all.
        top_p: f32 = "float",
        /// The least probability, relative to the likeliest; 0 for all.
        min_p: f32 = "float",
        /// The seed's low half.
        seed_low: u32 = "u32",
        /// The seed's high half.
        seed_high: u32 = "u32",
        /// The position of the token that the first draw follows.
        first: u32 = "u32",
        /// No meaning.
        reserved: u32 = "u32",
    }

    /// What choosing tokens takes.
    struct SampleArgs {
        /// [sequence][vocab].
        logits: u64 = "const float*",
        /// As the head left it, [sequence][blocks].
        best: u64 = "const float*",
        /// As the head left it.
        best_row: u64 = "const u32*",
        /// Of each sequence.
        sampling: u64 = "const Sampling*",
        /// The chosen tokens, for the next step.
        tokens: u64 = "u32*",
        /// Counted up.
        positions: u64 = "u32*",
        /// The token for position p of sequence s is at [s][p mod history_len].
        history: u64 = "u32*",
        /// Words.
        vocab: u32 = "u32",
        /// What the head found the largest in, or 0.
        blocks: u32 = "u32",
        /// Tokens that are kept.
        history_len: u32 = "u32",
        /// No meaning.
        reserved: u32 = "u32",
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
