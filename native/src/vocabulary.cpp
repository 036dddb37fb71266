// See vocabulary.h. A vocabulary comes from a file that may be hostile: the hashes are seeded anew in each process,
// and every length is checked before it is followed.
#include "vocabulary.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <queue>
#include <random>
#include <string>

namespace gs {
namespace {

enum Kind : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
constexpr uint64_t kNone = ~0ull;
constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581
constexpr size_t kLongest = 4096;                    // bytes of a token

bool is_special(int32_t kind) noexcept { return kind == kUnknown || kind == kControl || kind == kUserDefined; }
bool is_text(int32_t kind) noexcept { return kind == kNormal || kind == kUnused; }

uint64_t mix(uint64_t x) noexcept {
    x *= 0x9E3779B97F4A7C15ull;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93ull;
    return x ^ x >> 32;
}

uint64_t word_at(std::string_view text, size_t at) noexcept {
    uint64_t word = 0;
    std::memcpy(&word, text.data() + at, std::min<size_t>(8, text.size() - at));
    return word;
}

uint64_t hash_of(std::string_view text, uint64_t seed) noexcept {
    uint64_t found = seed ^ text.size();
    for (size_t at = 0; at < text.size(); at += 8) found = mix(found ^ word_at(text, at));
    return mix(found);
}

// At least twice `count`, a power of two.
size_t table_size(int32_t count) noexcept {
    size_t size = 16;
    while (size < 2 * static_cast<size_t>(count)) size *= 2;
    return size;
}

// Each string in turn; false where a length leads out of the array or bytes are left over.
template <class Each>
bool each_string(Strings strings, Each&& each) {
    int64_t at = 0;
    for (int32_t i = 0; i < strings.count; ++i) {
        uint64_t length;
        if (strings.bytes - at < 8) return false;
        std::memcpy(&length, strings.data + at, 8);
        at += 8;
        if (length > static_cast<uint64_t>(strings.bytes - at)) return false;
        if (!each(i, std::string_view(reinterpret_cast<const char*>(strings.data) + at, static_cast<size_t>(length))))
            return false;
        at += static_cast<int64_t>(length);
    }
    return at == strings.bytes;
}

// The byte that "<0x0A>" stands for, -1 for another spelling.
int byte_of(std::string_view piece) noexcept {
    if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
    int value = 0;
    for (const char c : piece.substr(3, 2)) {
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        value = 16 * value + digit;
    }
    return value;
}

size_t character_bytes(char first) noexcept {
    const auto byte = static_cast<unsigned char>(first);
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// A token of a text being merged; neighbours by index, -1 at the ends. id -1: merged into the one before.
struct Symbol {
    int32_t id, before, after;
};

struct Candidate {
    int32_t rank, at, merged;
    bool operator<(const Candidate& other) const noexcept {  // the top of a heap: lowest rank, then leftmost
        return rank != other.rank ? rank > other.rank : at > other.at;
    }
};

}  // namespace

Vocabulary::Vocabulary(Strings tokens, const int32_t* kinds, Strings merges, Strings controls, const char*& fault)
    : base_(reinterpret_cast<const char*>(tokens.data)) {
    std::random_device random;
    seed_ = static_cast<uint64_t>(random()) << 32 | random();
    std::fill(std::begin(bytes_), std::end(bytes_), -1);
    fault = read_tokens(tokens, kinds);
    if (!fault) fault = mark_controls(controls);
    if (!fault) fault = read_merges(merges);
}

bool Vocabulary::insert(int32_t id) noexcept {
    const std::string_view piece = tokens_[static_cast<size_t>(id)];
    const uint64_t hash = hash_of(piece, seed_);
    if (find(piece, hash) >= 0) return false;
    size_t slot = hash & (slots_.size() - 1);
    while (slots_[slot].size) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = {word_at(piece, 0), static_cast<int32_t>(piece.size()), id};
    return true;
}

const char* Vocabulary::read_tokens(Strings tokens, const int32_t* kinds) {
    if (tokens.count < 1) return "there are no tokens";
    tokens_.resize(static_cast<size_t>(tokens.count));
    kinds_.assign(kinds, kinds + tokens.count);
    slots_.assign(table_size(tokens.count), Slot{0, 0, -1});
    const bool whole = each_string(tokens, [&](int32_t id, std::string_view piece) {
        tokens_[static_cast<size_t>(id)] = piece;
        const int32_t kind = kinds[id];
        if (kind < kNormal || kind > kByte || piece.size() > kLongest) return false;
        if (kind == kByte) {
            const int byte = byte_of(piece);
            if (byte < 0) return false;
            bytes_[byte] = id;
        }
        return piece.empty() || insert(id);
    });
    if (!whole) return "a token is damaged, too long, there twice, or of a kind nobody knows";
    if (*std::min_element(std::begin(bytes_), std::end(bytes_)) < 0) return "a byte has no token";
    const int32_t space = find(kSpace);
    return space < 0 || !is_text(kinds_[static_cast<size_t>(space)]) ? "the space has no token" : nullptr;
}

const char* Vocabulary::mark_controls(Strings controls) {
    const bool whole = each_string(controls, [&](int32_t, std::string_view piece) {
        const int32_t id = find(piece);
        if (id >= 0 && is_text(kinds_[static_cast<size_t>(id)])) kinds_[static_cast<size_t>(id)] = kControl;
        return true;
    });
    return whole ? nullptr : "the control tokens are damaged";
}

const char* Vocabulary::read_merges(Strings merges) {
    merges_.assign(table_size(merges.count), Merge{kNone, 0, 0});
    struct Line {  // left and right, and what they make
        std::string_view parts[3];
        std::string joined;
        uint64_t hashes[3];
        uint64_t pair;
        int32_t merged;
    };
    // Nearly every look into the tables misses the caches: some lines at a time, so that the misses overlap.
    std::array<Line, 32> lines;
    size_t held = 0;
    int32_t rank = 0;
    const auto put = [&]() noexcept {
        for (size_t i = 0; i < held; ++i) {
            Line& line = lines[i];
            int32_t ids[3];
            for (int p = 0; p < 3; ++p) {
                ids[p] = line.parts[p].empty() ? -1 : find(line.parts[p], line.hashes[p]);
                if (ids[p] < 0 || !is_text(kinds_[static_cast<size_t>(ids[p])])) return false;
            }
            line.pair = static_cast<uint64_t>(ids[0]) << 32 | static_cast<uint32_t>(ids[1]), line.merged = ids[2];
            __builtin_prefetch(&merges_[mix(line.pair ^ seed_) & (merges_.size() - 1)], 1);
        }
        for (size_t i = 0; i < held; ++i)  // a pair that comes twice: the last rank counts
            merges_[slot_of(lines[i].pair)] = {lines[i].pair, rank++, lines[i].merged};
        held = 0;
        return true;
    };
    const bool whole = each_string(merges, [&](int32_t, std::string_view text) {
        const size_t gap = text.find(' ');
        if (gap == text.npos || text.find(' ', gap + 1) != text.npos || text.size() > kLongest) return false;
        Line& line = lines[held++];
        line.joined.assign(text.substr(0, gap)).append(text.substr(gap + 1));
        line.parts[0] = text.substr(0, gap), line.parts[1] = text.substr(gap + 1), line.parts[2] = line.joined;
        for (int p = 0; p < 3; ++p) {
            line.hashes[p] = hash_of(line.parts[p], seed_);
            __builtin_prefetch(&slots_[line.hashes[p] & (slots_.size() - 1)]);
        }
        return held < lines.size() || put();
    });
    return whole && put() ? nullptr : "a merge does not join two tokens to a third";
}

size_t Vocabulary::slot_of(uint64_t pair) const noexcept {
    size_t slot = mix(pair ^ seed_) & (merges_.size() - 1);
    while (merges_[slot].pair != pair && merges_[slot].pair != kNone) slot = (slot + 1) & (merges_.size() - 1);
    return slot;
}

const Vocabulary::Merge* Vocabulary::merge_of(int32_t left, int32_t right) const noexcept {
    const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
    const Merge& found = merges_[slot_of(pair)];
    return found.pair == pair ? &found : nullptr;
}

int32_t Vocabulary::find(std::string_view piece) const noexcept {
    return piece.empty() ? -1 : find(piece, hash_of(piece, seed_));
}

int32_t Vocabulary::find(std::string_view piece, uint64_t hash) const noexcept {
    const uint64_t word = word_at(piece, 0);
    for (size_t at = hash & (slots_.size() - 1); slots_[at].size; at = (at + 1) & (slots_.size() - 1)) {
        const Slot& slot = slots_[at];
        if (slot.word != word || slot.size != static_cast<int32_t>(piece.size())) continue;
        if (piece.size() <= 8 || tokens_[static_cast<size_t>(slot.id)] == piece) return slot.id;
    }
    return -1;
}

int32_t Vocabulary::plain(std::string_view piece) const noexcept {
    const int32_t id = find(piece);
    return id >= 0 && !is_special(kinds_[static_cast<size_t>(id)]) ? id : -1;
}

int32_t Vocabulary::encode(std::string_view text, int32_t* out) const {
    std::vector<Symbol> symbols;
    symbols.reserve(text.size());
    const auto push = [&](int32_t id) {
        const auto at = static_cast<int32_t>(symbols.size());
        symbols.push_back({id, at - 1, at + 1});
    };
    for (size_t at = 0, size = 0; at < text.size(); at += size) {
        size = std::min(character_bytes(text[at]), text.size() - at);
        const std::string_view character = text[at] == ' ' ? kSpace : text.substr(at, size);
        if (const int32_t id = plain(character); id >= 0) push(id);
        else
            for (const char byte : character) push(bytes_[static_cast<unsigned char>(byte)]);
    }
    if (symbols.empty()) return 0;
    symbols.back().after = -1;
    std::vector<Candidate> held;
    const auto offer = [&](std::vector<Candidate>& to, int32_t at) {
        const Symbol& left = symbols[static_cast<size_t>(at)];
        if (left.after < 0) return;
        if (const Merge* merge = merge_of(left.id, symbols[static_cast<size_t>(left.after)].id))
            to.push_back({merge->rank, at, merge->merged});
    };
    for (int32_t at = 0; at < static_cast<int32_t>(symbols.size()); ++at) offer(held, at);
    std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(held));
    std::vector<Candidate> more;
    while (!queue.empty()) {
        const Candidate best = queue.top();
        queue.pop();
        Symbol& left = symbols[static_cast<size_t>(best.at)];
        if (left.id < 0 || left.after < 0) continue;
        Symbol& right = symbols[static_cast<size_t>(left.after)];
        const Merge* merge = merge_of(left.id, right.id);
        if (!merge || merge->merged != best.merged) continue;  // one of the two has become another token
        left.id = best.merged, left.after = right.after, right.id = -1;
        if (left.after >= 0) symbols[static_cast<size_t>(left.after)].before = best.at;
        more.clear();
        if (left.before >= 0) offer(more, left.before);
        offer(more, best.at);
        for (const Candidate& one : more) queue.push(one);
    }
    int32_t count = 0;
    for (int32_t at = 0; at >= 0; at = symbols[static_cast<size_t>(at)].after) out[count++] = symbols[static_cast<size_t>(at)].id;
    return count;
}

}  // namespace gs
