// Every compiled kernel against its scalar definition: random and corner values, every tile width, odd
// lengths, misaligned starts. Prints one line an op; exits 1 when any differs, or when the machine is not
// of the instruction set it was given the name of.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "../kernels/attention/attention.h"
#include "../kernels/half.h"
#include "../kernels/kv/kv.h"
#include "../kernels/matmul_float/matmul_float.h"
#include "../kernels/matmul_q4_0/matmul_q4_0.h"
#include "../kernels/matmul_q4_k/matmul_q4_k.h"
#include "../kernels/matmul_q6_k/matmul_q6_k.h"
#include "../kernels/matmul_q8_0/matmul_q8_0.h"
#include "../kernels/peak/peak.h"
#include "../kernels/quantize/quantize.h"
#include "../kernels/rows/rows.h"

using namespace gs;

namespace {

std::mt19937 random_bits(1);
int failures = 0;

float uniform(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random_bits); }

// A vector that begins `shift` bytes after an aligned place.
template <class T>
struct Shifted {
    std::vector<uint8_t> bytes;
    T* at;
    Shifted(size_t count, int shift) : bytes(count * sizeof(T) + 128) {
        auto start = reinterpret_cast<uintptr_t>(bytes.data());
        at = reinterpret_cast<T*>((start + 63) / 64 * 64 + static_cast<uintptr_t>(shift));
    }
};

void expect(bool ok, const char* op, const char* isa, long long where, double wanted, double got) {
    if (ok) return;
    if (++failures <= 20) std::printf("FAILED %s %s at %lld: wanted %.9g, got %.9g\n", op, isa, where, wanted, got);
}

// Equal within `units` of the last place at the size of `scale`.
bool near(double wanted, double got, double scale, double units) {
    if (std::isnan(wanted)) return std::isnan(got);
    if (std::isinf(wanted)) return wanted == got;
    return std::fabs(wanted - got) <= units * 1.2e-7 * std::fmax(scale, 1e-37);
}

struct Tile {
    std::vector<int8_t> q;
    std::vector<float> scale, sum;
    std::vector<int32_t> eight, halves;
    Activations view;
    Tile(int blocks, int w)
        : q(blocks * w * kBlock), scale(blocks * w), sum(blocks * w), eight(blocks * w), halves(2 * blocks * w) {
        view = {q.data(), scale.data(), sum.data(), eight.data(), halves.data(), blocks, w};
    }
};

// Random rows, quantized for the scalar kernels and for those of a level.
struct Tiles {
    Tile scalar, own;
    Tiles(int blocks, int w, bool corners, Isa isa) : scalar(blocks, w), own(blocks, w) {
        std::vector<float> x(blocks * kBlock);
        for (int t = 0; t < w; ++t) {
            for (auto& v : x) v = corners ? (random_bits() % 2 ? 1.0f : -1.0f) : uniform(-2, 2);
            quantize_table()[0].run(x.data(), scalar.view, t);
            pick(quantize_table(), isa)(x.data(), own.view, t);
        }
    }
};

// Where column k of token t of w lies in a block: activations.h.
int place(Isa isa, int w, int t, int k) {
    if (isa != Isa::i8mm || w < kTile) return t * kBlock + k;
    return t / 2 * 64 + k / 16 * 32 + k / 4 % 2 * 16 + t % 2 * 8 + k / 8 % 2 * 4 + k % 4;
}

std::vector<int8_t> laid(Isa isa, const Tile& tile) {
    const int w = tile.view.tokens;
    std::vector<int8_t> q(tile.q.size());
    for (int b = 0; b < tile.view.blocks; ++b)
        for (int t = 0; t < w; ++t)
            for (int k = 0; k < kBlock; ++k)
                q[b * w * kBlock + place(isa, w, t, k)] = tile.q[(b * w + t) * kBlock + k];
    return q;
}

// Fills float16 scales so that they are finite; every other byte is random or at a corner.
void fill_strip(uint8_t* strip, int64_t bytes, bool corners) {
    for (int64_t i = 0; i < bytes; ++i) strip[i] = corners ? (random_bits() % 2 ? 0xff : 0x80) : random_bits();
}

void put_halves(uint8_t* at, int count) {
    for (int i = 0; i < count; ++i) {
        const uint16_t h = float_to_half(uniform(-0.01f, 0.01f));
        std::memcpy(at + 2 * i, &h, 2);
    }
}

struct Format {
    const char* name;
    std::span<const Entry<MatmulTile>> table;
    int columns, bytes, scales_at, num_scales;  // of one block or superblock
};

void test_matmul(const Format& f) {
    for (const auto& entry : f.table.subspan(1)) {
        if (entry.isa > probed_isa()) continue;
        for (int round = 0; round < 120; ++round) {
            const int supers = 1 + round % 7, w = 1 + round % kTile, shift = round % 3;
            const bool corners = round % 5 == 0;
            const Tiles tiles(supers * f.columns / kBlock, w, corners, entry.isa);
            Shifted<uint8_t> strip(static_cast<size_t>(supers) * f.bytes, shift);
            fill_strip(strip.at, static_cast<int64_t>(supers) * f.bytes, corners);
            for (int s = 0; s < supers; ++s) put_halves(strip.at + s * f.bytes + f.scales_at, f.num_scales);
            std::vector<float> wanted(kTile * 20, -7), got(kTile * 20, -7);
            f.table[0].run(strip.at, tiles.scalar.view, wanted.data(), 20);
            entry.run(strip.at, tiles.own.view, got.data(), 20);
            for (size_t i = 0; i < got.size(); ++i)
                expect(wanted[i] == got[i], f.name, name_of(entry.isa), i, wanted[i], got[i]);
        }
    }
    std::printf("%-14s exact, %zu ISA\n", f.name, f.table.size());
}

void test_matmul_float() {
    const auto table = matmul_float_table();
    for (const auto& entry : table.subspan(1)) {
        if (entry.isa > probed_isa()) continue;
        for (int round = 0; round < 200; ++round) {
            const auto format = static_cast<FloatFormat>(round % 3);
            const int size = format == FloatFormat::f32 ? 4 : 2, rows = round % 10, tokens = round % 8;
            const int columns = 1 + (round * 7) % 50;
            Shifted<uint8_t> w(static_cast<size_t>(rows + 1) * columns * size, round % 4);
            for (int i = 0; i < rows * columns; ++i) {
                const float v = uniform(-1, 1);
                const uint16_t half = format == FloatFormat::f16 ? float_to_half(v)
                                                                 : std::bit_cast<uint32_t>(v) >> 16;
                std::memcpy(w.at + i * size, size == 4 ? static_cast<const void*>(&v) : &half, size);
            }
            std::vector<float> x((tokens + 1) * (columns + 3)), wanted(8 * 12, -7), got(8 * 12, -7);
            for (auto& v : x) v = uniform(-1, 1);
            table[0].run(format, w.at, rows, columns, x.data(), columns + 3, tokens, wanted.data(), 12);
            entry.run(format, w.at, rows, columns, x.data(), columns + 3, tokens, got.data(), 12);
            for (size_t i = 0; i < got.size(); ++i)
                expect(wanted[i] == got[i], "matmul_float", name_of(entry.isa), i, wanted[i], got[i]);
        }
    }
    std::printf("%-14s exact, %zu ISA\n", "matmul_float", table.size());
}

void test_quantize() {
    const auto table = quantize_table();
    for (const auto& entry : table.subspan(1)) {
        if (entry.isa > probed_isa()) continue;
        for (int round = 0; round < 200; ++round) {
            const int blocks = 1 + round % 5, w = 1 + round % 4;
            Tile wanted(blocks, w), got(blocks, w);
            std::vector<float> x(blocks * kBlock * w);
            for (auto& v : x) v = uniform(-3, 3) * std::pow(10.0f, static_cast<float>(round % 40 - 20));
            if (round % 10 == 1) x[round % x.size()] = INFINITY;
            if (round % 10 == 2) x[round % x.size()] = NAN;
            if (round % 10 == 3) std::fill(x.begin(), x.end(), 0.0f);
            if (round % 10 == 4) std::fill(x.begin(), x.end(), 1e-39f);
            for (int t = 0; t < w; ++t) {
                table[0].run(x.data() + t * blocks * kBlock, wanted.view, t);
                entry.run(x.data() + t * blocks * kBlock, got.view, t);
            }
            const bool same = laid(entry.isa, wanted) == got.q && wanted.eight == got.eight && wanted.halves == got.halves &&
                              !std::memcmp(wanted.scale.data(), got.scale.data(), 4 * got.scale.size());
            expect(same, "quantize", name_of(entry.isa), round, wanted.scale[0], got.scale[0]);
        }
    }
    std::printf("%-14s exact, %zu ISA\n", "quantize", table.size());
}

void test_rows() {
    const auto table = rows_table();
    for (const auto& entry : table.subspan(1)) {
        if (entry.isa > probed_isa()) continue;
        for (int n = 0; n < 70; ++n) {
            Shifted<float> x(n + 8, 4 * (n % 5));
            std::vector<float> weight(n), wanted(n), got(n), up(n);
            for (int i = 0; i < n; ++i) x.at[i] = uniform(-20, 20), weight[i] = uniform(0, 2), up[i] = uniform(-3, 3);
            const auto check = [&](const char* op, double units, auto scale) {
                for (int i = 0; i < n; ++i)
                    expect(near(wanted[i], got[i], scale(i), units), op, name_of(entry.isa), i, wanted[i], got[i]);
            };
            const auto own = [&](int i) { return std::fabs(wanted[i]); };
            table[0].run.norm(x.at, n % 3 ? weight.data() : nullptr, 1e-6f, n, wanted.data());
            entry.run.norm(x.at, n % 3 ? weight.data() : nullptr, 1e-6f, n, got.data());
            check("norm", 2, own);
            wanted.assign(x.at, x.at + n), got = wanted;
            table[0].run.gelu_mul(wanted.data(), up.data(), n), entry.run.gelu_mul(got.data(), up.data(), n);
            // exp(-2u) for large u magnifies the rounding of u: relative to x * up, not to the result
            check("gelu_mul", 16, [&](int i) { return std::fabs(x.at[i] * up[i]) * 1e-2 + std::fabs(wanted[i]); });
            for (int i = 0; i < n; ++i) wanted[i] = got[i] = x.at[i] * (n % 7 ? 4.0f : 0.01f);
            table[0].run.softcap(wanted.data(), n, 30), entry.run.softcap(got.data(), n, 30);
            check("softcap", 8, own);
            wanted.assign(x.at, x.at + n), got = wanted;
            if (n > 3) wanted[1] = got[1] = -INFINITY, wanted[2] = got[2] = -500;
            const float a = table[0].run.exp_sum(wanted.data(), n, 20), b = entry.run.exp_sum(got.data(), n, 20);
            check("exp_sum", 4, own);
            expect(near(a, b, a, 8), "exp_sum total", name_of(entry.isa), n, a, b);
            const float most = table[0].run.peak(x.at, n), same = entry.run.peak(x.at, n);
            expect(most == same, "peak", name_of(entry.isa), n, most, same);
            if (!n) continue;
            wanted.assign(x.at, x.at + n), wanted[static_cast<size_t>(n * 5 / 7)] = NAN;
            const float none = entry.run.peak(wanted.data(), n);
            expect(std::isnan(none), "peak of NaN", name_of(entry.isa), n, 0, none);
        }
    }
    std::printf("%-14s rounded, %zu ISA\n", "rows", table.size());
}

// One kernel against its definition on keys of type T.
template <class T>
void compare_attention(const AttentionKernels& wanted, const AttentionKernels& run, Isa isa, int round) {
    const int rows = round % 9, keys = round % 35, dim = 8 * (1 + round % 9), step = dim + 8 * (round % 2);
    std::vector<float> q((rows + 1) * dim);
    std::vector<T> k(40 * step);
    for (auto& v : q) v = uniform(-1, 1);
    for (auto& v : k) {
        if constexpr (std::is_same_v<T, float>) v = uniform(-1, 1);
        else v = float_to_half(uniform(-1, 1));
    }
    const auto scores = [](const AttentionKernels& a) {
        if constexpr (std::is_same_v<T, float>) return a.scores;
        else return a.scores_half;
    };
    const auto blend = [](const AttentionKernels& a) {
        if constexpr (std::is_same_v<T, float>) return a.blend;
        else return a.blend_half;
    };
    std::vector<float> s(9 * 40, -7), t(9 * 40, -7), o((rows + 1) * dim, 0.5f), p(o);
    scores(wanted)(q.data(), rows, dim, k.data(), step, keys, s.data(), 40);
    scores(run)(q.data(), rows, dim, k.data(), step, keys, t.data(), 40);
    expect(s == t, "scores", name_of(isa), round, s[0], t[0]);
    blend(wanted)(s.data(), 40, rows, dim, k.data(), step, keys, o.data());
    blend(run)(s.data(), 40, rows, dim, k.data(), step, keys, p.data());
    expect(o == p, "blend", name_of(isa), round, o[0], p[0]);
}

void test_attention() {
    const auto table = attention_table();
    for (const auto& entry : table.subspan(1)) {
        if (entry.isa > probed_isa()) continue;
        for (int round = 0; round < 100; ++round) {
            compare_attention<uint16_t>(table[0].run, entry.run, entry.isa, round);
            compare_attention<float>(table[0].run, entry.run, entry.isa, round);
        }
    }
    std::printf("%-14s exact, %zu ISA\n", "attention", table.size());
}

// Equal bits; which NaN a NaN is, nobody reads.
bool alike(const std::vector<float>& a, const std::vector<float>& b) {
    for (size_t i = 0; i < a.size(); ++i)
        if (!(std::isnan(a[i]) && std::isnan(b[i])) && std::memcmp(&a[i], &b[i], 4)) return false;
    return true;
}

void test_kv() {
    const auto table = kv_table();
    for (const auto& entry : table.subspan(1)) {
        if (entry.isa > probed_isa()) continue;
        for (int round = 0; round < 400; ++round) {
            const auto format = static_cast<KvFormat>(round % 2);
            const int keys = 1 + round % 5, dim = (round % 2 ? 32 : 8) * (1 + round % 7), stride = dim + round % 3;
            const auto step = static_cast<size_t>(kv_bytes(format, dim)) + 2 * static_cast<size_t>(round % 4);
            std::vector<float> x(static_cast<size_t>(keys * dim)), weight(static_cast<size_t>(dim));
            for (auto& v : x) v = uniform(-70000, 70000) * std::pow(10.0f, static_cast<float>(round % 12 - 11));
            if (round % 9 == 1) x[static_cast<size_t>(round) % x.size()] = NAN;
            if (round % 9 == 2) x[static_cast<size_t>(round) % x.size()] = -INFINITY;
            if (round % 9 == 3) std::fill(x.begin(), x.end(), round % 4 ? 1e-8f : 0.0f);
            for (auto& v : weight) v = uniform(-2, 2);
            Shifted<uint8_t> wanted(step * keys + 1, round % 3), got(step * keys + 1, round % 3);
            for (int j = 0; j < keys; ++j) {
                table[0].run.store(format, x.data() + j * dim, dim, wanted.at + j * step);
                entry.run.store(format, x.data() + j * dim, dim, got.at + j * step);
            }
            const auto expanded = [&](const KvKernels& run, const uint8_t* from) {
                std::vector<float> out(static_cast<size_t>(keys * stride), -7);
                run.expand(format, from, static_cast<int64_t>(step), dim, keys, round % 4 < 2 ? weight.data() : nullptr, out.data(), stride);
                return out;
            };
            std::vector<float> a = expanded(table[0].run, wanted.at), b = expanded(entry.run, got.at);
            expect(alike(a, b), round % 2 ? "kv q8_0" : "kv f16", name_of(entry.isa), round, a[0], b[0]);
            const int pairs = round % (dim / 2 + 1);
            std::vector<float> angles(static_cast<size_t>(2 * keys * pairs) + 1);
            for (auto& v : angles) v = uniform(-1, 1);
            b = a;
            table[0].run.turn(a.data(), stride, dim, keys, angles.data(), angles.data() + keys * pairs, pairs);
            entry.run.turn(b.data(), stride, dim, keys, angles.data(), angles.data() + keys * pairs, pairs);
            expect(alike(a, b), "kv turn", name_of(entry.isa), round, a[0], b[0]);
        }
    }
    std::printf("%-14s exact, %zu ISA\n", "kv", table.size());
}

// q8_0 as stored is within half a step of what it was, whatever the size of the block.
void test_kv_rounding() {
    for (int round = 0; round < 200; ++round) {
        std::vector<float> x(32), back(32);
        for (auto& v : x) v = uniform(-1, 1) * std::pow(10.0f, static_cast<float>(round % 8 - 4));
        uint8_t block[kKvBlockBytes];
        kv_table()[0].run.store(KvFormat::q8_0, x.data(), 32, block);
        kv_table()[0].run.expand(KvFormat::q8_0, block, kKvBlockBytes, 32, 1, nullptr, back.data(), 32);
        const float step = half_at(block);
        for (int i = 0; i < 32; ++i)  // the step itself was rounded to float16: 127 of it may fall short a little
            expect(std::fabs(x[i] - back[i]) <= 0.57f * step + 4e-6f, "kv rounding", "scalar", i, x[i], back[i]);
    }
}

// Every product is of ones: what comes back is how many there were.
void test_peak() {
    const int64_t least = 4 * kPeakRounds;  // the scalar chains
    int number = 0;
    for (const auto& entry : peak_table()) {
        if (entry.isa > probed_isa()) continue;
        ++number;
        const int64_t once = entry.run(1);
        expect(once >= least && once % least == 0, "peak", name_of(entry.isa), 1, least, static_cast<double>(once));
        expect(entry.run(7) == 7 * once, "peak", name_of(entry.isa), 7, 7.0 * once, static_cast<double>(entry.run(7)));
    }
    std::printf("%-14s %s, %d ISA\n", "peak", "counts itself", number);
}

}  // namespace

int main(int count, char** words) {
    const char* runs = name_of(probed_isa());
    std::printf("this machine runs %s\n", runs);
    if (count > 1 && std::strcmp(words[1], runs)) {
        std::printf("FAILED: it should run %s\n", words[1]);
        return 1;
    }
    test_quantize();
    test_matmul({"matmul_q4_0", matmul_q4_0_table(), 32, kQ4_0Bytes, 256, 16});
    test_matmul({"matmul_q8_0", matmul_q8_0_table(), 32, kQ8_0Bytes, 512, 16});
    test_matmul({"matmul_q4_k", matmul_q4_k_table(), 256, kQ4_kBytes, 0, 32});
    test_matmul({"matmul_q6_k", matmul_q6_k_table(), 256, kQ6_kBytes, 0, 16});
    test_matmul_float();
    test_rows();
    test_attention();
    test_kv();
    test_kv_rounding();
    test_peak();
    std::printf(failures ? "%d differences\n" : "all kernels agree with their definitions\n", failures);
    return failures != 0;
}
