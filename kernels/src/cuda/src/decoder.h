// What the kernels of a decoder around its linear layers share: 16-bit numbers, reductions, copies, matrix instructions, heads.
#pragma once

#include "common.h"

// Tokens of a page of the key and value cache. A page holds, one after another, keys [kv head][token][head dim] and values likewise.
constexpr u32 PAGE = 64;

#define MINUS_INFINITY __int_as_float(0xFF800000)

// How the keys that the token at `position` may see, itself included, are shared out to the blocks of a decoding attention: whole pages, `per` to a block, two or
// more because a block takes two at once.
struct Splits {
    u32 first_page, pages, per, active;
    __device__ Splits(u32 position, u32 window, u32 splits) {
        const u32 first = window && position + 1 > window ? position + 1 - window : 0;
        first_page = first / PAGE;
        pages = position / PAGE - first_page + 1;
        per = max((pages + splits - 1) / splits, 2);
        active = (pages + per - 1) / per;
    }
};

struct f16 {
    u16 bits;
};
struct bf16 {
    u16 bits;
};

INLINE float to_float(float v) { return v; }
INLINE float to_float(f16 v) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v.bits));
    return f;
}
INLINE float to_float(bf16 v) { return __uint_as_float(u32(v.bits) << 16); }

// Two f16 from two floats, `low` in the low half; beyond the range they become the largest number, never infinity.
INLINE u32 pack_f16(float low, float high) {
    constexpr float LARGEST = 65504.0f;
    low = fminf(fmaxf(low, -LARGEST), LARGEST), high = fminf(fmaxf(high, -LARGEST), LARGEST);
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
// Two f16 from numbers that are known to fit.
INLINE u32 pack_shares(float low, float high) {
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
INLINE f16 to_f16(float v) { return f16{u16(pack_f16(v, 0.0f))}; }
INLINE float2 unpack_f16(u32 pair) { return make_float2(to_float(f16{u16(pair)}), to_float(f16{u16(pair >> 16)})); }
INLINE float2 unpack_bf16(u32 pair) { return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000u)); }

// Eight consecutive numbers at an address that is a multiple of their size together.
INLINE void load8(const float* p, float (&v)[8]) {
    const float4 a = *reinterpret_cast<const float4*>(p), b = *reinterpret_cast<const float4*>(p + 4);
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
INLINE void load8(const f16* p, float (&v)[8]) {
    const uint4 a = *reinterpret_cast<const uint4*>(p);
    const u32 pairs[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 f = unpack_f16(pairs[i]);
        v[2 * i] = f.x, v[2 * i + 1] = f.y;
    }
}
INLINE void load8(const bf16* p, float (&v)[8]) {
    const uint4 a = *reinterpret_cast<const uint4*>(p);
    const u32 pairs[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 f = unpack_bf16(pairs[i]);
        v[2 * i] = f.x, v[2 * i + 1] = f.y;
    }
}

INLINE float warp_sum(float v) {
#pragma unroll
    for (int step = 16; step; step >>= 1) v += __shfl_xor_sync(~0u, v, step);
    return v;
}
// The largest of numbers that are not negative: their bits are in the order of the numbers.
INLINE float warp_largest(float v) { return __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(v))); }

// A load that is issued where it stands: the compiler moves none across wait_for_previous, and data that is read once leaves no trace in L1.
INLINE uint4 load_once(const void* p) {
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p) : "memory");
    return v;
}

// Asynchronous copies of 16 bytes into shared memory; where `present` is false zeros are written and nothing is read.
INLINE void copy16(u32 to, const void* from, bool present = true) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(present ? 16 : 0) : "memory");
}
INLINE void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> INLINE void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

INLINE void load_matrices(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
INLINE void load_matrices_transposed(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

// d += a b, where a is 16 × 16 and b 16 × 8. With g = lane / 4 and c = lane % 4: a0 is row g, columns 2c and 2c+1; a1 row g+8; a2 and a3 the same, columns
// +8; b0 is column g, rows 2c and 2c+1, b1 rows +8; d0 and d1 are row g, columns 2c and 2c+1, d2 and d3 row g+8.
template <class T> INLINE void multiply(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1);
template <> __device__ __forceinline__ void multiply<f16>(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
template <> __device__ __forceinline__ void multiply<bf16>(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

INLINE float exp2_fast(float v) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

// Rotation of one head by a warp, before which the head may be normalised. Lane l holds the pairs l, l + 32, …; element pairs are (i, i + half) or (2i, 2i + 1).
// `turns` holds (cosine, sine) of every pair at the token's position.
template <int PAIRS> struct Head {
    float first[PAIRS], second[PAIRS];

    static INLINE u32 at(u32 pair, u32 dim, bool interleaved, bool other) { return interleaved ? 2 * pair + other : pair + (other ? dim / 2 : 0); }

    template <class T> INLINE void load(const T* x, u32 dim, bool interleaved) {
        for (int i = 0; i < PAIRS; i++) {
            const u32 pair = threadIdx.x % 32 + 32 * i;
            const bool there = pair < dim / 2;
            first[i] = there ? to_float(x[at(pair, dim, interleaved, false)]) : 0.0f;
            second[i] = there ? to_float(x[at(pair, dim, interleaved, true)]) : 0.0f;
        }
    }
    INLINE void normalise(const float* weight, u32 dim, bool interleaved, float eps) {
        float squares = 0.0f;
        for (int i = 0; i < PAIRS; i++) squares += first[i] * first[i] + second[i] * second[i];
        const float r = 1.0f / sqrtf(warp_sum(squares) / float(dim) + eps);
        for (int i = 0; i < PAIRS; i++) {
            const u32 pair = threadIdx.x % 32 + 32 * i;
            if (pair >= dim / 2) continue;
            first[i] = first[i] * weight[at(pair, dim, interleaved, false)] * r;
            second[i] = second[i] * weight[at(pair, dim, interleaved, true)] * r;
        }
    }
    INLINE void rotate(const float2* turns, u32 dim) {
        for (int i = 0; i < PAIRS; i++) {
            const u32 pair = threadIdx.x % 32 + 32 * i;
            if (pair >= dim / 2) continue;
            const float2 turn = turns[pair];
            const float a = first[i], b = second[i];
            first[i] = a * turn.x - b * turn.y;
            second[i] = b * turn.x + a * turn.y;
        }
    }
    INLINE void store(f16* out, u32 dim, bool interleaved) const {
        for (int i = 0; i < PAIRS; i++) {
            const u32 pair = threadIdx.x % 32 + 32 * i;
            if (pair >= dim / 2) continue;
            out[at(pair, dim, interleaved, false)] = to_f16(first[i]);
            out[at(pair, dim, interleaved, true)] = to_f16(second[i]);
        }
    }
};
