// targets: sm_90a
// Causal attention of many tokens over the paged cache, as attention_prefill.cu, with Hopper's warpgroups and copies.
//
// A block computes 128 tokens of one sequence for one head. Two groups of four warps take 64 rows each; a third fetches pages, two at a time, 128 keys, from the last to the
// first. Scores of the next keys are computed while the values of the last are added up, and one group's exponentials run beside the other's products.
//
// Layout in shared memory: queries, and two stages of keys and of values; each as one or two squares of 64 elements × 128 rows, rows of 128 bytes, swizzled. Values are the
// second operand as they lie, elements before keys.
//
// Floor: 4 · dim · Σ visible keys operations a head, at the rate of f16 (989 Tflop/s by an H100's datasheet). Launch: grid = (heads, tiles), block = 384, shared memory as
// Layout says; `tiles` names the work, the heaviest first, because later blocks fill the gaps. Launches may overlap.
#include "async.h"
#include "decoder.h"
#include "wgmma.h"

constexpr u32 KEYS = 128, STAGES = 2, SQUARE = 128 * 128;

template <u32 DIM> struct Layout {
    static constexpr u32 SQUARES = DIM / 64, BYTES_OF_EACH = SQUARES * SQUARE;
    static constexpr u32 Q_AT = 0, K_AT = BYTES_OF_EACH, V_AT = K_AT + STAGES * BYTES_OF_EACH, BARRIERS_AT = V_AT + STAGES * BYTES_OF_EACH;
    static constexpr u32 BYTES = BARRIERS_AT + 128 + 1024;
};
// Barriers, 8 bytes each: queries are there; keys, values of a stage are there; are no longer read.
constexpr u32 Q_FULL = 0, K_FULL = 8, V_FULL = K_FULL + 8 * STAGES, K_EMPTY = V_FULL + 8 * STAGES, V_EMPTY = K_EMPTY + 8 * STAGES;

// What a block works on.
struct Work {
    AttentionTile tile;
    const u32* pages;
    u32 kv, last, first_block, end_block;
    __device__ Work(const PrefillAttentionArgs& p) : tile(p.tiles[blockIdx.y]) {
        pages = p.pages + tile.sequence * p.max_pages;
        kv = blockIdx.x / (p.heads / p.kv_heads);
        last = tile.position + tile.rows - 1;
        first_block = p.window && tile.position + 1 > p.window ? (tile.position + 1 - p.window) / KEYS : 0, end_block = last / KEYS + 1;
    }
};

template <u32 DIM> INLINE void fetch(const TensorMap& q_map, const TensorMap& cache_map, const PrefillAttentionArgs& p, const Work& work, u32 base) {
    using L = Layout<DIM>;
    const u32 barriers = base + L::BARRIERS_AT;
    barrier_expect(barriers + Q_FULL, L::BYTES_OF_EACH);
    for (u32 s = 0; s < L::SQUARES; s++) copy_tile(base + L::Q_AT + s * SQUARE, &q_map, blockIdx.x * DIM + s * 64, work.tile.token, barriers + Q_FULL);
    auto request = [&](u32 block, u32 which, u32 to, u32 barrier) {
        barrier_expect(barrier, L::BYTES_OF_EACH);
        for (u32 half = 0; half < KEYS / PAGE; half++) {
            // A page behind the last is masked, and stands for one that the sequence may not have.
            const u32 page = work.pages[min(block * (KEYS / PAGE) + half, work.last / PAGE)];
            const u32 row = ((page * 2 + which) * p.kv_heads + work.kv) * PAGE;
            for (u32 s = 0; s < L::SQUARES; s++) copy_tile(to + s * SQUARE + half * (SQUARE / 2), &cache_map, s * 64, row, barrier);
        }
    };
    u32 stage = 0, phase = 1;
    for (u32 block = work.end_block; block-- > work.first_block;) {
        barrier_wait(barriers + K_EMPTY + 8 * stage, phase);
        request(block, 0, base + L::K_AT + stage * L::BYTES_OF_EACH, barriers + K_FULL + 8 * stage);
        barrier_wait(barriers + V_EMPTY + 8 * stage, phase);
        request(block, 1, base + L::V_AT + stage * L::BYTES_OF_EACH, barriers + V_FULL + 8 * stage);
        if (++stage == STAGES) stage = 0, phase ^= 1;
    }
}

// The state of this thread's two rows: g and g + 8 of its warp's 16.
struct Rows2 {
    float most[2] = {MINUS_INFINITY, MINUS_INFINITY}, total[2] = {0.0f, 0.0f}, rescale[2];

    // Scores become shares of the largest so far; what was summed up before is to be rescaled.
    INLINE void soften(float (&score)[KEYS / 2], const PrefillAttentionArgs& p, const Work& work, u32 first_row, u32 key) {
        const u32 c = threadIdx.x % 4;
        const bool all = key + KEYS - 1 <= work.tile.position && !(p.window && work.last + 1 > p.window + key);
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            if (!all) {
                const u32 position = work.tile.position + first_row + 8 * half;
#pragma unroll
                for (u32 n = 0; n < KEYS / 8; n++)
#pragma unroll
                    for (u32 i = 0; i < 2; i++) {
                        const u32 k = key + 8 * n + 2 * c + i;
                        const bool visible = k <= position && !(p.window && position + 1 > p.window + k);
                        if (!visible) score[4 * n + 2 * half + i] = MINUS_INFINITY;
                    }
            }
            float largest = most[half];
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n++) largest = fmaxf(largest, fmaxf(score[4 * n + 2 * half], score[4 * n + 2 * half + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
            const float base = largest == MINUS_INFINITY ? 0.0f : largest * p.score;
            rescale[half] = exp2_fast(most[half] * p.score - base);
            most[half] = largest;
            float sum = 0.0f;
#pragma unroll
            for (u32 n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (u32 i = 0; i < 2; i++) {
                    float& s = score[4 * n + 2 * half + i];
                    s = exp2_fast(s * p.score - base);
                    sum += s;
                }
            total[half] = total[half] * rescale[half] + sum;
        }
    }
};

template <int N> INLINE void settled(float (&v)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(v[i])::"memory");
}

template <u32 DIM> INLINE void attend(const TensorMap& q_map, const TensorMap& cache_map, const PrefillAttentionArgs& p) {
    using L = Layout<DIM>;
    extern __shared__ u8 shared[];
    const u32 base = (shared_address(shared) + 1023) & ~1023u, barriers = base + L::BARRIERS_AT;
    const u32 group = __shfl_sync(~0u, threadIdx.x >> 7, 0), warp = __shfl_sync(~0u, threadIdx.x >> 5 & 3, 0), lane = threadIdx.x & 31;
    let_next_start();
    wait_for_previous();
    const Work work(p);
    // A group without rows does nothing.
    const u32 groups = work.tile.rows > 64 ? 2 : 1;
    if (threadIdx.x == 0) {
        barrier_init(barriers + Q_FULL, 1);
        for (u32 s = 0; s < STAGES; s++) {
            barrier_init(barriers + K_FULL + 8 * s, 1), barrier_init(barriers + V_FULL + 8 * s, 1);
            barrier_init(barriers + K_EMPTY + 8 * s, 4 * groups), barrier_init(barriers + V_EMPTY + 8 * s, 4 * groups);
        }
        barriers_visible();
    }
    __syncthreads();
    // Each role ends in its own return: code that both could reach would give both the larger number of registers.
    if (group == 2) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (warp == 0 && lane == 0) fetch<DIM>(q_map, cache_map, p, work, base);
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    if (group >= groups) return;
    const u32 g = lane >> 2, c = lane & 3, first_row = 64 * group + 16 * warp + g;

    const u64 queries = token_rows(base + L::Q_AT + group * (SQUARE / 2));
    auto scores = [&](float(&score)[KEYS / 2], u32 stage) {
        const u64 keys = token_rows(base + L::K_AT + stage * L::BYTES_OF_EACH);
        groups_fence();
#pragma unroll
        for (u32 k = 0; k < DIM / 16; k++) {
            const u32 step = (k / 4 * SQUARE + k % 4 * 32) >> 4;
            Halves<KEYS>::from_shared(score, queries + step, keys + step, k > 0);
        }
        groups_commit();
    };
    float out[DIM / 2] = {};
    u32 shares[KEYS / 16][4];
    auto weigh = [&](u32 stage) {
        const u64 values = value_rows(base + L::V_AT + stage * L::BYTES_OF_EACH, SQUARE);
        groups_fence();
#pragma unroll
        for (u32 k = 0; k < KEYS / 16; k++) Halves<DIM>::from_registers(out, shares[k], values + k * (16 * 128 >> 4));
        groups_commit();
    };
    auto pack = [&](const float(&score)[KEYS / 2]) {
#pragma unroll
        for (u32 k = 0; k < KEYS / 16; k++)
#pragma unroll
            for (u32 i = 0; i < 4; i++) shares[k][i] = pack_shares(score[8 * k + 2 * i], score[8 * k + 2 * i + 1]);
    };

    Rows2 rows;
    u32 stage = 0, phase = 0, block = work.end_block - 1;
    {
        float score[KEYS / 2];
        barrier_wait(barriers + Q_FULL, 0);
        barrier_wait(barriers + K_FULL, 0);
        scores(score, 0);
        groups_wait<0>();
        settled(score);
        if (lane == 0) barrier_arrive(barriers + K_EMPTY);
        rows.soften(score, p, work, first_row, block * KEYS);
        pack(score);
    }
    while (block-- > work.first_block) {
        const u32 before = stage, before_phase = phase;
        if (++stage == STAGES) stage = 0, phase ^= 1;
        float score[KEYS / 2];
        barrier_wait(barriers + K_FULL + 8 * stage, phase);
        scores(score, stage);
        barrier_wait(barriers + V_FULL + 8 * before, before_phase);
        weigh(before);
        groups_wait<1>();
        settled(score);
        if (lane == 0) barrier_arrive(barriers + K_EMPTY + 8 * stage);
        rows.soften(score, p, work, first_row, block * KEYS);
        groups_wait<0>();
        settled(out);
        if (lane == 0) barrier_arrive(barriers + V_EMPTY + 8 * before);
#pragma unroll
        for (u32 n = 0; n < DIM / 8; n++)
#pragma unroll
            for (u32 i = 0; i < 4; i++) out[4 * n + i] *= rows.rescale[i / 2];
        pack(score);
    }
    barrier_wait(barriers + V_FULL + 8 * stage, phase);
    weigh(stage);
    groups_wait<0>();
    settled(out);

#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        float sum = rows.total[half];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        const float inverse = 1.0f / sum;
        const u32 row = first_row + 8 * half;
        if (row >= work.tile.rows) continue;
        u32* to = reinterpret_cast<u32*>(p.out + (u64(work.tile.token + row) * p.heads + blockIdx.x) * DIM);
#pragma unroll
        for (u32 n = 0; n < DIM / 8; n++) to[4 * n + c] = pack_f16(out[4 * n + 2 * half] * inverse, out[4 * n + 2 * half + 1] * inverse);
    }
}

#define ATTENTION(DIM)                                                                                                                            \
    extern "C" __global__ void __launch_bounds__(384, 1) attention_hopper_##DIM(                                                                 \
        const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap cache_map, const __grid_constant__ PrefillAttentionArgs p) {   \
        attend<DIM>(q_map, cache_map, p);                                                                                                        \
    }
ATTENTION(64)
ATTENTION(128)
