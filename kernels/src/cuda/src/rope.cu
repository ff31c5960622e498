// targets: sm_90a compute_80
// Rotary position for many tokens, and their keys and values into the cache. (When decoding, attention does both itself.)
//
// q, k and v are rows of the projections' outputs; a head of q or k may first be RMS-normalised (q_norm, k_norm). q goes out as f16 [token][head][dim];
// k and v go to their token's slot of the paged cache. The table holds (cosine, sine) as [position][dim / 2], scaled as the model says.
//
// Floor: bytes; every projection read once and its 16-bit form written once. Launch: grid = tokens, block = 256; head dim even and at most 256.
#include "decoder.h"

template <class T> INLINE void rope(const RopeArgs& p) {
    let_next_start();
    wait_for_previous();
    const u32 token = blockIdx.x, dim = p.head_dim, position = p.positions[token];
    const u32 page = p.pages[p.sequences[token] * p.max_pages + position / PAGE];
    f16* keys = reinterpret_cast<f16*>(p.cache) + u64(page) * 2 * p.kv_heads * PAGE * dim + position % PAGE * dim;
    f16* values = keys + u64(p.kv_heads) * PAGE * dim;
    const float2* turns = p.turns + u64(position) * (dim / 2);
    for (u32 item = threadIdx.x / 32; item < p.heads + 2 * p.kv_heads; item += blockDim.x / 32) {
        Head<4> head;
        if (item < p.heads) {
            head.load(static_cast<const T*>(p.q) + u64(token) * p.q_stride + item * dim, dim, p.interleaved);
            if (p.q_norm) head.normalise(p.q_norm, dim, p.interleaved, p.eps);
            head.rotate(turns, dim);
            head.store(reinterpret_cast<f16*>(p.out) + (u64(token) * p.heads + item) * dim, dim, p.interleaved);
        } else if (item < p.heads + p.kv_heads) {
            const u32 kv = item - p.heads;
            head.load(static_cast<const T*>(p.k) + u64(token) * p.k_stride + kv * dim, dim, p.interleaved);
            if (p.k_norm) head.normalise(p.k_norm, dim, p.interleaved, p.eps);
            head.rotate(turns, dim);
            head.store(keys + kv * PAGE * dim, dim, p.interleaved);
        } else {
            const u32 kv = item - p.heads - p.kv_heads;
            head.load(static_cast<const T*>(p.v) + u64(token) * p.v_stride + kv * dim, dim, false);
            head.store(values + kv * PAGE * dim, dim, false);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) rope_f32(const __grid_constant__ RopeArgs p) { rope<float>(p); }
extern "C" __global__ void __launch_bounds__(256) rope_bf16(const __grid_constant__ RopeArgs p) { rope<bf16>(p); }
