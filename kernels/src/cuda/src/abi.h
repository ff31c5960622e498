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
    // A value for each row that is added, or null.
    const float* bias;
    // Values that are added, laid out as the output, or null. bf16.
    const u16* residual;
    // Output: tokens × rows, bf16, f32 or i32; half as many, bf16, of gates.
    void* out;
    // Rows of the weights.
    u32 rows;
    // Columns as stored: a multiple of 128.
    u32 cols;
    // Bytes of a row of `x`.
    u32 stride;
    // Tokens.
    u32 tokens;
    // What the output is: 0 bf16, 1 f32, 2 the sums themselves, i32, 3 f32 that is added to.
    u32 kind;
    // Always zero, which the compiler must not know.
    u32 zero;
    // Of gates: 0 silu, 1 squared relu, 2 gelu.
    u32 activation;
    // No meaning.
    u32 reserved;
};
static_assert(sizeof(LinearArgs) == 88, "differs from the host");

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

// What reading rows of an embedding takes.
struct EmbedArgs {
    // The embedding, row-major.
    const void* table;
    // A multiplier for each row, or null.
    const float* scale;
    // The row of each token.
    const u32* ids;
    // A row of `cols` values for each token.
    float* out;
    // Values of a row.
    u32 cols;
    // No meaning.
    u32 reserved;
};
static_assert(sizeof(EmbedArgs) == 40, "differs from the host");

// What norm and quantisation take.
struct QuantiseArgs {
    // Rows; or gates; or sums of the parts of attention, [token][split][cols].
    const void* x;
    // Up projections, where there are gates.
    const void* up;
    // Largest score and total of a part, [token][split][head].
    const float2* shares;
    // Positions of the tokens, which tell the number of parts; not written in this graph before.
    const u32* positions;
    // Of the norm, or null.
    const float* weight;
    // Quantised rows of `padded` bytes.
    s8* out;
    // A multiplier for each token.
    float* scale;
    // Where not null, normalised rows go here and nothing is quantised.
    float* plain;
    // Where not null, token t is row rows[t] of `x`; not written in this graph before.
    const u32* rows;
    // Values of a row.
    u32 cols;
    // From row to row of `x`, in values.
    u32 stride;
    // From row to row of `up`, in values.
    u32 up_stride;
    // Bytes of an output row: a multiple of 64.
    u32 padded;
    // M of a pattern whose inputs are gathered into windows, or 0.
    u32 windows_of;
    // 0 in order of columns, 1 as decode kernels read.
    u32 order;
    // 0 silu, 1 squared relu, 2 gelu.
    u32 activation;
    // 8 or 4.
    u32 bits;
    // Values of a head.
    u32 head_dim;
    // Heads.
    u32 heads;
    // Parts that there is room for.
    u32 splits;
    // How far attention looks back, or 0.
    u32 window;
    // Added to the mean of squares.
    float eps;
    // No meaning.
    u32 reserved;
};
static_assert(sizeof(QuantiseArgs) == 128, "differs from the host");

// What rotation and the filling of the cache take.
struct RopeArgs {
    // Queries of the tokens.
    const void* q;
    // Keys.
    const void* k;
    // Values.
    const void* v;
    // Norm of a query's head, or null.
    const float* q_norm;
    // Norm of a key's head, or null.
    const float* k_norm;
    // Cosine and sine, [position][head_dim / 2].
    const float2* turns;
    // The sequence of each token.
    const u32* sequences;
    // The position of each token.
    const u32* positions;
    // Page numbers, [sequence][max_pages].
    const u32* pages;
    // Rotated queries, f16, [token][head][head_dim].
    u16* out;
    // The layer's pool of pages, f16.
    u16* cache;
    // From token to token of `q`, in values.
    u32 q_stride;
    // Of `k`.
    u32 k_stride;
    // Of `v`.
    u32 v_stride;
    // Page numbers of a sequence.
    u32 max_pages;
    // Query heads.
    u32 heads;
    // Key and value heads.
    u32 kv_heads;
    // Values of a head.
    u32 head_dim;
    // Whether element pairs are (2i, 2i + 1), not (i, i + half).
    u32 interleaved;
    // Of the norms.
    float eps;
    // No meaning.
    u32 reserved;
};
static_assert(sizeof(RopeArgs) == 128, "differs from the host");

// What attention of one new token a sequence takes.
struct DecodeAttentionArgs {
    // Queries of the new tokens.
    const float* q;
    // Their keys.
    const float* k;
    // Their values.
    const float* v;
    // Norm of a query's head, or null.
    const float* q_norm;
    // Norm of a key's head, or null.
    const float* k_norm;
    // Cosine and sine, [position][head_dim / 2].
    const float2* turns;
    // The position of each new token; not written in this graph before.
    const u32* positions;
    // Their sequences; as the positions.
    const u32* sequences;
    // Page numbers, [sequence][max_pages]; as the positions.
    const u32* pages;
    // The layer's pool of pages, f16.
    u16* cache;
    // Unscaled sums of a part's values, [sequence][split][head][head_dim].
    float* sums;
    // Largest score, in powers of two, and total of a part, [sequence][split][head].
    float2* shares;
    // From token to token of `q`, in values.
    u32 q_stride;
    // Of `k`.
    u32 k_stride;
    // Of `v`.
    u32 v_stride;
    // Page numbers of a sequence.
    u32 max_pages;
    // Query heads.
    u32 heads;
    // Key and value heads.
    u32 kv_heads;
    // Parts that there is room for.
    u32 splits;
    // How far attention looks back, or 0.
    u32 window;
    // As in RopeArgs.
    u32 interleaved;
    // Of the norms.
    float eps;
    // What scores are multiplied by: log2(e) / sqrt(head_dim).
    float score;
    // No meaning.
    u32 reserved;
};
static_assert(sizeof(DecodeAttentionArgs) == 144, "differs from the host");

// A piece of work of prefill attention: up to 128 tokens of one sequence.
struct AttentionTile {
    // Its first token's row.
    u32 token;
    // Its tokens.
    u32 rows;
    // Its sequence.
    u32 sequence;
    // Its first token's position.
    u32 position;
};
static_assert(sizeof(AttentionTile) == 16, "differs from the host");

// What attention of many tokens takes.
struct PrefillAttentionArgs {
    // Rotated queries, f16, [token][head][head_dim].
    const u16* q;
    // The layer's pool of pages, f16.
    const u16* cache;
    // The work, the heaviest first.
    const AttentionTile* tiles;
    // Page numbers, [sequence][max_pages].
    const u32* pages;
    // f16, [token][head][head_dim].
    u16* out;
    // The sequence of each token (attention_plain).
    const u32* sequences;
    // The position of each token (attention_plain).
    const u32* positions;
    // Page numbers of a sequence.
    u32 max_pages;
    // Query heads.
    u32 heads;
    // Key and value heads.
    u32 kv_heads;
    // Values of a head.
    u32 head_dim;
    // How far attention looks back, or 0.
    u32 window;
    // As in DecodeAttentionArgs.
    float score;
};
static_assert(sizeof(PrefillAttentionArgs) == 80, "differs from the host");

// What the output head takes.
struct HeadArgs {
    // The head, row-major.
    const void* weights;
    // A multiplier for each row of int8, or null.
    const float* scale;
    // Normalised rows of `cols` values.
    const float* x;
    // The same in two terms of 16 bits, or of 8 and then a factor for each token, [term][token][cols] (head_split, head_many).
    void* halves;
    // [token][row].
    float* logits;
    // The largest logit that a block found, [token][block] (head_few).
    float* best;
    // Its row, the lowest where several are equal.
    u32* best_row;
    // Words.
    u32 rows;
    // Values of a row.
    u32 cols;
    // Tokens.
    u32 tokens;
    // No meaning.
    u32 reserved;
};
static_assert(sizeof(HeadArgs) == 72, "differs from the host");

// How a sequence's next token is chosen.
struct Sampling {
    // 0 for the largest logit.
    float inverse_temperature;
    // How many of the likeliest words are kept; 0 for all.
    u32 top_k;
    // What share of the probability they have; 1 for all.
    float top_p;
    // The least probability, relative to the likeliest; 0 for all.
    float min_p;
    // The seed's low half.
    u32 seed_low;
    // The seed's high half.
    u32 seed_high;
    // The position of the token that the first draw follows.
    u32 first;
    // No meaning.
    u32 reserved;
};
static_assert(sizeof(Sampling) == 32, "differs from the host");

// What choosing tokens takes.
struct SampleArgs {
    // [sequence][vocab].
    const float* logits;
    // As the head left it, [sequence][blocks].
    const float* best;
    // As the head left it.
    const u32* best_row;
    // Of each sequence.
    const Sampling* sampling;
    // The chosen tokens, for the next step.
    u32* tokens;
    // Counted up.
    u32* positions;
    // The token for position p of sequence s is at [s][p mod history_len].
    u32* history;
    // Words.
    u32 vocab;
    // What the head found the largest in, or 0.
    u32 blocks;
    // Tokens that are kept.
    u32 history_len;
    // No meaning.
    u32 reserved;
};
static_assert(sizeof(SampleArgs) == 72, "differs from the host");
