// targets: sm_90a
// Linear layers of many tokens on Hopper: weights expand from 2 bits in registers, activations wait in shared memory, both arrive by themselves.
//
// Floor: 2·rows·cols·tokens over the sparse int8 rate, 8192 products a clock and multiprocessor (half of it dense); sustained, the power limit decides, at about 3.4e15/s.
//
// Layout: a tile is 128·R rows × TOKENS. Its weights are R·8 strips of the file's order ([16 rows][128 columns][lane][16 bytes]), fetched 128 columns at a time as a box of
// 512 bytes × strips; its activations are rows of 128 bytes, swizzled. Two groups of four warps take 64·R rows each; a third fetches. A lane's 16 bytes of a strip are its
// value and metadata words of both halves, so one 16-byte read feeds two sparse instructions, or four dense ones.
//
// Launch: block 384. SPLIT = 1: a grid of at most as many blocks as multiprocessors, each taking every gridDim-th tile, row tiles running fastest. SPLIT > 1: a cluster of SPLIT blocks a
// tile, which share its columns and add their sums up through shared memory. Weights are padded to 256 rows. Launches may overlap: weights are fetched before the wait.
//
// GATED tiles, of two times 64 rows a group, take 128 gates and the 128 rows that they gate, half of the layer's rows further on, and write activation(gate) · up in bf16: half as many
// outputs, which nobody need read twice.
//
// Sums start at 0x4B400000, the bits of 1.5·2^23, so that as bits of a float they are 1.5·2^23 + sum: the conversion costs nothing. That holds for |sum| < 2^22, which the host ensures by
// the number of columns.
#include "async.h"
#include "wgmma.h"

constexpr int MAGIC = 0x4B400000;
constexpr float MAGIC_FLOAT = 12582912.0f;
constexpr int GROUPS = 2, THREADS = 128 * (GROUPS + 1);
// Outputs of 32 tokens × 64 rows, bf16.
constexpr u32 TURN_BYTES = 4096;

template <int R_, int TOKENS_, int STAGES_, int SPLIT_, bool SPARSE_, bool GATED_> struct Layout {
    static constexpr int R = R_, TOKENS = TOKENS_, STAGES = STAGES_, SPLIT = SPLIT_, ROWS = GROUPS * 64 * R;
    static constexpr bool SPARSE = SPARSE_, GATED = GATED_;
    static_assert(!GATED || (R == 2 && SPLIT == 1), "gates and what they gate belong to one thread");
    // Outputs of a tile, down.
    static constexpr int OUT_ROWS = GATED ? ROWS / 2 : ROWS;
    static constexpr int STEPS = SPARSE ? 2 : 4;  // instructions for 128 columns
    static constexpr u32 X_BYTES = TOKENS * 128, W_BYTES = ROWS * 32;
    // Shared memory: stages, three buffers for each group to turn outputs around, scales twice, barriers.
    static constexpr u32 X_AT = 0, W_AT = X_AT + STAGES * X_BYTES, TURN_AT = W_AT + STAGES * W_BYTES, SCALES_AT = TURN_AT + GROUPS * 3 * TURN_BYTES;
    static constexpr u32 SCALES = GROUPS * (TOKENS + 2 * 64 * R) * 4, BARRIERS_AT = SCALES_AT + 2 * SCALES, BYTES = BARRIERS_AT + STAGES * 16 + 1024;
};

// Weights of 128 columns of a tile. Gates and what they gate are two boxes.
template <class T> INLINE void fetch_weights(const TensorMap& w_map, const LinearArgs& p, u32 to, u32 k, u32 row_tile, u32 barrier) {
    copy_tile(to, &w_map, k * 128, row_tile * (T::OUT_ROWS / 16), barrier);
    if (T::GATED) copy_tile(to + T::W_BYTES / 2, &w_map, k * 128, (p.rows >> 5) + row_tile * (T::OUT_ROWS / 16), barrier);
}

// The thread that fetches: for each tile of this block, all its stages.
template <class T> INLINE void fetch(const TensorMap& x_map, const TensorMap& w_map, const LinearArgs& p, u32 base, u32 first, u32 step, u32 total, u32 row_tiles, u32 begin, u32 end) {
    const u32 full = base + T::BARRIERS_AT, empty = full + 8 * T::STAGES;
    // Weights of the first stages do not depend on what ran before.
    u32 ahead = 0;
    if (first < total)
        for (u32 k = begin; k < end && ahead < T::STAGES; k++, ahead++) {
            barrier_expect(full + 8 * ahead, T::X_BYTES + T::W_BYTES);
            fetch_weights<T>(w_map, p, base + T::W_AT + ahead * T::W_BYTES, k, first % row_tiles, full + 8 * ahead);
        }
    wait_for_previous();
    u32 stage = 0, phase = 1, done = 0;
    for (u32 tile = first; tile < total; tile += step) {
        const u32 row_tile = tile % row_tiles, token = tile / row_tiles * T::TOKENS;
        for (u32 k = begin; k < end; k++, done++) {
            const u32 barrier = full + 8 * stage;
            if (done >= ahead) {
                barrier_wait(empty + 8 * stage, phase);
                barrier_expect(barrier, T::X_BYTES + T::W_BYTES);
                fetch_weights<T>(w_map, p, base + T::W_AT + stage * T::W_BYTES, k, row_tile, barrier);
            }
            copy_tile(base + T::X_AT + stage * T::X_BYTES, &x_map, k * 128, token, barrier);
            if (++stage == T::STAGES) stage = 0, phase ^= 1;
        }
    }
}

// Where the value of one of 64 rows and 16 tokens lies: tiles of 32 rows, 128 bytes a token, 16-byte pieces swizzled.
INLINE u32 turned(u32 row, u32 token) { return (row >> 5) * 2048 + token * 128 + (((row >> 2 & 7) ^ (token & 7)) << 4) + (row & 3) * 4; }

// bf16 outputs: (1.5·2^23 + sum) · s − 1.5·2^23 · s is exact with a scale whose last two bits are clear, and then one rounding; 2^-22 off is far below a bf16's 2^-9.
INLINE float offset_of(float& scale) {
    scale = __int_as_float((__float_as_int(scale) + 2) & ~3);
    return -MAGIC_FLOAT * scale;
}

// Puts 16 tokens of a warp's 16 rows where the hardware copies them from. Matrix m of lane 8m + i: token 8·(m / 2) + i, rows 8·(m % 2) on. 128 bytes a token, its
// 16-byte pieces swizzled.
INLINE void turn_around(u32 buffer, u32 pair, const u32 (&v)[4]) {
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3, token = pair * 16 + (lane >> 4) * 8 + (lane & 7), piece = (warp * 2 + (lane >> 3 & 1)) ^ (token & 7);
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(buffer + token * 128 + piece * 16), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
}

// Stores a group's 64 rows of 32 tokens.
INLINE void store_chunk(const TensorMap& out_map, u32 buffer, u32 row, u32 token) {
    visible_to_copies();
    group_sync(2 + (threadIdx.x >> 7), 128);
    if ((threadIdx.x & 127) == 0) {
        store_tile(&out_map, buffer, row, token);
        stores_read<1>();  // the buffer after next is free when all have passed the next barrier
    }
}

// The function of gates is chosen once for a tile: a choice for each output would multiply the code by their number.
template <class T, u32 ACTIVATION>
INLINE void store_gated(const TensorMap& out_map, const int (&sums)[T::R][T::TOKENS / 2], u32 buffers, u32 tokens_at, u32 rows_at, u32& turn, u32 row, u32 token0) {
    float scale[2][2], bias[2][2], offset[2][2];
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            scale[r][h] = load_float(rows_at + (64 * r + 8 * h) * 4);
            bias[r][h] = load_float(rows_at + (64 * (2 + r) + 8 * h) * 4);
            offset[r][h] = offset_of(scale[r][h]);
        }
#pragma unroll
    for (int chunk = 0; chunk < T::TOKENS / 32; chunk++) {
        const u32 buffer = buffers + turn * TURN_BYTES;
        turn = turn == 2 ? 0 : turn + 1;
#pragma unroll
        for (int pair = 0; pair < 2; pair++) {
            u32 v[4];
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const int j = pair * 2 + q / 2, h = q & 1;
                const float2 token_scale = load_floats(tokens_at + (chunk * 4 + j) * 32);
                float y[2][2];
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int* sum = &sums[r][16 * chunk + 4 * j + 2 * h];
                    y[r][0] = fmaf(fmaf(__int_as_float(sum[0]), scale[r][h], offset[r][h]), token_scale.x, bias[r][h]);
                    y[r][1] = fmaf(fmaf(__int_as_float(sum[1]), scale[r][h], offset[r][h]), token_scale.y, bias[r][h]);
                }
                v[q] = to_bf16x2(activate(ACTIVATION, y[0][0]) * y[1][0], activate(ACTIVATION, y[0][1]) * y[1][1]);
            }
            turn_around(buffer, pair, v);
        }
        store_chunk(out_map, buffer, row, token0 + chunk * 32);
    }
}

template <class T> INLINE void prefill(const TensorMap& x_map, const TensorMap& w_map, const TensorMap& out_map, const LinearArgs& p) {
    extern __shared__ u8 shared[];
    const u32 base = (shared_address(shared) + 1023) & ~1023u;
    const u32 full = base + T::BARRIERS_AT, empty = full + 8 * T::STAGES;
    const u32 group = __shfl_sync(~0u, threadIdx.x >> 7, 0), warp = __shfl_sync(~0u, threadIdx.x >> 5 & 3, 0), lane = threadIdx.x & 31;
    const u32 out_rows = T::GATED ? p.rows / 2 : p.rows, row_tiles = (out_rows + T::OUT_ROWS - 1) / T::OUT_ROWS, total = row_tiles * ((p.tokens + T::TOKENS - 1) / T::TOKENS);
    const u32 rank = T::SPLIT > 1 ? cluster_rank() : 0, stages = p.cols >> 7;
    const u32 begin = T::SPLIT > 1 ? stages * rank / T::SPLIT : 0, end = T::SPLIT > 1 ? stages * (rank + 1) / T::SPLIT : stages;
    const u32 first = blockIdx.x / T::SPLIT, step = T::SPLIT > 1 ? total : gridDim.x;
    if (threadIdx.x == 0) {
        for (int i = 0; i < T::STAGES; i++) barrier_init(full + 8 * i, 1), barrier_init(empty + 8 * i, 4 * GROUPS);
        barriers_visible();
    }
    __syncthreads();
    let_next_start();

    // Each role ends in its own return: code that both could reach would give both the larger number of registers.
    if (group == GROUPS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (warp == 0 && lane == 0) fetch<T>(x_map, w_map, p, base, first, step, total, row_tiles, begin, end);
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    wait_for_previous();
    const u32 g = lane >> 2, c = lane & 3, thread = threadIdx.x & 127;
    int sums[T::R][T::TOKENS / 2];
    u32 a[2][T::R][4], metadata[2][T::R] = {};
    u32 stage = 0, phase = 0, turn = 0, half = 0;
    // The hardware copies outputs whose rows it can address, at multiples of 16 bytes; others go through the threads.
    const bool by_copies = p.rows % 8 == 0 && !p.residual && p.kind != 2;
    for (u32 tile = first; tile < total; tile += step) {
        // The group's rows: 64 from row0 on, and for each r more 64 that lie `apart` rows further.
        const u32 row0 = tile % row_tiles * T::OUT_ROWS + group * (T::OUT_ROWS / GROUPS), apart = T::GATED ? out_rows : 64, token0 = tile / row_tiles * T::TOKENS;
        // This group's scales, for the end: token scales, row scales, biases. Twice, so that the next tile's do not wait for all warps to be done with these.
        const u32 scales = base + T::SCALES_AT + half * T::SCALES + group * (T::SCALES / GROUPS);
        half ^= 1;
        for (u32 i = thread; i < T::TOKENS + 128 * T::R; i += 128) {
            const u32 in_group = (i - T::TOKENS) % (64 * T::R), row = row0 + in_group / 64 * apart + in_group % 64;
            float v = 0.0f;
            if (i < T::TOKENS) v = token0 + i < p.tokens ? p.token_scales[token0 + i] : 0.0f;
            else if (row >= p.rows) v = 0.0f;
            else if (i < T::TOKENS + 64 * T::R) v = p.row_scales[row];
            else v = p.bias ? p.bias[row] : 0.0f;
            asm volatile("st.shared.f32 [%0], %1;" ::"r"(scales + 4 * i), "f"(v) : "memory");
        }
#pragma unroll
        for (int r = 0; r < T::R; r++)
#pragma unroll
            for (int i = 0; i < T::TOKENS / 2; i++) sums[r][i] = T::SPLIT > 1 && rank > 0 ? 0 : MAGIC;

        for (u32 k = begin; k < end; k++) {
            barrier_wait(full + 8 * stage, phase);
            const u64 x = token_rows(base + T::X_AT + stage * T::X_BYTES);
            const u32 strips = base + T::W_AT + stage * T::W_BYTES + (group * (T::GATED ? 4 : T::R * 4) + warp) * 512 + lane * 16;
            uint4 w[T::R];
#pragma unroll
            for (int r = 0; r < T::R; r++) w[r] = load_shared(strips + r * (T::GATED ? T::W_BYTES / 2 : 2048));
#pragma unroll
            for (int i = 0; i < T::STEPS; i++) {
                groups_wait<1>();
                // All instructions of the stage before are done.
                if (i == 1 && k > begin && lane == 0) barrier_arrive(empty + 8 * (stage == 0 ? T::STAGES - 1 : stage - 1));
#pragma unroll
                for (int r = 0; r < T::R; r++) {
                    const u32 words[4] = {w[r].x, w[r].y, w[r].z, w[r].w};
                    expand(words[T::SPARSE ? 2 * i : i], a[i & 1][r]);
                    if (T::SPARSE) next_metadata(metadata[i & 1][r], words[2 * i + 1 & 3], a[i & 1][r][3], p.zero);
                }
                groups_fence();
#pragma unroll
                for (int r = 0; r < T::R; r++)
                    if (T::SPARSE) Group<T::TOKENS>::sparse(sums[r], a[i & 1][r], x + 4 * i, metadata[i & 1][r]);
                    else Group<T::TOKENS>::dense(sums[r], a[i & 1][r], x + 2 * i);
                groups_commit();
            }
            if (++stage == T::STAGES) stage = 0, phase ^= 1;
        }
        groups_wait<0>();
        if (end > begin && lane == 0) barrier_arrive(empty + 8 * (stage == 0 ? T::STAGES - 1 : stage - 1));
#pragma unroll
        for (int r = 0; r < T::R; r++)
#pragma unroll
            for (int i = 0; i < T::TOKENS / 2; i++) asm volatile("" : "+r"(sums[r][i])::"memory");

        if (T::SPLIT > 1) {
            // Everybody leaves its sums in the stages, which nobody reads any more, and adds up every SPLIT-th chunk of 32 tokens.
            group_sync(1, 128 * GROUPS);
            const u32 mine = base + threadIdx.x * 16;
#pragma unroll
            for (int j = 0; j < T::TOKENS / 8; j++)
                store_shared(mine + j * 4096, make_uint4(sums[0][4 * j], sums[0][4 * j + 1], sums[0][4 * j + 2], sums[0][4 * j + 3]));
            cluster_sync();
#pragma unroll
            for (int chunk = 0; chunk < T::TOKENS / 32; chunk++) {
                if (chunk % T::SPLIT != rank) continue;
                uint4 theirs[T::SPLIT][4];
#pragma unroll
                for (int q = 1; q < T::SPLIT; q++)
#pragma unroll
                    for (int j = 0; j < 4; j++) theirs[q][j] = load_peer(peer_address(mine, (rank + q) % T::SPLIT) + (4 * chunk + j) * 4096);
#pragma unroll
                for (int q = 1; q < T::SPLIT; q++)
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        int* to = sums[0] + 16 * chunk + 4 * j;
                        to[0] += theirs[q][j].x, to[1] += theirs[q][j].y, to[2] += theirs[q][j].z, to[3] += theirs[q][j].w;
                    }
            }
            cluster_sync();
        }
        group_sync(2 + group, 128);  // the scales are there

        const u32 tokens_at = scales + c * 8, rows_at = scales + (T::TOKENS + warp * 16 + g) * 4;
        if (T::GATED) {
            const u32 buffers = base + T::TURN_AT + group * 3 * TURN_BYTES;
            if (p.activation == 0) store_gated<T, 0>(out_map, sums, buffers, tokens_at, rows_at, turn, row0, token0);
            else if (p.activation == 1) store_gated<T, 1>(out_map, sums, buffers, tokens_at, rows_at, turn, row0, token0);
            else store_gated<T, 2>(out_map, sums, buffers, tokens_at, rows_at, turn, row0, token0);
        }
#pragma unroll
        for (int r = 0; r < (T::GATED ? 0 : T::R); r++) {
            const u32 row = row0 + 64 * r;
            float scale[2], bias[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                scale[h] = load_float(rows_at + (64 * r + 8 * h) * 4);
                bias[h] = load_float(rows_at + (64 * (T::R + r) + 8 * h) * 4);
            }
            if (p.kind != 0 || !by_copies) {
                // 16 tokens at a time, as two tiles of 32 rows whose 16-byte pieces are swizzled: f32 for the hardware to store or add, or sums for the threads.
#pragma unroll
                for (int chunk = 0; chunk < T::TOKENS / 16; chunk++) {
                    if (T::SPLIT > 1 && chunk / 2 % T::SPLIT != rank) continue;
                    const u32 buffer = base + T::TURN_AT + (group * 3 + turn) * TURN_BYTES;
                    turn = turn == 2 ? 0 : turn + 1;
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        const float2 token_scale = load_floats(tokens_at + (chunk * 2 + j) * 32);
#pragma unroll
                        for (int q = 0; q < 4; q++) {
                            const int h = q >> 1, sum = sums[r][8 * chunk + 4 * j + q];
                            const float y = fmaf(__int_as_float(sum) - MAGIC_FLOAT, scale[h] * (q & 1 ? token_scale.y : token_scale.x), bias[h]);
                            store_shared(buffer + turned(warp * 16 + g + 8 * h, j * 8 + 2 * c + (q & 1)), by_copies ? __float_as_int(y) : sum - MAGIC);
                        }
                    }
                    visible_to_copies();
                    group_sync(2 + group, 128);
                    if (!by_copies) {
                        const u32 at_row = row + (thread & 63);
                        for (u32 t = thread >> 6; t < 16 && at_row < p.rows; t += 2) {
                            const u32 in_tile = chunk * 16 + t;
                            if (token0 + in_tile >= p.tokens) break;
                            const u32 my_row = scales + (T::TOKENS + 64 * r + (thread & 63)) * 4;
                            store_output(p, token0 + in_tile, at_row, __float_as_int(load_float(buffer + turned(thread & 63, t))), load_float(my_row) * load_float(scales + in_tile * 4),
                                         load_float(my_row + 64 * T::R * 4));
                        }
                    } else if (thread < 64 && thread % 32 == 0) {
                        if (p.kind == 1) store_tile(&out_map, buffer + thread * 64, row + thread, token0 + chunk * 16);
                        else add_tile(&out_map, buffer + thread * 64, row + thread, token0 + chunk * 16);
                        stores_read<1>();
                    }
                }
                continue;
            }
            float offset[2];
#pragma unroll
            for (int h = 0; h < 2; h++) offset[h] = offset_of(scale[h]);
#pragma unroll
            for (int chunk = 0; chunk < T::TOKENS / 32; chunk++) {
                if (T::SPLIT > 1 && chunk % T::SPLIT != rank) continue;
                const u32 buffer = base + T::TURN_AT + (group * 3 + turn) * TURN_BYTES;
                turn = turn == 2 ? 0 : turn + 1;
                float2 token_scale[4];
#pragma unroll
                for (int j = 0; j < 4; j++) token_scale[j] = load_floats(tokens_at + (chunk * 4 + j) * 32);
#pragma unroll
                for (int pair = 0; pair < 2; pair++) {
                    u32 v[4];
#pragma unroll
                    for (int q = 0; q < 4; q++) {  // q / 2: which 8 tokens; q % 2: row g or g + 8
                        const int j = pair * 2 + q / 2, h = q & 1;
                        const int* sum = &sums[r][16 * chunk + 4 * j + 2 * h];
                        const float y0 = fmaf(__int_as_float(sum[0]), scale[h], offset[h]), y1 = fmaf(__int_as_float(sum[1]), scale[h], offset[h]);
                        v[q] = to_bf16x2(fmaf(y0, token_scale[j].x, bias[h]), fmaf(y1, token_scale[j].y, bias[h]));
                    }
                    turn_around(buffer, pair, v);
                }
                store_chunk(out_map, buffer, row, token0 + chunk * 32);
            }
        }
    }
    if (thread % 32 == 0) stores_done();
}

// R times 128 rows, tokens, stages, blocks that split the columns.
#define PREFILL_(R, TOKENS, STAGES, SPLIT, NAME, SPARSE, GATED)                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) prefill_##NAME##_##R##_##TOKENS##_##SPLIT(                                      \
        const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap w_map, const __grid_constant__ TensorMap out_map,         \
        const __grid_constant__ LinearArgs p) {                                                                                              \
        prefill<Layout<R, TOKENS, STAGES, SPLIT, SPARSE, GATED>>(x_map, w_map, out_map, p);                                                  \
    }
#define PREFILL(R, TOKENS, STAGES, SPLIT) PREFILL_(R, TOKENS, STAGES, SPLIT, sparse, true, false) PREFILL_(R, TOKENS, STAGES, SPLIT, dense, false, false)
#define GATED(TOKENS, STAGES) PREFILL_(2, TOKENS, STAGES, 1, gated_sparse, true, true) PREFILL_(2, TOKENS, STAGES, 1, gated_dense, false, true)

PREFILL(2, 192, 6, 1)
PREFILL(2, 128, 8, 1)
PREFILL(1, 256, 5, 1)
PREFILL(1, 192, 7, 1)
PREFILL(1, 128, 9, 1)
PREFILL(1, 64, 16, 1)
PREFILL(1, 32, 24, 1)
PREFILL(1, 128, 9, 2)
PREFILL(1, 64, 16, 2)
PREFILL(1, 64, 16, 4)
PREFILL(1, 32, 24, 2)
PREFILL(1, 32, 24, 4)
GATED(192, 6)
GATED(128, 8)
