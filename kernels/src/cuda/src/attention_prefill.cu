// targets: sm_90a compute_80
// Causal attention of many tokens over the paged cache, which already holds their own keys and values: sequences of any lengths, each with any prefix, with or
// without a sliding window. One pass over the keys with a running maximum and sum, on tensor cores.
//
// A block computes 128 tokens of one sequence for one head with 4 warps of 32 rows, a page of 64 keys at a time; pages are copied into shared memory while the
// ones before are used. Rows in shared memory are DIM · 2 bytes, their 16-byte chunks exchanged by the row's number modulo 8, so that ldmatrix finds every bank.
//
// Floor: 4 · dim · Σ visible keys operations a head, at the rate of mma.sync (about 600 Tflop/s on an H100). Launch: grid = (heads, tiles), block = 128, shared memory
// as shared_bytes says; `tiles` names the work, the heaviest first, because later blocks fill the gaps.
#include "decoder.h"

constexpr u32 ROWS = 128, WARPS = 4;

template <u32 DIM> INLINE u32 at(u32 row, u32 chunk) { return row * DIM * 2 + ((chunk ^ (row % 8)) * 16); }

template <u32 DIM> INLINE void attend(const PrefillAttentionArgs& p) {
    extern __shared__ __align__(128) u8 shared[];
    constexpr u32 CHUNKS = DIM / 8, PAGE_BYTES = PAGE * DIM * 2;
    const u32 queries = shared_address(shared), ring = queries + ROWS * DIM * 2;
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
    let_next_start();
    wait_for_previous();
    const u32 head = blockIdx.x, kv = head / (p.heads / p.kv_heads);
    const AttentionTile tile = p.tiles[blockIdx.y];
    const u32* pages = p.pages + tile.sequence * p.max_pages;
    const u32 last = tile.position + tile.rows - 1;
    const u32 first_page = p.window && tile.position + 1 > p.window ? (tile.position + 1 - p.window) / PAGE : 0, end = last / PAGE + 1;

    auto request = [&](u32 page, u32 which) {
        const u16* from = p.cache + (u64(pages[page]) * 2 * p.kv_heads + which * p.kv_heads + kv) * PAGE * DIM;
        const u32 to = ring + (page % 2 * 2 + which) * PAGE_BYTES;
        for (u32 i = threadIdx.x; i < PAGE * CHUNKS; i += 32 * WARPS) copy16(to + at<DIM>(i / CHUNKS, i % CHUNKS), from + i * 8);
        copies_commit();
    };
    for (u32 i = threadIdx.x; i < ROWS * CHUNKS; i += 32 * WARPS) {
        const u32 row = i / CHUNKS;
        copy16(queries + at<DIM>(row, i % CHUNKS), p.q + (u64(tile.token + min(row, tile.rows - 1)) * p.heads + head) * DIM + i % CHUNKS * 8, row < tile.rows);
    }
    request(first_page, 0);
    request(first_page, 1);

    float out[2][DIM / 8][4] = {}, most[2][2], total[2][2] = {};
#pragma unroll
    for (u32 m = 0; m < 2; m++) most[m][0] = most[m][1] = MINUS_INFINITY;
    for (u32 page = first_page; page < end; page++) {
        const u32 keys = ring + page % 2 * 2 * PAGE_BYTES, values = keys + PAGE_BYTES;
        copies_wait<1>();
        __syncthreads();
        if (page + 1 < end) request(page + 1, 0);
        else copies_commit();

        float score[2][8][4] = {};
#pragma unroll
        for (u32 k = 0; k < DIM / 16; k++) {
            u32 a[2][4];
#pragma unroll
            for (u32 m = 0; m < 2; m++) load_matrices(a[m], queries + at<DIM>(32 * warp + 16 * m + lane % 16, 2 * k + lane / 16));
#pragma unroll
            for (u32 n = 0; n < 4; n++) {
                u32 b[4];
                load_matrices(b, keys + at<DIM>(16 * n + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
#pragma unroll
                for (u32 m = 0; m < 2; m++) {
                    multiply<f16>(score[m][2 * n], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
                    multiply<f16>(score[m][2 * n + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
                }
            }
        }

        const u32 key = page * PAGE;
        const bool all = key + PAGE - 1 <= tile.position && !(p.window && last + 1 > p.window + key);
#pragma unroll
        for (u32 m = 0; m < 2; m++)
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                if (!all) {
                    const u32 position = tile.position + 32 * warp + 16 * m + 8 * half + g;
#pragma unroll
                    for (u32 n = 0; n < 8; n++)
#pragma unroll
                        for (u32 i = 0; i < 2; i++) {
                            const u32 k = key + 8 * n + 2 * c + i;
                            const bool visible = k <= position && !(p.window && position + 1 > p.window + k);
                            if (!visible) score[m][n][2 * half + i] = MINUS_INFINITY;
                        }
                }
                float largest = most[m][half];
#pragma unroll
                for (u32 n = 0; n < 8; n++) largest = fmaxf(largest, fmaxf(score[m][n][2 * half], score[m][n][2 * half + 1]));
                largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
                largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
                const float base = largest == MINUS_INFINITY ? 0.0f : largest * p.score, rescale = exp2_fast(most[m][half] * p.score - base);
                most[m][half] = largest;
                float sum = 0.0f;
#pragma unroll
                for (u32 n = 0; n < 8; n++)
#pragma unroll
                    for (u32 i = 0; i < 2; i++) {
                        const float share = exp2_fast(score[m][n][2 * half + i] * p.score - base);
                        score[m][n][2 * half + i] = share;
                        sum += share;
                    }
                total[m][half] = total[m][half] * rescale + sum;
#pragma unroll
                for (u32 n = 0; n < DIM / 8; n++) out[m][n][2 * half] *= rescale, out[m][n][2 * half + 1] *= rescale;
            }

        copies_wait<1>();
        __syncthreads();
        if (page + 1 < end) request(page + 1, 1);
        else copies_commit();
#pragma unroll
        for (u32 k = 0; k < PAGE / 16; k++) {
            u32 a[2][4];
#pragma unroll
            for (u32 m = 0; m < 2; m++) {
                a[m][0] = pack_shares(score[m][2 * k][0], score[m][2 * k][1]), a[m][1] = pack_shares(score[m][2 * k][2], score[m][2 * k][3]);
                a[m][2] = pack_shares(score[m][2 * k + 1][0], score[m][2 * k + 1][1]), a[m][3] = pack_shares(score[m][2 * k + 1][2], score[m][2 * k + 1][3]);
            }
#pragma unroll
            for (u32 n = 0; n < DIM / 16; n++) {
                u32 b[4];
                load_matrices_transposed(b, values + at<DIM>(16 * k + lane % 16, 2 * n + lane / 16));
#pragma unroll
                for (u32 m = 0; m < 2; m++) {
                    multiply<f16>(out[m][2 * n], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
                    multiply<f16>(out[m][2 * n + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
                }
            }
        }
    }

#pragma unroll
    for (u32 m = 0; m < 2; m++)
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            float sum = total[m][half];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            const float inverse = 1.0f / sum;
            const u32 row = 32 * warp + 16 * m + 8 * half + g;
            if (row >= tile.rows) continue;
            u32* to = reinterpret_cast<u32*>(p.out + (u64(tile.token + row) * p.heads + head) * DIM);
#pragma unroll
            for (u32 n = 0; n < DIM / 8; n++) to[4 * n + c] = pack_f16(out[m][n][2 * half] * inverse, out[m][n][2 * half + 1] * inverse);
        }
}

extern "C" __global__ void __launch_bounds__(128, 2) attention_prefill_64(const __grid_constant__ PrefillAttentionArgs p) { attend<64>(p); }
extern "C" __global__ void __launch_bounds__(128, 2) attention_prefill_128(const __grid_constant__ PrefillAttentionArgs p) { attend<128>(p); }
