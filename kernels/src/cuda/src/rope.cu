// targets: sm_90a compute_80
// Rotary position for many tokens, and their keys and values into the cache. (When decoding, attention does both itself.)
//
// q, k and v are rows of the projections' outputs; a head of q or k may first be RMS-normalised (q_norm, k_norm). q goes out as f16 [token][head][dim];
// k and v go to their token's slot of the paged cache. The table holds (cosine, sine) as [position][dim / 2], scaled as the model says.
//
// Floor: bytes; every projection read once and its 16-bit form written once. Launch: grid = tokens, block = 256; head dim even and at most 256.
#include "decoder.h"

// Heads of any even width: a warp takes one at a time.
template <class T> INLINE void rope_any(const RopeArgs& p) {
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

INLINE void store8(f16* to, const float (&v)[8]) {
    *reinterpret_cast<uint4*>(to) = make_uint4(pack_f16(v[0], v[1]), pack_f16(v[2], v[3]), pack_f16(v[4], v[5]), pack_f16(v[6], v[7]));
}

INLINE void turn(float& a, float& b, float cosine, float sine) {
    const float before = a;
    a = before * cosine - b * sine, b = b * cosine + before * sine;
}

// Heads of 64, 128 or 256 values: dim / 16 threads take one, 8 pairs each, in whole requests of 16 bytes and more.
template <class T> INLINE void rope_wide(const RopeArgs& p) {
    const u32 token = blockIdx.x, dim = p.head_dim, position = p.positions[token], lanes = dim / 16, part = threadIdx.x % lanes;
    const u32 page = p.pages[p.sequences[token] * p.max_pages + position / PAGE];
    f16* keys = reinterpret_cast<f16*>(p.cache) + u64(page) * 2 * p.kv_heads * PAGE * dim + position % PAGE * dim;
    f16* values = keys + u64(p.kv_heads) * PAGE * dim;
    // Where this thread's two runs of 8 values begin; of neighbours that turn together, one run after the other.
    const u32 first = p.interleaved ? 16 * part : 8 * part, second = p.interleaved ? first + 8 : first + dim / 2;
    float cosine[8], sine[8];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const float4 two = *reinterpret_cast<const float4*>(p.turns + u64(position) * (dim / 2) + 8 * part + 2 * i);
        cosine[2 * i] = two.x, sine[2 * i] = two.y, cosine[2 * i + 1] = two.z, sine[2 * i + 1] = two.w;
    }
    const u32 items = p.heads + 2 * p.kv_heads, at_once = blockDim.x / lanes;
    for (u32 round = 0; round * at_once < items; round++) {
        const u32 item = round * at_once + threadIdx.x / lanes;
        const bool query = item < p.heads, key = !query && item < p.heads + p.kv_heads, there = item < items;
        const u32 kv = item - p.heads - (key ? 0 : p.kv_heads);
        float a[8] = {}, b[8] = {};
        if (there) {
            const T* from = query ? static_cast<const T*>(p.q) + u64(token) * p.q_stride + item * dim
                          : key   ? static_cast<const T*>(p.k) + u64(token) * p.k_stride + kv * dim
                                  : static_cast<const T*>(p.v) + u64(token) * p.v_stride + kv * dim;
            load8(from + first, a);
            load8(from + second, b);
        }
        // All threads of a warp, because they exchange sums.
        if (p.q_norm || p.k_norm) {
            float squares = 0.0f;
#pragma unroll
            for (u32 i = 0; i < 8; i++) squares += a[i] * a[i] + b[i] * b[i];
            for (u32 step = 1; step < lanes; step *= 2) squares += __shfl_xor_sync(~0u, squares, step);
            const float* norm = query ? p.q_norm : key ? p.k_norm : nullptr;
            if (norm) {
                const float r = 1.0f / sqrtf(squares / float(dim) + p.eps);
#pragma unroll
                for (u32 i = 0; i < 8; i++) a[i] = a[i] * norm[first + i] * r, b[i] = b[i] * norm[second + i] * r;
            }
        }
        if (!there) continue;
        if ((query || key) && p.interleaved) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                turn(a[2 * i], a[2 * i + 1], cosine[i], sine[i]);
                turn(b[2 * i], b[2 * i + 1], cosine[i + 4], sine[i + 4]);
            }
        } else if (query || key) {
#pragma unroll
            for (u32 i = 0; i < 8; i++) turn(a[i], b[i], cosine[i], sine[i]);
        }
        f16* to = query ? reinterpret_cast<f16*>(p.out) + (u64(token) * p.heads + item) * dim : (key ? keys : values) + kv * PAGE * dim;
        store8(to + first, a);
        store8(to + second, b);
    }
}

template <class T> INLINE void rope(const RopeArgs& p) {
    let_next_start();
    wait_for_previous();
    if (p.head_dim == 64 || p.head_dim == 128 || p.head_dim == 256) rope_wide<T>(p);
    else rope_any<T>(p);
}

extern "C" __global__ void __launch_bounds__(256, 5) rope_f32(const __grid_constant__ RopeArgs p) { rope<float>(p); }
extern "C" __global__ void __launch_bounds__(256, 5) rope_bf16(const __grid_constant__ RopeArgs p) { rope<bf16>(p); }
