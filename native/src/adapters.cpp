// Low-rank adapters: y += scale * B (A x) for the rows of the sequences that name one, the weights untouched.
//
// Rows are grouped by adapter, so A and B are read once for all rows that share them. A x is the float kernel's
// product; for B, whose rows are short, the sums go along the outputs, as attention blends its values.
// Either gives a row the same bits whoever is beside it.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "../include/gemstead.h"
#include "model.h"

namespace gs {
namespace {

constexpr int kMaxRank = 4096;
constexpr int kTileRows = 32;  // whose results for a strip are held at a time: 8 KiB

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

Term strips_of(const gs_term& given) {
    constexpr int kOut = Term::kStripOut;
    const int64_t rank = given.a.rows, out = given.b.rows;
    Term term{given.a, given.scale, std::vector<float>(static_cast<size_t>((out + kOut - 1) / kOut * kOut * rank))};
    std::vector<float> row(static_cast<size_t>(rank));
    const int64_t row_bytes = rank * file_format(given.b.format).bytes;
    for (int64_t r = 0; r < out; ++r) {
        unpack_row(given.b.format, static_cast<const uint8_t*>(given.b.data) + r * row_bytes, rank, row.data());
        float* strip = term.b.data() + r / kOut * kOut * rank + r % kOut;
        for (int64_t k = 0; k < rank; ++k) strip[k * kOut] = row[static_cast<size_t>(k)];
    }
    return term;
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
        if (!adapter.emplace(linear, strips_of(term)).second) return "an adapter adds to a linear twice";
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

void Model::add_term(const Term& term, Input& x, const std::vector<int>& rows, float* y, int64_t stride,
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

    constexpr int kOut = Term::kStripOut;
    const int64_t begin = first / kOut, end = (last + kOut - 1) / kOut;
    const int64_t group = units_per_chunk(end - begin, static_cast<int64_t>(kOut) * rank * count, threads_.count());
    threads_.run(static_cast<int>((end - begin + group - 1) / group), [&](int chunk, int) noexcept {
        float tile[kTileRows * kOut];
        const int64_t from = begin + chunk * group;
        for (int64_t s = from; s < std::min(end, from + group); ++s) {
            const int64_t r0 = std::max(first, s * kOut), r1 = std::min(last, (s + 1) * kOut);
            for (int t = 0; t < count; t += kTileRows) {
                const int tokens = std::min(kTileRows, count - t);
                std::fill(tile, tile + tokens * kOut, 0.0f);
                attention_.blend(low + static_cast<int64_t>(t) * rank, rank, tokens, kOut, term.b.data() + s * rank * kOut, kOut,
                                 rank, tile);
                for (int i = 0; i < tokens; ++i) {
                    float* to = y + rows[static_cast<size_t>(t + i)] * stride - first;
                    for (int64_t r = r0; r < r1; ++r) to[r] += tile[i * kOut + r - s * kOut];
                }
            }
        }
    });
}

}  // namespace gs
