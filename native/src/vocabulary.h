// Text to token ids as Gemma does it: characters, merged pair by pair in order of rank, bytes where nothing fits.
//
// Stands for what the Python package `tokenizers` does with the same vocabulary (tests hold both against each
// other), in a tenth of its time to open: a quarter million tokens and half a million merges are hashed once,
// and the tokens' bytes stay where the caller keeps them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace gs {

// `count` strings, each a length in eight bytes (little endian) and its bytes, as a GGUF holds them.
struct Strings {
    const uint8_t* data;
    int64_t bytes;
    int32_t count;
};

class Vocabulary {
public:
    // kinds [tokens.count]: the GGUF's token types. A plain token that is one of `controls` counts as control.
    // Sets `fault` to what is wrong, else to nullptr; a vocabulary with a fault must not be used.
    Vocabulary(Strings tokens, const int32_t* kinds, Strings merges, Strings controls, const char*& fault);

    int32_t count() const noexcept { return static_cast<int32_t>(tokens_.size()); }
    // The kind of each token once controls are known, and where its bytes begin behind tokens.data.
    const std::vector<int32_t>& kinds() const noexcept { return kinds_; }
    int64_t start(int32_t id) const noexcept { return tokens_[static_cast<size_t>(id)].data() - base_; }
    // The id of a token spelled so, special ones included; -1 without.
    int32_t find(std::string_view piece) const noexcept;
    // The ids of UTF-8 text without special tokens, a space being U+2581; at most one a byte, into `out`.
    int32_t encode(std::string_view text, int32_t* out) const;

private:
    struct Slot {  // a token; most are found without a look at their bytes elsewhere
        uint64_t word;  // its first eight bytes
        int32_t size;   // of all, 0 where the slot is empty
        int32_t id;
    };
    struct Merge {
        uint64_t pair;  // left << 32 | right, kNone where the slot is empty
        int32_t rank;
        int32_t merged;
    };

    const char* read_tokens(Strings tokens, const int32_t* kinds);
    const char* read_merges(Strings merges);
    const char* mark_controls(Strings controls);
    bool insert(int32_t id) noexcept;
    int32_t find(std::string_view piece, uint64_t hash) const noexcept;
    size_t slot_of(uint64_t pair) const noexcept;
    const Merge* merge_of(int32_t left, int32_t right) const noexcept;
    int32_t plain(std::string_view piece) const noexcept;

    const char* base_;
    uint64_t seed_;
    std::vector<std::string_view> tokens_;
    std::vector<int32_t> kinds_;
    std::vector<Slot> slots_;    // a hash table
    std::vector<Merge> merges_;  // likewise
    int32_t bytes_[256];
};

}  // namespace gs
