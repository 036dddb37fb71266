// y = x W^T for rows of float32, whatever the format of W: quantizes x once for all matrices that read it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "threads.h"
#include "weights.h"

namespace gs {

// Memory that grows and never shrinks; contents are not kept when it grows. It begins with a line of the caches,
// so that the 16 answers of a strip are one line, and no other thread's.
template <class T>
class Scratch {
public:
    T* get(int64_t count) {
        const size_t wanted = static_cast<size_t>(count) * sizeof(T);
        if (bytes() < static_cast<int64_t>(wanted)) held_.resize(static_cast<size_t>(count) + kLine / sizeof(T));
        size_t room = held_.size() * sizeof(T);
        void* start = held_.data();
        return static_cast<T*>(std::align(kLine, wanted, start, room));
    }
    // Without the line spared to begin with one.
    int64_t bytes() const noexcept { return held_.empty() ? 0 : static_cast<int64_t>(held_.size() * sizeof(T) - kLine); }

private:
    static constexpr size_t kLine = 64;
    std::vector<T> held_;
};

// Rows begin..end-1 of an input, which meet copy `copy` of a matrix (an expert's).
struct Part {
    int copy;
    int begin;
    int end;
};

// Rows about to meet matrices: float32 [tokens][columns], and int8 once a quantized matrix asks.
class Input {
public:
    // The rows must stay where they are until the last matrix has read them.
    void set(const float* x, int tokens, int64_t columns) {
        parts_.assign(1, {0, 0, tokens});
        set_all(x, tokens, columns);
    }
    // Rows of several copies, each part behind the one before.
    void set(const float* x, std::span<const Part> parts, int64_t columns) {
        parts_.assign(parts.begin(), parts.end());
        set_all(x, parts_.back().end, columns);
    }
    // The same, where row t lies at x + from[t] * columns; `from` must stay too.
    void gather(const float* x, const int* from, std::span<const Part> parts, int64_t columns) {
        set(x, parts, columns);
        from_ = from;
    }
    // The rows one behind the other.
    const float* rows();
    int tokens() const noexcept { return tokens_; }
    int64_t columns() const noexcept { return columns_; }
    std::span<const Part> parts() const noexcept { return parts_; }
    // The rows in int8, made at the first call after set(); tiles begin where parts do.
    const Activations& quantized(Threads& threads);
    int64_t bytes() const noexcept {
        return q_.bytes() + scale_.bytes() + sum_.bytes() + eight_.bytes() + halves_.bytes() + gathered_.bytes();
    }

private:
    struct Tile {
        int begin;
        int end;  // of its chunk
    };

    void set_all(const float* x, int tokens, int64_t columns) noexcept {
        x_ = x, from_ = nullptr, tokens_ = tokens, columns_ = columns, quantized_ = false;
    }
    const float* row(int t) const noexcept { return x_ + (from_ ? from_[t] : t) * columns_; }

    const float* x_ = nullptr;
    const int* from_ = nullptr;
    std::vector<Part> parts_;
    std::vector<Tile> tiles_;
    int tokens_ = 0;
    int64_t columns_ = 0;
    bool quantized_ = false;
    Activations view_{};
    Scratch<int8_t> q_;
    Scratch<float> scale_, sum_, gathered_;
    Scratch<int32_t> eight_, halves_;
};

// How many units of `work` multiply-adds make a chunk for the threads, leaving each several.
int64_t units_per_chunk(int64_t units, int64_t work, int threads) noexcept;

// y[t * stride + r] for the rows first..last of the matrix, of the copy that t's part names: row `first` goes to
// y[0].
void linear(Threads& threads, const gs_matrix& w, Input& x, float* y, int64_t stride, int64_t first, int64_t last);

inline void linear(Threads& threads, const gs_matrix& w, Input& x, float* y) {
    linear(threads, w, x, y, w.rows, 0, w.rows);
}

}  // namespace gs
