// Low-rank adapters: y += scale * B (A x) for the rows of the sequences that name one, the weights untouched.
//
// Rows are grouped by adapter, so A and B are read once for all rows that share them. Both products are
// the float kernel's, which gives a row the same bits whoever is beside it.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../include/gemstead.h"
#include "model.h"

namespace gs {
namespace {

constexpr int kMaxRank = 4096;
constexpr int kTileRows = 32, kTileOut = 64;  // of B x: 8 KiB of results at a time

constexpr gs_matrix gs_layer::* kLinears[] = {
    &gs_layer::q_proj,    &gs_layer::k_proj,    &gs_layer::v_proj, &gs_layer::o_proj,
    &gs_layer::gate_proj, &gs_layer::up_proj,   &gs_layer::down_proj, &gs_layer::router,
    &gs_layer::per_layer_input_gate, &gs_layer::per_layer_projection,
};

const char* wrong_half(const gs_matrix& m, int64_t rows, int64_t columns) noexcept {
    const bool plain = m.format == kF32 || m.format == kF16 || m.format == kBf16;
    if (!m.data || m.packed || m.copies != 1 || !plain) return "an adapter's matrix is missing or not of plain numbers";
    return m.rows != rows || m.columns != columns ? "an adapter's matrix has another shape than its linear" : nullptr;
}

const char* wrong_term(const gs_term& term, const gs_matrix* linear) noexcept {
    if (!linear || !linear->data) return "an adapter adds to a linear that is not there";
    if (!std::isfinite(term.scale)) return "an adapter's scale is no number";
    if (term.a.rows < 1 || term.a.rows > kMaxRank) return "an adapter's rank is not between 1 and 4096";
    const char* wrong = wrong_half(term.a, term.a.rows, linear->columns);
    return wrong ? wrong : wrong_half(term.b, linear->rows, term.a.rows);
}

}  // namespace

const char* Model::add_adapter(const gs_term* terms, int count) {
    constexpr int known = static_cast<int>(std::size(kLinears));
    if (count < 1) return "an adapter has no terms";
    Adapter adapter;
    for (int i = 0; i < count; ++i) {
        const gs_term& term = terms[i];
        const gs_matrix* linear = nullptr;
        if (term.linear == GS_PER_LAYER_MODEL_PROJECTION) {
            linear = spec_.per_layer_width ? &spec_.per_layer_model_projection : nullptr;
        } else if (term.linear >= 0 && term.linear < known && term.layer >= 0 && term.layer < spec_.num_layers) {
            linear = &(layers_[static_cast<size_t>(term.layer)].*kLinears[term.linear]);
        }
        if (const char* wrong = wrong_term(term, linear)) return wrong;
        if (!adapter.emplace(linear, term).second) return "an adapter adds to a linear twice";
    }
    adapters_.push_back(std::move(adapter));
    return nullptr;
}

void Model::project(const gs_matrix& w, Input& x, const Rows& rows, float* y, int64_t stride, int64_t first,
                    int64_t last) {
    linear(threads_, w, x, y, stride, first, last);
    for (const AdapterRows& own : rows.adapted) {
        const Adapter& adapter = adapters_[static_cast<size_t>(own.adapter - 1)];
        const auto found = adapter.find(&w);
        if (found != adapter.end()) add_term(found->second, x, own.rows, y, stride, first, last);
    }
}

void Model::add_term(const gs_term& term, Input& x, const std::vector<int>& rows, float* y, int64_t stride,
                     int64_t first, int64_t last) {
    const int count = static_cast<int>(rows.size()), rank = static_cast<int>(term.a.rows);
    const int64_t columns = x.columns();
    const float* own = x.rows() + rows.front() * columns;
    if (rows.back() - rows.front() + 1 != count) {  // other sequences lie between
        float* gathered = gathered_.get(count * columns);
        for (int i = 0; i < count; ++i)
            std::memcpy(gathered + i * columns, x.rows() + rows[static_cast<size_t>(i)] * columns,
                        sizeof(float) * static_cast<size_t>(columns));
        own = gathered;
    }
    float* low = low_.get(static_cast<int64_t>(count) * rank);
    adapter_in_.set(own, count, columns);
    linear(threads_, term.a, adapter_in_, low);
    for (int64_t i = 0; i < static_cast<int64_t>(count) * rank; ++i) low[i] *= term.scale;

    static const MatmulFloat matmul = pick(matmul_float_table(), isa());
    const FloatFormat format = float_format(term.b.format);
    const int64_t row_bytes = rank * file_format(term.b.format).bytes;
    const uint8_t* b = static_cast<const uint8_t*>(term.b.data) + first * row_bytes;
    const int64_t group = units_per_chunk((last - first + kTileOut - 1) / kTileOut,
                                          static_cast<int64_t>(kTileOut) * rank * count, threads_.count()) * kTileOut;
    threads_.run(static_cast<int>((last - first + group - 1) / group), [&](int chunk, int) noexcept {
        float tile[kTileRows * kTileOut];
        const int64_t stop = std::min(last - first, (chunk + 1) * group);
        for (int64_t r = chunk * group; r < stop; r += kTileOut) {
            const int out = static_cast<int>(std::min<int64_t>(kTileOut, stop - r));
            for (int t = 0; t < count; t += kTileRows) {
                const int tokens = std::min(kTileRows, count - t);
                matmul(format, b + r * row_bytes, out, rank, low + static_cast<int64_t>(t) * rank, rank, tokens, tile,
                       kTileOut);
                for (int i = 0; i < tokens; ++i) {
                    float* to = y + rows[static_cast<size_t>(t + i)] * stride + r;
                    for (int j = 0; j < out; ++j) to[j] += tile[i * kTileOut + j];
                }
            }
        }
    });
}

}  // namespace gs
