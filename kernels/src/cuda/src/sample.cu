// targets: sm_90a compute_80
// The next token of every sequence, chosen where the logits are, and written where the next step reads it: a decoding loop need not wait for the host.
//
// The rules are those of the sampler for processors: filters look at the distribution at temperature 1, in the order top_k, top_p, min_p; what is left is weighed at
// the temperature and drawn in the order of ids, with number n of the generator splitmix64 for the n-th draw. Temperature 0 takes the largest logit, the lowest id
// of equals. Here words that lie within 2^−15 of each other count as equal to the filters (all are kept), and so do all that lie more than 32 below the largest.
//
// Weights are integers, so that sums do not depend on the order of threads. The k-th word and the share are found by two histograms of 1024 bins, of all words
// by the upper half of their rank and of one bin's words by the lower.
//
// Floor: latency; one to six passes of one block over the logits, about 6 µs each for 128256 words, or just 1 µs for the largest where the head has found it.
// Launch: grid = sequences, block = 1024.
#include "decoder.h"

constexpr u32 THREADS = 1024, BINS = 1024, LAST_KEY = BINS * BINS - 1;
constexpr float KEYS_PER_UNIT = 32768.0f; // 2^15

// A weight, at most 2^24, is added in halves of 12 bits: shared memory adds words of 32 bits at once, and those of 64 bits in a loop.
struct Histogram {
    u32 counts[BINS], low[BINS], high[BINS];
    INLINE u64 weight(u32 bin) const { return u64(low[bin]) + (u64(high[bin]) << 12); }
};

INLINE u32 weight_of(float below) { return __float2uint_rn(exp2_fast(below * -1.44269504f) * 16777216.0f); }
// The same in units of 2^-30, for the draw.
INLINE u64 fine_weight_of(float below) { return __float2uint_rn(exp2f(below * -1.44269504f) * 1073741824.0f); }
// The rank of a word that lies so far below the largest.
INLINE u32 key_of(float below) { return u32(fminf(below * KEYS_PER_UNIT, float(LAST_KEY))); }

// Logits of a sequence, four at a time; rows lie at multiples of 16 bytes only where the vocabulary is a multiple of 4.
struct Logits {
    const float* row;
    u32 vocab;
    INLINE void load(u32 first, float (&v)[4]) const {
        if (vocab % 4 == 0) {
            if (first < vocab) {
                const float4 all = *reinterpret_cast<const float4*>(row + first);
                v[0] = all.x, v[1] = all.y, v[2] = all.z, v[3] = all.w;
            }
        } else {
#pragma unroll
            for (u32 i = 0; i < 4; i++)
                if (first + i < vocab) v[i] = row[first + i];
        }
    }
    // Calls f(word, logit) for every word, each thread for its own.
    template <class F> INLINE void for_each(F f) const {
        constexpr u32 AT_ONCE = 4; // on their way at a time
        for (u32 first = threadIdx.x * 4; first < vocab; first += AT_ONCE * 4 * THREADS) {
            float v[AT_ONCE][4];
#pragma unroll
            for (u32 i = 0; i < AT_ONCE; i++) load(first + i * 4 * THREADS, v[i]);
#pragma unroll
            for (u32 i = 0; i < AT_ONCE; i++)
#pragma unroll
                for (u32 e = 0; e < 4; e++)
                    if (first + i * 4 * THREADS + e < vocab) f(first + i * 4 * THREADS + e, v[i][e]);
        }
    }
};

// Number n of splitmix64, from 1.
INLINE u64 draw(const Sampling& s, u32 n) {
    u64 z = (u64(s.seed_high) << 32 | s.seed_low) + u64(n) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

INLINE u64 block_sum(u64 v, u64* scratch) {
#pragma unroll
    for (int step = 16; step; step >>= 1) v += __shfl_xor_sync(~0u, v, step);
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
    __syncthreads();
    v = scratch[threadIdx.x % 32];
#pragma unroll
    for (int step = 16; step; step >>= 1) v += __shfl_xor_sync(~0u, v, step);
    return v;
}

// Sum of the values of all threads up to and including this one.
INLINE u64 block_scan(u64 v, u64* scratch) {
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const u64 other = __shfl_up_sync(~0u, v, step);
        if (lane >= step) v += other;
    }
    __syncthreads();
    if (lane == 31) scratch[warp] = v;
    __syncthreads();
    u64 before = 0;
    for (u32 w = 0; w < warp; w++) before += scratch[w];
    return v + before;
}

struct Place {
    u32 bin;
    u64 weight_before, count_before;
};

// The first bin up to which the histogram holds at least `wanted` (of counts, or of weights), and what the bins before it hold. The last bin if none does.
INLINE Place find(const Histogram& h, u64 wanted, bool by_count, u64* scratch, Place* found) {
    static_assert(BINS == THREADS, "a thread has a bin");
    const u32 bin = threadIdx.x;
    const u64 mine_weight = h.weight(bin), mine_count = h.counts[bin];
    const u64 weight = block_scan(mine_weight, scratch), count = block_scan(mine_count, scratch);
    const u64 upto = by_count ? count : weight, before = upto - (by_count ? mine_count : mine_weight);
    __syncthreads();
    if ((before < wanted && upto >= wanted) || (bin == BINS - 1 && upto < wanted)) *found = Place{bin, weight - mine_weight, count - mine_count};
    __syncthreads();
    return *found;
}

// Adds up all words by the upper half of their keys, or, where `only` is a bin of that, its words by the lower half.
INLINE void fill(Histogram& h, const Logits& logits, float largest, u32 only) {
    __syncthreads();
    h.counts[threadIdx.x] = h.low[threadIdx.x] = h.high[threadIdx.x] = 0;
    __syncthreads();
    // Words of a sharp distribution meet in the last bin: those are counted apart.
    u32 tail_count = 0, tail_low = 0, tail_high = 0;
    logits.for_each([&](u32, float logit) {
        const float below = largest - logit;
        const u32 key = key_of(below);
        if (only < BINS && key / BINS != only) return;
        const u32 bin = only < BINS ? key % BINS : key / BINS, weight = weight_of(below);
        if (bin == BINS - 1) {
            tail_count++, tail_low += weight % 4096, tail_high += weight / 4096;
        } else {
            atomicAdd(&h.counts[bin], 1u);
            atomicAdd(&h.low[bin], weight % 4096);
            atomicAdd(&h.high[bin], weight / 4096);
        }
    });
    atomicAdd(&h.counts[BINS - 1], tail_count);
    atomicAdd(&h.low[BINS - 1], tail_low);
    atomicAdd(&h.high[BINS - 1], tail_high);
    __syncthreads();
}

// Draws in the order of ids among the words whose key is at most `last_key`. The vocabulary is cut into 512 pieces whose sums tell where the mark lies; one warp
// looks for it there.
INLINE void pick(const Logits& logits, float largest, float scale, u32 last_key, u64 random, u64* sums, u64* scratch, u32* chosen) {
    constexpr u32 PIECES = 512;
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, size = (logits.vocab + PIECES * 128 - 1) / (PIECES * 128) * 128;
    auto weigh = [&](u32 first, u64 (&w)[4]) {
        float v[4];
        logits.load(first, v);
#pragma unroll
        for (u32 e = 0; e < 4; e++) {
            const float below = largest - v[e];
            w[e] = first + e < logits.vocab && key_of(below) <= last_key ? fine_weight_of(below * scale) : 0;
        }
        return w[0] + w[1] + w[2] + w[3];
    };
    for (u32 piece = warp; piece < PIECES; piece += THREADS / 32) {
        u64 sum = 0, w[4];
#pragma unroll 4
        for (u32 at = piece * size + lane * 4; at < (piece + 1) * size; at += 128) sum += weigh(at, w);
#pragma unroll
        for (int step = 16; step; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
        if (lane == 0) sums[piece] = sum;
    }
    __syncthreads();
    const u64 mine = threadIdx.x < PIECES ? sums[threadIdx.x] : 0;
    const u64 upto = block_scan(mine, scratch), total = block_sum(mine, scratch);
    const u64 mark = __umul64hi(random & ~0x7FFull, total);
    const u32 owner = __ballot_sync(~0u, mark < upto && mark >= upto - mine);
    if (!owner) return;
    const u32 piece = warp * 32 + __ffs(owner) - 1;
    u64 left = __shfl_sync(~0u, mark - (upto - mine), __ffs(owner) - 1);
    for (u32 at = piece * size + lane * 4; at < (piece + 1) * size; at += 128) {
        u64 w[4], sum = weigh(at, w);
        const u64 own = sum;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            const u64 other = __shfl_up_sync(~0u, sum, step);
            if (lane >= step) sum += other;
        }
        const u32 beyond = __ballot_sync(~0u, left < sum);
        if (beyond) {
            if (lane == __ffs(beyond) - 1) {
                left -= sum - own;
                u32 word = at;
                for (u32 e = 0; e < 3 && left >= w[e]; e++) left -= w[e], word++;
                *chosen = word;
            }
            return;
        }
        left -= __shfl_sync(~0u, sum, 31);
    }
}

extern "C" __global__ void __launch_bounds__(1024) sample(const __grid_constant__ SampleArgs p) {
    __shared__ Histogram coarse, fine;
    __shared__ u64 scratch[32], sums[512];
    __shared__ Place found;
    __shared__ float best_of[32];
    __shared__ u32 row_of[32], chosen;
    let_next_start();
    wait_for_previous();
    const u32 sequence = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const Sampling s = p.sampling[sequence];
    const Logits logits = {p.logits + u64(sequence) * p.vocab, p.vocab};

    float best = MINUS_INFINITY;
    u32 row = 0;
    auto keep = [&](float other, u32 other_row) {
        if (other > best || (other == best && other_row < row)) best = other, row = other_row;
    };
    if (p.blocks) {
        for (u32 i = threadIdx.x; i < p.blocks; i += THREADS) keep(p.best[sequence * p.blocks + i], p.best_row[sequence * p.blocks + i]);
    } else {
        logits.for_each([&](u32 word, float logit) { keep(logit, word); });
    }
#pragma unroll
    for (int step = 16; step; step >>= 1) {
        const float other = __shfl_xor_sync(~0u, best, step);
        keep(other, __shfl_xor_sync(~0u, row, step));
    }
    if (lane == 0) best_of[warp] = best, row_of[warp] = row;
    __syncthreads();
    best = best_of[lane], row = row_of[lane];
#pragma unroll
    for (int step = 16; step; step >>= 1) {
        const float other = __shfl_xor_sync(~0u, best, step);
        keep(other, __shfl_xor_sync(~0u, row, step));
    }
    if (threadIdx.x == 0) chosen = row;

    const u32 position = p.positions[sequence];
    const float scale = s.inverse_temperature;
    if (scale > 0.0f) {
        u32 last_key = LAST_KEY;
        const bool few = s.top_k && s.top_k < p.vocab, share = s.top_p < 1.0f;
        if (few || share) {
            fill(coarse, logits, best, BINS);
            u64 total = block_sum(coarse.weight(threadIdx.x), scratch);
            u32 in_fine = BINS;
            if (few) {
                const Place bin = find(coarse, s.top_k, true, scratch, &found);
                fill(fine, logits, best, in_fine = bin.bin);
                const Place key = find(fine, s.top_k - bin.count_before, true, scratch, &found);
                last_key = bin.bin * BINS + key.bin;
                total = bin.weight_before + key.weight_before + fine.weight(key.bin);
            }
            if (share) {
                const u64 wanted = max(u64(double(total) * double(fmaxf(s.top_p, 0.0f))), u64(1));
                const Place bin = find(coarse, wanted, false, scratch, &found);
                if (bin.bin != in_fine) fill(fine, logits, best, bin.bin);
                const Place key = find(fine, wanted - bin.weight_before, false, scratch, &found);
                last_key = min(last_key, bin.bin * BINS + key.bin);
            }
        }
        if (s.min_p > 0.0f) last_key = min(last_key, key_of(fmaxf(-logf(s.min_p), 0.0f)));
        pick(logits, best, scale, last_key, draw(s, position - s.first + 1), sums, scratch, &chosen);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        p.tokens[sequence] = chosen;
        p.history[sequence * p.history_len + (position + 1) % p.history_len] = chosen;
        p.positions[sequence] = position + 1;
    }
}
