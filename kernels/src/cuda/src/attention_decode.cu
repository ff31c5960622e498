// targets: sm_90a compute_80
// Attention of one new token of each of some sequences over its keys in the paged cache, with everything that belongs to the new token: head norms, rotation, and its
// key and value into the cache. The heads that share a key head are computed together on tensor cores, and the keys are split over blocks; quantise_parts
// puts the parts together.
//
// A warp takes 16 keys of one of two pages of 64. Keys and values go straight from the cache into the registers of mma.m16n8k16, because the order of a dot product's
// terms is free: lane (g, c) loads 16 bytes of key g from element 32j + 8c on and uses them for two steps; of values it loads 16 bytes of rows 2c, 2c+1,
// 2c+8, 2c+9 from element 8g on, so output column g of tile i is element 8g + i. Rows of the first operand are heads, at most 8; the other 8 stay zero.
// The first page is requested before the launch before this one has ended: it belongs to earlier tokens. What it holds of the new token is put in afterwards.
//
// Floor: bytes; 4 · head_dim · keys · kv_heads, over bandwidth. Launch: grid = (splits, kv_heads, sequences), block = 256. The pool is zeroed when made, so
// that values behind the new token are finite. Positions are those of the step before, written by an earlier graph.
#include "decoder.h"

constexpr u32 WARPS = 8, PAGES_AT_ONCE = 2;

template <u32 DIM> INLINE void attend(const DecodeAttentionArgs& p) {
    __shared__ __align__(16) f16 queries[8][DIM + 8], fresh[2][DIM];
    __shared__ float merged[WARPS][8][DIM], merged_most[WARPS][8], merged_total[WARPS][8];
    const u32 sequence = blockIdx.z, kv = blockIdx.y, split = blockIdx.x;
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
    const u32 group = p.heads / p.kv_heads;
    let_next_start();

    const u32 position = p.positions[sequence];
    const Splits share(position, p.window, p.splits);
    if (split >= share.active) return;
    const u32 first_key = p.window && position + 1 > p.window ? position + 1 - p.window : 0;
    const u32 begin = share.first_page + split * share.per, end = min(begin + share.per, share.first_page + share.pages);
    const u32* pages = p.pages + p.sequences[sequence] * p.max_pages;

    // This warp's first page, and its rows in each.
    const u32 first_row = 16 * (warp % 4), mine = begin + warp / 4;
    uint4 key[2][DIM / 32], value[DIM / 64][4];
    auto load_keys = [&](u32 page) {
        const f16* base = reinterpret_cast<const f16*>(p.cache) + (u64(pages[page]) * 2 * p.kv_heads + kv) * PAGE * DIM;
        for (u32 n = 0; n < 2; n++)
            for (u32 j = 0; j < DIM / 32; j++) key[n][j] = load_once(base + (first_row + 8 * n + g) * DIM + 32 * j + 8 * c);
    };
    auto load_values = [&](u32 page) {
        const f16* base = reinterpret_cast<const f16*>(p.cache) + (u64(pages[page]) * 2 * p.kv_heads + p.kv_heads + kv) * PAGE * DIM;
        for (u32 h = 0; h < DIM / 64; h++)
            for (u32 r = 0; r < 4; r++) value[h][r] = load_once(base + (first_row + 2 * c + r % 2 + 8 * (r / 2)) * DIM + 64 * h + 8 * g);
    };
    if (mine < end) {
        load_keys(mine);
        load_values(mine);
    }
    wait_for_previous();

    const bool owner = end == share.first_page + share.pages;
    const float2* turns = p.turns + u64(position) * (DIM / 2);
    for (u32 item = warp; item < 8 + (owner ? 2 : 0); item += WARPS) {
        Head<DIM / 64> head;
        if (item < 8) {
            if (item < group) {
                head.load(p.q + u64(sequence) * p.q_stride + (kv * group + item) * DIM, DIM, p.interleaved);
                if (p.q_norm) head.normalise(p.q_norm, DIM, p.interleaved, p.eps);
                head.rotate(turns, DIM);
            } else {
                for (u32 i = 0; i < DIM / 64; i++) head.first[i] = head.second[i] = 0.0f;
            }
            head.store(queries[item], DIM, p.interleaved);
        } else if (item == 8) {
            head.load(p.k + u64(sequence) * p.k_stride + kv * DIM, DIM, p.interleaved);
            if (p.k_norm) head.normalise(p.k_norm, DIM, p.interleaved, p.eps);
            head.rotate(turns, DIM);
            head.store(fresh[0], DIM, p.interleaved);
        } else {
            head.load(p.v + u64(sequence) * p.v_stride + kv * DIM, DIM, false);
            head.store(fresh[1], DIM, false);
        }
    }
    __syncthreads();
    if (owner && threadIdx.x < DIM / 8 * 2) {
        const u32 which = threadIdx.x / (DIM / 8), chunk = threadIdx.x % (DIM / 8);
        f16* base = reinterpret_cast<f16*>(p.cache) + (u64(pages[position / PAGE]) * 2 * p.kv_heads + which * p.kv_heads + kv) * PAGE * DIM;
        *reinterpret_cast<uint4*>(base + position % PAGE * DIM + 8 * chunk) = *reinterpret_cast<const uint4*>(&fresh[which][8 * chunk]);
    }

    uint4 query[DIM / 32];
    for (u32 j = 0; j < DIM / 32; j++) query[j] = *reinterpret_cast<const uint4*>(&queries[g][32 * j + 8 * c]);
    float out[DIM / 64][8][4] = {}, most = MINUS_INFINITY, total = 0.0f;
    for (u32 page = mine; page < end; page += PAGES_AT_ONCE) {
        if (page == position / PAGE && position % PAGE / 16 == warp % 4) {
            const u32 row = position % 16;
            for (u32 n = 0; n < 2; n++)
                if (8 * n + g == row)
                    for (u32 j = 0; j < DIM / 32; j++) key[n][j] = *reinterpret_cast<const uint4*>(&fresh[0][32 * j + 8 * c]);
            for (u32 r = 0; r < 4; r++)
                if (2 * c + r % 2 + 8 * (r / 2) == row)
                    for (u32 h = 0; h < DIM / 64; h++) value[h][r] = *reinterpret_cast<const uint4*>(&fresh[1][64 * h + 8 * g]);
        }
        float score[2][4] = {};
        for (u32 n = 0; n < 2; n++)
            for (u32 j = 0; j < DIM / 32; j++) {
                multiply<f16>(score[n], query[j].x, 0, query[j].y, 0, key[n][j].x, key[n][j].y);
                multiply<f16>(score[n], query[j].z, 0, query[j].w, 0, key[n][j].z, key[n][j].w);
            }
        if (page + PAGES_AT_ONCE < end) load_keys(page + PAGES_AT_ONCE);

        float largest = most;
        for (u32 n = 0; n < 2; n++)
            for (u32 i = 0; i < 2; i++) {
                const u32 at = page * PAGE + first_row + 8 * n + 2 * c + i;
                score[n][i] = at >= first_key && at <= position ? score[n][i] * p.score : MINUS_INFINITY;
                largest = fmaxf(largest, score[n][i]);
            }
        largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
        // While a warp has seen no key that counts, its largest score is −∞ and there is nothing to scale.
        const float base = largest == MINUS_INFINITY ? 0.0f : largest, rescale = exp2_fast(most - base);
        most = largest;
        for (u32 n = 0; n < 2; n++)
            for (u32 i = 0; i < 2; i++) score[n][i] = exp2_fast(score[n][i] - base);
        const u32 low = pack_f16(score[0][0], score[0][1]), high = pack_f16(score[1][0], score[1][1]);
        total = total * rescale + score[0][0] + score[0][1] + score[1][0] + score[1][1];
        for (u32 h = 0; h < DIM / 64; h++) {
            const u32* rows[4] = {&value[h][0].x, &value[h][1].x, &value[h][2].x, &value[h][3].x};
            for (u32 i = 0; i < 8; i++) {
                const u32 pick = i % 2 ? 0x7632 : 0x5410;
                out[h][i][0] *= rescale, out[h][i][1] *= rescale;
                multiply<f16>(out[h][i], low, 0, high, 0, __byte_perm(rows[0][i / 2], rows[1][i / 2], pick), __byte_perm(rows[2][i / 2], rows[3][i / 2], pick));
            }
        }
        if (page + PAGES_AT_ONCE < end) load_values(page + PAGES_AT_ONCE);
    }

    total += __shfl_xor_sync(~0u, total, 1);
    total += __shfl_xor_sync(~0u, total, 2);
    for (u32 h = 0; h < DIM / 64; h++)
        for (u32 i = 0; i < 2; i++) {
            float* to = &merged[warp][g][64 * h + 8 * (2 * c + i)];
            *reinterpret_cast<float4*>(to) = make_float4(out[h][0][i], out[h][1][i], out[h][2][i], out[h][3][i]);
            *reinterpret_cast<float4*>(to + 4) = make_float4(out[h][4][i], out[h][5][i], out[h][6][i], out[h][7][i]);
        }
    if (c == 0) merged_most[warp][g] = most, merged_total[warp][g] = total;
    __syncthreads();
    for (u32 e = threadIdx.x; e < group * DIM; e += 32 * WARPS) {
        const u32 head = e / DIM;
        float all = MINUS_INFINITY, sum = 0.0f, weights = 0.0f;
        for (u32 w = 0; w < WARPS; w++) all = fmaxf(all, merged_most[w][head]);
        for (u32 w = 0; w < WARPS; w++) {
            const float factor = exp2_fast(merged_most[w][head] - all);
            sum += factor * merged[w][head][e % DIM];
            weights += factor * merged_total[w][head];
        }
        const u64 row = (u64(sequence) * p.splits + split) * p.heads + kv * group;
        p.sums[row * DIM + e] = sum;
        if (e % DIM == 0) p.shares[row + head] = make_float2(all, weights);
    }
}

extern "C" __global__ void __launch_bounds__(256, 2) attention_decode_64(const __grid_constant__ DecodeAttentionArgs p) { attend<64>(p); }
extern "C" __global__ void __launch_bounds__(256, 1) attention_decode_128(const __grid_constant__ DecodeAttentionArgs p) { attend<128>(p); }
