// See choose.h. A vocabulary is passed in groups: the greatest of each group says where the best are, the
// sum of each group says where a draw falls, so most groups are looked at once.
#include "choose.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "../kernels/rows/rows.h"

namespace gs {
namespace {

constexpr int kGroup = 256;
constexpr float kNever = -INFINITY;

const RowKernels& rows() noexcept {
    static const RowKernels kernels = pick(rows_table(), isa());
    return kernels;
}

// Values in groups, and the greatest of each; NaN where a group has one.
class Row {
public:
    Row(const float* values, int size) : values_(values), size_(size) {
        for (int at = 0; at < size; at += kGroup) peaks_.push_back(rows().peak(values + at, std::min(kGroup, size - at)));
    }
    float peak() const noexcept { return rows().peak(peaks_.data(), static_cast<int>(peaks_.size())); }
    int first_greatest() const noexcept {
        const float peak = this->peak();
        const auto group = std::find(peaks_.begin(), peaks_.end(), peak) - peaks_.begin();
        return static_cast<int>(std::find(values_ + group * kGroup, values_ + size_, peak) - values_);
    }
    // The `count` greatest, greatest first, ties to the lowest.
    std::vector<int> best(int count) const {
        count = std::min(count, size_);
        if (!count) return {};
        const float least = bound(count);
        std::vector<int> found;
        for (size_t group = 0; group < peaks_.size(); ++group) {
            if (peaks_[group] < least) continue;
            const int from = static_cast<int>(group) * kGroup, to = std::min(size_, from + kGroup);
            for (int i = from; i < to; ++i)
                if (values_[i] >= least) found.push_back(i);
        }
        std::partial_sort(found.begin(), found.begin() + count, found.end(), [&](int a, int b) noexcept {
            return values_[a] != values_[b] ? values_[a] > values_[b] : a < b;
        });
        found.resize(static_cast<size_t>(count));
        return found;
    }

private:
    // The count-th greatest value or something below it: the count-th greatest peak of enough groups.
    float bound(int count) const {
        int width = kGroup;
        while (width > 1 && size_ / width < 2 * count) width /= 2;
        std::vector<float> peaks;
        if (width == kGroup) peaks = peaks_;
        else if (width == 1) peaks.assign(values_, values_ + size_);
        else for (int at = 0; at < size_; at += width) peaks.push_back(rows().peak(values_ + at, std::min(width, size_ - at)));
        std::nth_element(peaks.begin(), peaks.begin() + count - 1, peaks.end(), std::greater<>());
        return peaks[static_cast<size_t>(count - 1)];
    }
    const float* values_;
    int size_;
    std::vector<float> peaks_;
};

void forbid(const uint32_t* allowed, float* values, int size) noexcept {
    for (int word = 0; word * 32 < size; ++word) {
        if (allowed[word] == ~0u) continue;
        float* at = values + word * 32;
        const int count = std::min(32, size - word * 32);
        for (int i = 0; i < count; ++i)
            if (!(allowed[word] >> i & 1)) at[i] = kNever;
    }
}

// The row with penalties, biases and what is forbidden, in `work`; the row itself where there is nothing of all that.
const float* adjusted(const gs_choice& c, float* work) noexcept {
    if (!c.num_seen && !c.num_biased && !c.num_forbidden && !c.allowed) return c.row;
    float* values = work;
    std::memcpy(values, c.row, sizeof(float) * static_cast<size_t>(c.vocab_size));
    for (int i = 0; i < c.num_seen; ++i) {
        float& value = values[c.seen[i]];
        value = value > 0 ? value / c.repetition : value * c.repetition;
        if (c.counts[i]) value = value - c.presence - c.frequency * static_cast<float>(c.counts[i]);
    }
    for (int i = 0; i < c.num_biased; ++i) values[c.biased[i]] += c.biases[i];
    if (c.allowed) forbid(c.allowed, values, c.vocab_size);
    for (int i = 0; i < c.num_forbidden; ++i) values[c.forbidden[i]] = kNever;
    return values;
}

// The sum of the values that are not below `least`; in lanes, so that the compiler can use registers of them.
double mass_from(const float* values, int64_t size, float least) noexcept {
    double mass = 0;
    for (int64_t from = 0; from < size; from += kGroup) {
        const int64_t to = std::min(size, from + kGroup), whole = from + (to - from) / 16 * 16;
        float lane[16] = {};
        for (int64_t i = from; i < whole; i += 16)
            for (int64_t j = 0; j < 16; ++j) lane[j] += values[i + j] >= least ? values[i + j] : 0;
        for (int64_t i = whole; i < to; ++i) lane[0] += values[i] >= least ? values[i] : 0;
        mass += static_cast<double>(std::accumulate(lane, lane + 16, 0.0f));
    }
    return mass;
}

// Weights of tokens, and their sums by groups.
struct Weights {
    float* at;
    int size;
    std::vector<double> sums;

    double total() const noexcept { return std::accumulate(sums.begin(), sums.end(), 0.0); }
    void add_up() noexcept {
        for (size_t group = 0; group < sums.size(); ++group) {
            const int64_t from = static_cast<int64_t>(group) * kGroup;
            sums[group] = mass_from(at + from, std::min<int64_t>(kGroup, size - from), 0);
        }
    }
    // What is below `least` becomes 0.
    void drop_below(float least) noexcept {
        for (int i = 0; i < size; ++i) at[i] = at[i] < least ? 0 : at[i];
        add_up();
    }
};

// exp((value - peak) / temperature) into `at`, which may be the values themselves.
Weights weigh(const float* values, int size, float peak, float temperature, float* at) {
    Weights weights{at, size, {}};
    for (int from = 0; from < size; from += kGroup) {
        const int count = std::min(kGroup, size - from);
        for (int i = from; i < from + count; ++i) at[i] = (values[i] - peak) / temperature;
        weights.sums.push_back(rows().exp_sum(at + from, count, 0));
    }
    return weights;
}

// Positive numbers are ordered as their bits are.
int32_t bits_of(float number) noexcept { return std::bit_cast<int32_t>(number); }
float number_of(int32_t bits) noexcept { return std::bit_cast<float>(bits); }
constexpr int32_t kAboveOne = 0x3F800001;

// The positive numbers whose bits are in [low, high) to the front; how many those are. No branch: it would be guessed
// wrongly half of the time.
size_t gather(const float* from, size_t size, int32_t low, int32_t high, float* to) noexcept {
    const auto span = static_cast<uint32_t>(high - low);
    size_t count = 0;
    for (size_t i = 0; i < size; ++i) {
        const int32_t bits = bits_of(from[i]);
        to[count] = from[i], count += static_cast<uint32_t>(bits - low) < span;
    }
    return count;
}

// The greatest number, `floor` at least, from which on `count` weights in (0, 1] make `goal` of mass, and the mass above
// it. Leaves of the weights `count`, all that equal it among them.
float least_inside(float* weights, size_t& count, float floor, double goal, double& above) noexcept {
    int32_t low = bits_of(floor), high = kAboveOne;
    double gone = 0;  // mass above what is left
    above = 0;
    for (int step = 1; high - low > 1; ++step) {
        const int32_t middle = low + (high - low) / 2;
        const double mass = gone + mass_from(weights, static_cast<int64_t>(count), number_of(middle));
        if (mass >= goal) low = middle;
        else high = middle, above = mass;
        if (step % 4) continue;
        count = gather(weights, count, low, high, weights);
        gone = above;
    }
    return number_of(low);
}

// Leave the smallest set of greatest weights with `mass` of the sum, ties to the lowest; the others become 0. Works
// in spare [weights.size + 1].
void keep_nucleus(Weights& weights, double mass, float* spare) noexcept {
    const double total = weights.total(), goal = mass * total;
    // What is below this makes less, all together, than the mass left out.
    const auto floor = static_cast<float>((1 - mass) * total / weights.size);
    size_t count = gather(weights.at, static_cast<size_t>(weights.size), bits_of(floor), kAboveOne, spare);
    double above;
    const float least = least_inside(spare, count, floor, goal, above);
    weights.drop_below(least);
    auto ties = std::max<int64_t>(std::llround(std::ceil((goal - above) / static_cast<double>(least))), above > 0 ? 0 : 1);
    if (std::count(spare, spare + count, least) <= ties) return;
    for (int i = 0; i < weights.size; ++i)
        if (weights.at[i] == least && --ties < 0) weights.at[i] = 0;
    weights.add_up();
}

// Where the running sum passes u of the total; never at a weight of 0.
int draw(const Weights& weights, double u) noexcept {
    const double goal = u * weights.total();
    double before = 0, before_last = 0;
    size_t group = 0, last = 0;
    for (; group < weights.sums.size(); ++group) {
        if (weights.sums[group] > 0) last = group, before_last = before;
        if (before + weights.sums[group] > goal) break;
        before += weights.sums[group];
    }
    if (group == weights.sums.size()) group = last, before = before_last;  // u of the total was rounded up to it
    const int from = static_cast<int>(group) * kGroup, to = std::min(weights.size, from + kGroup);
    int found = from;
    for (int i = from; i < to; ++i) {
        if (weights.at[i] > 0) found = i;
        if ((before += static_cast<double>(weights.at[i])) > goal) break;
    }
    return found;
}

int sample(const gs_choice& c, const Row& row, const float* values, float* work) {
    const bool few = c.top_k > 0 && c.top_k < c.vocab_size;
    const std::vector<int> kept = few ? row.best(c.top_k) : std::vector<int>();
    std::vector<float> some(kept.size());
    for (size_t i = 0; i < kept.size(); ++i) some[i] = values[kept[i]];
    Weights weights = few ? weigh(some.data(), c.top_k, some[0], c.temperature, some.data())
                          : weigh(values, c.vocab_size, row.peak(), c.temperature, work);
    if (c.top_p < 1) keep_nucleus(weights, c.top_p, work + c.vocab_size);
    // As in numpy: in float32, for weights are.
    if (c.min_p > 0) weights.drop_below(static_cast<float>(c.min_p) * rows().peak(weights.at, weights.size));
    const int place = draw(weights, c.u);
    return few ? kept[static_cast<size_t>(place)] : place;
}

void tell_logprobs(const gs_choice& c, const Row& row, int32_t* ids, double* logprobs) {
    double sum = 0;
    const float peak = row.peak();
    for (int from = 0; from < c.vocab_size; from += kGroup) {
        float some[kGroup];
        const int count = std::min(kGroup, c.vocab_size - from);
        std::memcpy(some, c.row + from, sizeof(float) * static_cast<size_t>(count));
        sum += static_cast<double>(rows().exp_sum(some, count, peak));
    }
    const double norm = static_cast<double>(peak) + std::log(sum);
    const std::vector<int> best = row.best(c.top);
    std::copy(best.begin(), best.end(), ids + 1);
    for (size_t i = 0; i <= best.size(); ++i) logprobs[i] = static_cast<double>(c.row[ids[i]]) - norm;
}

}  // namespace

const char* choose(const gs_choice& c, float* work, int32_t* ids, double* logprobs) {
    const Row row(c.row, c.vocab_size);
    if (!std::isfinite(row.peak())) return "the model's logits are not numbers (NaN or infinite); its weights may be damaged";
    const float* values = adjusted(c, work);
    const Row own = values == c.row ? row : Row(values, c.vocab_size);
    if (!std::isfinite(own.peak())) return "no token may follow: the constraint and the suppressed ids forbid all of them";
    ids[0] = c.temperature > 0 ? sample(c, own, values, work) : own.first_greatest();
    if (logprobs) tell_logprobs(c, row, ids, logprobs);
    return nullptr;
}

}  // namespace gs
