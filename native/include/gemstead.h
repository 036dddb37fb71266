/* The C ABI of the native engine: open a model, make a cache, run forwards; open a vocabulary, encode text.
 *
 * Every function returns a gs_status; on anything but GS_OK, gs_last_error() has a sentence for this
 * thread. No exception, abort, exit or print crosses this line. Memory passed in stays the caller's and
 * must outlive the model. One forward at a time per model; the structs are in layout.h (generated).
 */
#ifndef GEMSTEAD_H
#define GEMSTEAD_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"

#ifdef __cplusplus
extern "C" {
#define GS_NOEXCEPT noexcept
#else
#define GS_NOEXCEPT
#endif

typedef struct gs_model gs_model; /* weights by reference, threads, scratch memory */
typedef struct gs_cache gs_cache; /* K/V pages */
typedef struct gs_vocabulary gs_vocabulary; /* tokens and merges */

typedef enum {
    GS_OK = 0,
    GS_BAD_ARGUMENT = 1, /* what was passed in contradicts itself */
    GS_NO_MEMORY = 2,
    GS_INTERNAL = 3
} gs_status;

/* The last failure of this thread; valid until its next call. Never NULL. */
const char* gs_last_error(void) GS_NOEXCEPT;

/* sizeof every struct of layout.h, summed: the caller's view must agree with this build's. */
int32_t gs_layout_bytes(void) GS_NOEXCEPT;

/* The instruction set in use: "avx2", "scalar", ...; GEMSTEAD_ISA forces one. gs_open refuses the name of one
 * that the machine does not run. */
const char* gs_isa(void) GS_NOEXCEPT;

/* Bytes of `rows` x `columns` values of ggml type `format` in the order the kernels read them,
 * 0 where that format is read as it lies in the file. */
int64_t gs_packed_bytes(int32_t format, int64_t rows, int64_t columns) GS_NOEXCEPT;

/* Reorder a matrix into `target` (gs_packed_bytes long, 64-byte aligned). Values stay bit for bit. */
gs_status gs_pack(int32_t format, const void* source, int64_t rows, int64_t columns,
                  void* target) GS_NOEXCEPT;

/* y [tokens, rows] = x [tokens, columns] by a matrix of gs_pack (of plain numbers: as it lies in a file), `times`
 * over on `threads` threads: what the kernels reach on this machine, without a model. */
gs_status gs_multiply(int32_t format, const void* matrix, int64_t rows, int64_t columns, const float* x,
                      int32_t tokens, int32_t threads, int32_t times, float* y) GS_NOEXCEPT;

/* int8 products added up `rounds` times a thread in registers alone, as the instruction set in use does best:
 * `products` of them. What gs_multiply is held against. */
gs_status gs_peak(int32_t threads, int64_t rounds, int64_t* products) GS_NOEXCEPT;

/* One row of a table of ggml type `format` as float32. */
gs_status gs_unpack_row(int32_t format, const void* row, int64_t columns, float* out) GS_NOEXCEPT;

/* A model of `spec` with num_layers layers; threads >= 1 counts the calling one. */
gs_status gs_open(const gs_spec* spec, const gs_layer* layers, int32_t threads,
                  gs_model** out) GS_NOEXCEPT;

/* Memory the model holds for work, beside weights and K/V: what its largest forward so far took. */
int64_t gs_work_bytes(const gs_model* model) GS_NOEXCEPT;

/* A drafter for the model: layers that read its K/V; opened once, closed with it. */
gs_status gs_add_drafter(gs_model* model, const gs_drafter* drafter, const gs_layer* layers) GS_NOEXCEPT;

/* The next adapter of the model: the rows of a sequence that names it (1 for the first) get its terms added.
 * Matrices are f32, f16 or bf16 as in a file; of b a copy is made. GS_PER_LAYER_MODEL_PROJECTION belongs to no
 * layer: layer 0. */
enum {
    GS_Q_PROJ, GS_K_PROJ, GS_V_PROJ, GS_O_PROJ, GS_GATE_PROJ, GS_UP_PROJ, GS_DOWN_PROJ, GS_ROUTER,
    GS_PER_LAYER_INPUT_GATE, GS_PER_LAYER_PROJECTION, GS_PER_LAYER_MODEL_PROJECTION
};
gs_status gs_add_adapter(gs_model* model, const gs_term* terms, int32_t count) GS_NOEXCEPT;

/* Memory for pages[p] pages of page_tokens tokens in each page pool p of the spec; format: GS_KV_... The model
 * must outlive it. */
enum { GS_KV_F16 = 0, GS_KV_Q8_0 = 1 };
gs_status gs_new_cache(const gs_model* model, const int32_t* pages, int32_t page_tokens, int32_t format,
                       gs_cache** out) GS_NOEXCEPT;

int64_t gs_cache_bytes(const gs_cache* cache) GS_NOEXCEPT;

/* One page of a pool, all that is kept of its layers, out of the cache and back into one of equal shape. */
int64_t gs_page_bytes(const gs_cache* cache, int32_t pool) GS_NOEXCEPT;
gs_status gs_read_page(const gs_cache* cache, int32_t pool, int32_t page, void* out) GS_NOEXCEPT;
gs_status gs_write_page(gs_cache* cache, int32_t pool, int32_t page, const void* data) GS_NOEXCEPT;

/* Write the K/V of all rows; each unless NULL: logits [num_logit_rows, vocab_size] float32 after the softcap, hidden
 * [num_logit_rows, hidden_size] after the final norm. */
gs_status gs_forward(gs_model* model, gs_cache* cache, const gs_batch* batch, float* logits,
                     float* hidden) GS_NOEXCEPT;

/* One draft step: one row a sequence, its position that of the last token in the cache. given and next
 * [rows, hidden_size of the model]: the state a row starts from and the one for its next step. */
gs_status gs_draft(gs_model* model, const gs_cache* cache, const gs_batch* batch, const float* given,
                   float* logits, float* next) GS_NOEXCEPT;

/* One token of a row of logits: ids[0]. Unless logprobs is NULL, ids[1..top] are the best by the row itself, greatest
 * first, and logprobs[0..top] their log-probabilities. work [2 * vocab_size + 1] is written over. */
gs_status gs_choose(const gs_choice* choice, float* work, int32_t* ids, double* logprobs) GS_NOEXCEPT;

/* A vocabulary of Gemma's kind. kinds [tokens.count]: GGUF token types, and on return those that count (a plain
 * token that is one of `controls` is a control token); starts [tokens.count]: where each token's bytes begin in
 * tokens.data, which must outlive the vocabulary. */
gs_status gs_new_vocabulary(gs_strings tokens, gs_strings merges, gs_strings controls, int32_t* kinds,
                            int64_t* starts, gs_vocabulary** out) GS_NOEXCEPT;

/* The ids of UTF-8 text, no special tokens among them: `ids` has room for one a byte, `count` says how many. */
gs_status gs_encode(const gs_vocabulary* vocabulary, const char* text, int64_t bytes, int32_t* ids,
                    int32_t* count) GS_NOEXCEPT;

/* The id of a token of that spelling, special ones included; -1 without. */
int32_t gs_token(const gs_vocabulary* vocabulary, const char* piece, int64_t bytes) GS_NOEXCEPT;

void gs_close_vocabulary(gs_vocabulary* vocabulary) GS_NOEXCEPT;
void gs_close_cache(gs_cache* cache) GS_NOEXCEPT;
void gs_close(gs_model* model) GS_NOEXCEPT;

#ifdef __cplusplus
}
#endif
#endif
