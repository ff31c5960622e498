// Written by kernels/src/cuda/abi.rs; see there.
#pragma once

// What a linear layer's kernels take. Rows are outputs, columns are inputs.
struct LinearArgs {
    // Packed weights.
    const u8* weights;
    // int8 activations, a row of `stride` bytes for each token.
    const s8* x;
    // A multiplier for each token.
    const float* token_scales;
    // A multiplier for each row of the weights.
    const float* row_scales;
    // A value for each row that is added, or null. bf16.
    const u16* bias;
    // Values that are added, laid out as the output, or null. bf16.
    const u16* residual;
    // Output: tokens × rows, bf16, f32 or i32.
    void* out;
    // Partial sums and counters of split sums, zeroed counters first.
    void* scratch;
    // Rows of the weights.
    u32 rows;
    // Columns as stored: a multiple of 128.
    u32 cols;
    // Bytes of a row of `x`.
    u32 stride;
    // Tokens.
    u32 tokens;
    // What the output is: 0 bf16, 1 f32, 2 the sums themselves, i32.
    u32 kind;
    // Blocks that share the columns.
    u32 splits;
    // Always zero, which the compiler must not know.
    u32 zero;
    // No meaning.
    u32 reserved;
};
static_assert(sizeof(LinearArgs) == 96, "differs from the host");

// What the repacking of dense trits takes.
struct RepackArgs {
    // Rows of `row_bytes` bytes, four trits each.
    const u8* trits;
    // Tiles of 512 bytes.
    u8* tiles;
    // Rows of trits.
    u32 rows;
    // Bytes of a row.
    u32 row_bytes;
    // Tiles down.
    u32 tile_rows;
    // Tiles across.
    u32 tile_cols;
};
static_assert(sizeof(RepackArgs) == 32, "differs from the host");
