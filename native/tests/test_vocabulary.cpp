// A vocabulary read from bytes, whole and damaged: the right ids, and never a byte outside of what was given.
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../src/vocabulary.h"

namespace {

using Bytes = std::vector<uint8_t>;

void put(Bytes& to, const std::string& text) {
    const uint64_t size = text.size();
    const auto* length = reinterpret_cast<const uint8_t*>(&size);
    to.insert(to.end(), length, length + 8);
    to.insert(to.end(), text.begin(), text.end());
}

// A copy that ends where its memory ends, so that a sanitizer sees a step too far.
struct Exact {
    explicit Exact(const Bytes& from) : size(from.size()), bytes(new uint8_t[from.size()]) {
        if (size) std::memcpy(bytes.get(), from.data(), size);
    }
    gs::Strings strings(int32_t count) const { return {bytes.get(), static_cast<int64_t>(size), count}; }
    size_t size;
    std::unique_ptr<uint8_t[]> bytes;
};

}  // namespace

int main() {
    Bytes tokens, merges, controls;
    std::vector<int32_t> kinds;
    const auto token = [&](const std::string& text, int32_t kind) { put(tokens, text), kinds.push_back(kind); };
    for (int b = 0; b < 256; ++b) {
        char text[8];
        std::snprintf(text, sizeof text, "<0x%02X>", b);
        token(text, 6);
    }
    for (const char* text : {"\xE2\x96\x81", "a", "b", "ab", "aba", "longer than eight bytes", "<turn>"}) token(text, 1);
    put(merges, "a b"), put(merges, "ab a"), put(controls, "<turn>");
    const auto count = static_cast<int32_t>(kinds.size());
    int wrong = 0;
    const Exact t(tokens), m(merges), c(controls);
    const char* fault = "not set";
    const gs::Vocabulary words(t.strings(count), kinds.data(), m.strings(2), c.strings(1), fault);
    wrong += fault != nullptr || words.kinds().back() != 3 || words.find("longer than eight bytes") != 261;
    const std::string text = "abab a\xC3\xA9";
    std::vector<int32_t> ids(text.size());
    ids.resize(static_cast<size_t>(words.encode(text, ids.data())));
    wrong += ids != std::vector<int32_t>{259, 259, 256, 257, 0xC3, 0xA9};

    std::mt19937 random(1);
    int refused = 0;
    for (int i = 0; i < 3000; ++i) {
        Bytes damaged[2] = {tokens, merges};
        for (Bytes& one : damaged) {
            if (random() % 3 == 0) one.resize(random() % (one.size() + 1));
            for (unsigned n = random() % 4; n && !one.empty(); --n) one[random() % one.size()] = static_cast<uint8_t>(random());
        }
        const Exact dt(damaged[0]), dm(damaged[1]);
        const gs::Vocabulary some(dt.strings(count), kinds.data(), dm.strings(2), c.strings(1), fault);
        refused += fault != nullptr;
        if (!fault) {
            std::vector<int32_t> found(64);
            const std::string said = "ab aba \xF0\x9F\x98";  // ends in the middle of a character
            const int32_t n = some.encode(said, found.data());
            wrong += n < 1 || n > static_cast<int32_t>(said.size() + 6);
        }
    }
    wrong += refused == 0 || refused == 3000;
    std::printf(wrong ? "vocabulary: %d wrong\n" : "vocabulary     cut as told, damage refused\n", wrong);
    return wrong != 0;
}
