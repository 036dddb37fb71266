// A token chosen from a row, over rows of every length and with everything set at once: an allowed one, the one wanted,
// and never a byte outside of what was given.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "../src/choose.h"

namespace {

std::mt19937 random_bits(1);

float uniform() { return std::uniform_real_distribution<float>(0, 1)(random_bits); }

// A copy that ends where its memory ends, so that a sanitizer sees a step too far.
template <class T>
std::unique_ptr<T[]> exact(const std::vector<T>& from) {
    std::unique_ptr<T[]> copy(new T[from.size()]);
    std::copy(from.begin(), from.end(), copy.get());
    return copy;
}

struct Case {
    explicit Case(int size) : row(static_cast<size_t>(size)), words(static_cast<size_t>(size + 31) / 32) {
        for (float& v : row) v = uniform() < 0.1f ? -INFINITY : std::round(uniform() * 40) / 4;
        for (uint32_t& word : words) word = static_cast<uint32_t>(random_bits());
        const int sure = static_cast<int>(random_bits() % row.size());
        row[static_cast<size_t>(sure)] = 3, words[static_cast<size_t>(sure) / 32] |= 1u << sure % 32;
        for (int i = 0; i < 3; ++i) {
            ids.push_back(static_cast<int32_t>(random_bits() % row.size()));
            counts.push_back(i), biases.push_back(uniform() - 0.5f);
        }
    }
    bool allowed(int id) const { return words[static_cast<size_t>(id) / 32] >> id % 32 & 1; }
    std::vector<float> row, biases;
    std::vector<uint32_t> words;
    std::vector<int32_t> ids, counts;
};

// 1 where the chosen token is none that could be.
int try_one(int size, int round) {
    const Case c(size);
    const auto row = exact(c.row), biases = exact(c.biases);
    const auto words = exact(c.words);
    const auto ids = exact(c.ids), counts = exact(c.counts);
    const std::unique_ptr<float[]> work(new float[2 * c.row.size() + 1]);
    gs_choice choice{};
    choice.row = row.get(), choice.vocab_size = size, choice.u = static_cast<double>(uniform());
    choice.temperature = round % 4 ? 0.5f : 0, choice.repetition = 1, choice.top_p = round % 3 ? 0.8f : 1;
    choice.top_k = round % 2 ? 0 : 1 + round % 70, choice.min_p = round % 5 ? 0 : 0.1f, choice.top = std::min(round % 9, size);
    if (round % 7) choice.allowed = words.get();
    if (round % 11 == 0) choice.seen = ids.get(), choice.counts = counts.get(), choice.num_seen = 3, choice.repetition = 1.3f;
    if (round % 13 == 0) choice.biased = ids.get(), choice.biases = biases.get(), choice.num_biased = 3;
    std::vector<int32_t> found(1 + static_cast<size_t>(choice.top));
    std::vector<double> logprobs(found.size());
    const auto out = exact(found);
    const auto told = exact(logprobs);
    if (gs::choose(choice, work.get(), out.get(), told.get())) return 1;
    const int token = out[0];
    if (token < 0 || token >= size || c.row[static_cast<size_t>(token)] == -INFINITY) return 1;
    if (choice.allowed && !c.allowed(token)) return 1;
    if (choice.temperature == 0 && !choice.num_seen && !choice.num_biased)
        for (int i = 0; i < size; ++i)
            if ((!choice.allowed || c.allowed(i)) && c.row[static_cast<size_t>(i)] > c.row[static_cast<size_t>(token)]) return 1;
    for (int i = 1; i < choice.top; ++i)
        if (told[static_cast<size_t>(i)] < told[static_cast<size_t>(i) + 1] || told[0] > told[1] + 1e-9) return 1;
    return 0;
}

}  // namespace

int main() {
    int wrong = 0;
    for (int round = 0; round < 4000; ++round) wrong += try_one(1 + static_cast<int>(random_bits() % (round % 10 ? 700 : 9000)), round);
    float row[3] = {1, NAN, 2}, work[7];
    gs_choice choice{};
    int32_t id;
    choice.row = row, choice.vocab_size = 3;
    wrong += !gs::choose(choice, work, &id, nullptr);
    row[1] = INFINITY;
    wrong += !gs::choose(choice, work, &id, nullptr);
    std::printf("a token chosen from 4000 rows, %d wrong\n", wrong);
    return wrong ? 1 : 0;
}
