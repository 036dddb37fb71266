// A model and one forward over a batch: the straight line of docs/MODEL.md in C++.
//
// Rows (tokens) of several sequences go through the layers together; every product and sum is over one
// row alone and in a fixed order, so a row's result does not depend on who else is in the batch, on how
// a prompt was cut, or on the number of threads.
#pragma once

#include <unordered_map>
#include <vector>

#include "../kernels/attention/attention.h"
#include "../kernels/rows/rows.h"
#include "kv.h"
#include "linear.h"

namespace gs {

// Rows start..stop-1 belong to this sequence.
struct Span {
    const gs_sequence* sequence;
    int start;
    int stop;
};

// The rows of one adapter, ascending.
struct AdapterRows {
    int adapter;  // from 1
    std::vector<int> rows;
};

// The rows a forward works on.
struct Rows {
    std::vector<int> position;
    std::vector<Span> spans;
    std::vector<AdapterRows> adapted;

    int count() const noexcept { return static_cast<int>(position.size()); }
    static Rows of(const gs_batch& batch);
    // Only the given rows (ascending), renumbered from 0.
    Rows keep(const int32_t* rows, int count) const;

private:
    void group();
};

// One term of an adapter. b: strips of kStripOut outputs, [rank][kStripOut] each, the last filled up with zeros.
struct Term {
    static constexpr int kStripOut = 64;
    gs_matrix a;
    float scale;
    std::vector<float> b;
};

// The terms of one adapter by the matrix they add to, which lies in a Model.
using Adapter = std::unordered_map<const gs_matrix*, Term>;

// cos and sin of every row's angles for one kind of attention: [rows][pairs] each.
struct Turn {
    const float* rope;
    int pairs;
    std::vector<float> cosine, sine;
};

// What the layers work with besides the residual.
struct Context {
    Rows rows;
    std::vector<Turn> turns;
    const float* per_layer = nullptr;  // [rows][layers.. of this context][per_layer_width]
    int first_layer = 0;
    int num_layers = 0;
};

class Model {
public:
    Model(const gs_spec& spec, const gs_layer* layers, Threads& threads);

    const gs_spec& spec() const noexcept { return spec_; }
    const gs_layer* layers() const noexcept { return layers_.data(); }
    int num_adapters() const noexcept { return static_cast<int>(adapters_.size()); }
    // What is wrong with the terms, or nullptr.
    const char* add_adapter(const gs_term* terms, int count);
    // Arguments have been checked by the ABI. logits and hidden may be null. Throws std::bad_alloc only.
    void forward(Cache& cache, const gs_batch& batch, float* logits, float* hidden);
    // Memory held for what is between the layers: as much as the largest batch so far took.
    int64_t work_bytes() const noexcept;

private:
    friend class Drafter;  // the same layers over another model's K/V

    template <class Each>
    void each_row(int rows, Each&& each);
    void turn_rows(Context& context) const;
    void embed(const int32_t* ids, int rows, float* out);
    void per_layer_inputs(const int32_t* ids, const float* embedding, Context& context);
    void write_kv(const gs_layer& layer, Input& h, const Context& context, Cache& cache);
    void decoder_layer(const gs_layer& layer, int index, float* x, Input& h, Context& context, const Cache& cache);
    void queries(const gs_layer& layer, Input& h, const Context& context, bool mixed, float* q);
    void attend(const gs_layer& layer, const float* q, const Context& context, const Cache& cache, float* out);
    void feed_forward(const gs_layer& layer, const float* x, const Rows& rows, float* y);
    void experts(const gs_layer& layer, const float* x, const Rows& rows, float* y);
    const float* answer_of(const gs_layer& layer, const std::vector<Part>& parts);
    // linear(), and for each row the term of its adapter.
    void project(const gs_matrix& w, Input& x, const Rows& rows, float* y) {
        project(w, x, rows, y, w.rows, 0, w.rows);
    }
    void project(const gs_matrix& w, Input& x, const Rows& rows, float* y, int64_t stride, int64_t first, int64_t last);
    void add_term(const Term& term, Input& x, const std::vector<int>& rows, float* y, int64_t stride, int64_t first,
                  int64_t last);
    void norm_rows(const float* x, const float* weight, int rows, int width, float* out);
    void add_normed(float* x, float* y, const float* weight, int rows);
    void cap(float* logits, int rows);

    gs_spec spec_;
    std::vector<gs_layer> layers_;
    Threads& threads_;
    RowKernels rows_;
    AttentionKernels attention_;
    KvKernels kv_;
    std::vector<Adapter> adapters_;
    Input hidden_in_, attention_in_, inner_in_, expert_in_, adapter_in_;
    Scratch<float> x_, h_, q_, k_, v_, y_, blended_, gate_, up_, kept_, table_, context_;
    Scratch<float> partials_, routed_, answers_, gathered_, low_;
};

// The rotation of one head's values in place: pairs (i, i + dim/2) for i < pairs.
void rotate(float* head, int dim, const float* cosine, const float* sine, int pairs) noexcept;
const Turn& turn_of(const Context& context, const gs_layer& layer) noexcept;

template <class Each>
void Model::each_row(int rows, Each&& each) {
    const int group = rows < 4 * threads_.count() ? 1 : rows / (4 * threads_.count());
    threads_.run((rows + group - 1) / group, [&](int chunk, int) noexcept {
        for (int t = chunk * group; t < rows && t < (chunk + 1) * group; ++t) each(t);
    });
}

}  // namespace gs
