// The feed-forward half of a layer: the gated MLP, and beside it the experts of an MoE layer.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "model.h"

namespace gs {

// The output before its post norm, y [rows][D], from the residual x.
void Model::feed_forward(const gs_layer& layer, const float* x, const Rows& all, float* y) {
    const int width = spec_.hidden_size, inner = layer.intermediate_size, rows = all.count();
    float* h = h_.get(static_cast<int64_t>(rows) * width);
    norm_rows(x, layer.pre_feedforward_norm, rows, width, h);
    hidden_in_.set(h, rows, width);
    float *gate = gate_.get(static_cast<int64_t>(rows) * inner), *up = up_.get(static_cast<int64_t>(rows) * inner);
    project(layer.gate_proj, hidden_in_, all, gate);
    project(layer.up_proj, hidden_in_, all, up);
    each_row(rows, [&](int t) noexcept {
        rows_.gelu_mul(gate + static_cast<int64_t>(t) * inner, up + static_cast<int64_t>(t) * inner, inner);
    });
    inner_in_.set(gate, rows, inner);
    project(layer.down_proj, inner_in_, all, y);
    if (!layer.num_experts) return;
    // The dense MLP is the expert everybody gets; the routed ones look at the residual themselves.
    norm_rows(y, layer.post_feedforward_norm_1, rows, width, y);
    float* routed = answers_.get(static_cast<int64_t>(rows) * width);
    experts(layer, x, all, routed);
    add_normed(y, routed, layer.post_feedforward_norm_2, rows);
}

namespace {

constexpr size_t kPicksAtOnce = 256;  // rows of experts whose inputs and answers are held together

struct Pick {
    int expert;
    int row;
    float weight;
};

// The top_k experts of one row by share (ties to the lower), weights adding up to 1 before their scales.
void pick_experts(const gs_layer& layer, float* score, int row, Pick* picks) noexcept {
    const int experts = layer.num_experts, wanted = layer.top_k_experts;
    const float peak = *std::max_element(score, score + experts);
    float total = 0, chosen = 0;
    for (int e = 0; e < experts; ++e) total += score[e] = std::exp(score[e] - peak);
    for (int e = 0; e < experts; ++e) score[e] /= total;
    constexpr float kTaken = -1;
    for (int i = 0; i < wanted; ++i) {
        int best = -1;  // NaN, which damaged weights give, is never greater, but it is taken once only
        for (int e = 0; e < experts; ++e)
            if (score[e] != kTaken && (best < 0 || score[e] > score[best])) best = e;
        chosen += score[best];
        picks[i] = {best, row, score[best]};
        score[best] = kTaken;
    }
    for (int i = 0; i < wanted; ++i) picks[i].weight = picks[i].weight / chosen * layer.per_expert_scale[picks[i].expert];
}

}  // namespace

// The weighted sum of each row's experts, y [rows][D].
void Model::experts(const gs_layer& layer, const float* x, const Rows& all, float* y) {
    const int width = spec_.hidden_size, rows = all.count();
    float* h = h_.get(static_cast<int64_t>(rows) * width);
    const auto down = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
    each_row(rows, [&](int t) noexcept {
        float* own = h + static_cast<int64_t>(t) * width;
        rows_.norm(x + static_cast<int64_t>(t) * width, layer.router_scale, spec_.rms_norm_eps, width, own);
        for (int i = 0; i < width; ++i) own[i] *= down;
    });
    hidden_in_.set(h, rows, width);
    float* score = routed_.get(static_cast<int64_t>(rows) * layer.num_experts);
    project(layer.router, hidden_in_, all, score);
    const int wanted = layer.top_k_experts;
    std::vector<Pick> picks(static_cast<size_t>(rows) * static_cast<size_t>(wanted));
    each_row(rows, [&](int t) noexcept {
        pick_experts(layer, score + static_cast<int64_t>(t) * layer.num_experts, t, &picks[static_cast<size_t>(t) * wanted]);
    });
    // Experts ascending: a row adds its own in the same order in any batch.
    std::stable_sort(picks.begin(), picks.end(), [](const Pick& a, const Pick& b) { return a.expert < b.expert; });
    norm_rows(x, layer.pre_feedforward_norm_2, rows, width, h);
    std::fill(y, y + static_cast<int64_t>(rows) * width, 0.0f);
    for (size_t begin = 0, end = 0; begin < picks.size(); begin = end) {
        std::vector<Part> parts;
        std::vector<int> from;
        while (end < picks.size()) {  // one expert more, as long as few rows are at work
            size_t next = end;
            while (next < picks.size() && picks[next].expert == picks[end].expert) ++next;
            if (end > begin && next - begin > kPicksAtOnce) break;
            parts.push_back({picks[end].expert, static_cast<int>(end - begin), static_cast<int>(next - begin)});
            for (; end < next; ++end) from.push_back(picks[end].row);
        }
        expert_in_.gather(h, from.data(), parts, width);
        const float* answer = answer_of(layer, parts);
        // A row adds its experts in ascending order; few rows are shared out by columns.
        const int pieces = 4 * threads_.count(), by_rows = std::min(rows, pieces), by_columns = pieces / by_rows;
        const int group = (rows + by_rows - 1) / by_rows, columns = (width + by_columns - 1) / by_columns;
        threads_.run(by_rows * by_columns, [&](int piece, int) noexcept {
            const int row = piece / by_columns * group;
            const int first = piece % by_columns * columns, last = std::min(width, first + columns);
            for (size_t i = begin; i < end; ++i) {
                if (picks[i].row < row || picks[i].row >= row + group) continue;
                float* to = y + static_cast<int64_t>(picks[i].row) * width;
                const float* own = answer + static_cast<int64_t>(i - begin) * width;
                for (int d = first; d < last; ++d) to[d] += picks[i].weight * own[d];
            }
        });
    }
}

// What the experts of the parts of expert_in_ answer, [rows][D].
const float* Model::answer_of(const gs_layer& layer, const std::vector<Part>& parts) {
    const int width = spec_.hidden_size, inner = layer.expert_size, count = parts.back().end;
    float* pair = up_.get(static_cast<int64_t>(count) * 2 * inner);
    linear(threads_, layer.expert_gate_up, expert_in_, pair, 2 * inner, 0, 2 * inner);
    float* gate = gate_.get(static_cast<int64_t>(count) * inner);
    each_row(count, [&](int t) noexcept {
        const float* from = pair + static_cast<int64_t>(t) * 2 * inner;
        float* to = gate + static_cast<int64_t>(t) * inner;
        std::memcpy(to, from, sizeof(float) * static_cast<size_t>(inner));
        rows_.gelu_mul(to, from + inner, inner);
    });
    inner_in_.set(gate, parts, inner);
    float* answer = q_.get(static_cast<int64_t>(count) * width);
    linear(threads_, layer.expert_down, inner_in_, answer, width, 0, width);
    return answer;
}

}  // namespace gs
