// targets: sm_90a compute_80
// Attention for head widths and groupings that the fast kernels do not take, and what they are tested against: one warp a token and head, keys one by one.
//
// Floor: none worth naming; every key is read once per head. Launch: grid = (tokens, heads), block = 32; head dim a multiple of 8, at most 256.
#include "decoder.h"

extern "C" __global__ void attention_plain(const __grid_constant__ PrefillAttentionArgs p) {
    let_next_start();
    wait_for_previous();
    const u32 token = blockIdx.x, head = blockIdx.y, kv = head / (p.heads / p.kv_heads), dim = p.head_dim, position = p.positions[token];
    const u32* pages = p.pages + p.sequences[token] * p.max_pages;
    const f16* q = reinterpret_cast<const f16*>(p.q) + (u64(token) * p.heads + head) * dim;
    float query[8], out[8] = {}, most = MINUS_INFINITY, total = 0.0f;
    for (u32 i = 0; i < 8; i++) query[i] = threadIdx.x + 32 * i < dim ? to_float(q[threadIdx.x + 32 * i]) : 0.0f;
    for (u32 key = p.window && position + 1 > p.window ? position + 1 - p.window : 0; key <= position; key++) {
        const f16* k = reinterpret_cast<const f16*>(p.cache) + (u64(pages[key / PAGE]) * 2 * p.kv_heads + kv) * PAGE * dim + key % PAGE * dim;
        const f16* v = k + u64(p.kv_heads) * PAGE * dim;
        float score = 0.0f;
        for (u32 i = 0; i < 8; i++)
            if (threadIdx.x + 32 * i < dim) score += query[i] * to_float(k[threadIdx.x + 32 * i]);
        score = warp_sum(score) * p.score;
        const float largest = fmaxf(most, score), rescale = exp2f(most - largest), share = exp2f(score - largest);
        most = largest;
        total = total * rescale + share;
        for (u32 i = 0; i < 8; i++)
            if (threadIdx.x + 32 * i < dim) out[i] = out[i] * rescale + share * to_float(v[threadIdx.x + 32 * i]);
    }
    for (u32 i = 0; i < 8; i++)
        if (threadIdx.x + 32 * i < dim) reinterpret_cast<f16*>(p.out)[(u64(token) * p.heads + head) * dim + threadIdx.x + 32 * i] = to_f16(out[i] / total);
}
