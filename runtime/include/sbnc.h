/* The C interface of sbnc: run Sparse-BitNet models from any program. Made by cbindgen; do not edit. */

#ifndef SBNC_H
#define SBNC_H

#include <stddef.h>
#include <stdint.h>

// Version of this interface: the upper 16 bits change when a program has to, the lower when something is added.
#define SBNC_ABI_VERSION 65536

// Done.
#define SBNC_OK 0

// The call is wrong.
#define SBNC_USAGE 2

// The file breaks a rule.
#define SBNC_INVALID 3

// Bytes are not those that were written.
#define SBNC_INTEGRITY 4

// This version cannot use the file.
#define SBNC_UNSUPPORTED 5

// The system refused.
#define SBNC_IO 6

// Not enough memory, or not enough room in the caller's buffer.
#define SBNC_MEMORY 7

// The device is absent or cannot be used.
#define SBNC_DEVICE 8

// A fault of the library itself; free what the call was about.
#define SBNC_INTERNAL 70

// The call was interrupted.
#define SBNC_INTERRUPTED 130

// Run where it is fastest.
#define SBNC_DEVICE_AUTO 0

// Run on the processor.
#define SBNC_DEVICE_CPU 1

// Run on the first NVIDIA GPU.
#define SBNC_DEVICE_CUDA 2

// No token.
#define SBNC_NO_TOKEN UINT32_MAX

// A whole text: what begins one is added, special tokens are recognised.
#define SBNC_TEXT_WHOLE 0

// A finished prompt: nothing is added, special tokens are recognised.
#define SBNC_TEXT_PROMPT 1

// Only text: nothing in it becomes a special token.
#define SBNC_TEXT_PLAIN 2

// The model ended the text.
#define SBNC_FINISH_EOS 1

// A stop string appeared.
#define SBNC_FINISH_STOP 2

// As many tokens as were asked for.
#define SBNC_FINISH_LENGTH 3

// The context is full.
#define SBNC_FINISH_CONTEXT 4

// The callback ended it.
#define SBNC_FINISH_CALLBACK 5

// An open model. It may be used from several threads.
typedef struct sbnc_model sbnc_model;

// A sequence of tokens that a model has seen. One call at a time; only `sbnc_session_interrupt` may be called during another.
typedef struct sbnc_session sbnc_session;

// How to open a model. Zeros stand for what is usual.
typedef struct {
  // Size of this struct.
  size_t size;
  // One of `SBNC_DEVICE_…`.
  uint32_t device;
  // Threads that compute; 0 for all.
  uint32_t threads;
  // Not 0: read the file into memory instead of mapping it.
  uint32_t read;
  // Reserved; 0.
  uint32_t reserved;
  // A folder or file to take the tokenizer from, or null.
  const char *tokenizer;
} sbnc_model_options;

// What a model is.
typedef struct {
  // Size of this struct.
  size_t size;
  // Entries of the vocabulary, which is also the number of logits.
  uint64_t vocab;
  // The longest context.
  uint64_t context;
  // Decoder layers.
  uint64_t layers;
  // Width of the residual stream.
  uint64_t hidden;
  // The token that begins a text, or `SBNC_NO_TOKEN`.
  uint32_t bos;
  // The first token that ends a text, or `SBNC_NO_TOKEN`.
  uint32_t eos;
  // 1 if there is a tokenizer that can be used.
  uint32_t has_tokenizer;
  // 1 if there is a chat template.
  uint32_t has_chat_template;
  // The digest that names the file.
  uint8_t root[32];
} sbnc_model_info;

// How large a session is. Zeros stand for what is usual.
typedef struct {
  // Size of this struct.
  size_t size;
  // Most tokens of the sequence; 0 for the model's context, at most 4096.
  uint64_t context;
  // Tokens that are run at a time; 0 for 512.
  uint64_t chunk;
  // Most bytes that the session may take; 0 for no limit.
  uint64_t memory;
} sbnc_session_options;

// How tokens are chosen and when to end; `sbnc_sampling_init` fills in what is usual, which is greedy.
typedef struct {
  // Size of this struct.
  size_t size;
  // Decides all draws.
  uint64_t seed;
  // Most tokens to generate; 0 for as many as fit.
  uint64_t max_tokens;
  // Logits are divided by this; 0 takes the most likely token.
  float temperature;
  // Keep the most likely tokens with this probability together; 1 keeps all.
  float top_p;
  // Keep tokens that are this likely in relation to the most likely one; 0 keeps all.
  float min_p;
  // Divide logits of recent tokens; 1 changes nothing.
  float repeat_penalty;
  // Take this off the logits of recent tokens.
  float presence_penalty;
  // Take this off for each time that they occurred.
  float frequency_penalty;
  // Keep this many of the most likely tokens; 0 keeps all.
  uint32_t top_k;
  // How many tokens are recent.
  uint32_t penalty_window;
  // Not 0: go on after tokens that end a text.
  uint32_t ignore_eos;
  // How many stop strings there are.
  uint32_t stop_count;
  // Strings that end the text before them.
  const char *const *stops;
} sbnc_sampling;

// A message of a conversation.
typedef struct {
  // `system`, `user` or `assistant`.
  const char *role;
  // What is said.
  const char *content;
} sbnc_message;

// A token that was chosen.
typedef struct {
  // Size of this struct.
  size_t size;
  // Text that is now certain, UTF-8 without a zero at its end; valid during the callback.
  const char *text;
  // Its bytes, perhaps none.
  size_t text_length;
  // The token.
  uint32_t token;
  // Reserved; 0.
  uint32_t reserved;
} sbnc_piece;

// Gets each piece; 0 ends the generation.
typedef uint32_t (*sbnc_on_piece)(void *user, const sbnc_piece *piece);

// What a generation took.
typedef struct {
  // Size of this struct.
  size_t size;
  // Tokens of the prompt.
  uint64_t prompt_tokens;
  // How many of them the session had seen already.
  uint64_t cached_tokens;
  // Tokens that were chosen.
  uint64_t generated_tokens;
  // Seconds until the logits after the prompt.
  double prompt_seconds;
  // Seconds since then.
  double generation_seconds;
  // One of `SBNC_FINISH_…`, or 0 where it failed.
  uint32_t finish;
  // Reserved; 0.
  uint32_t reserved;
} sbnc_generation;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of this interface that the library has; compare it with the header's `SBNC_ABI_VERSION`.
uint32_t sbnc_abi_version(void);

// What the last call of this thread that failed said. It is never null, and valid until the next call of this thread.
const char *sbnc_last_error(void);

// Opens the model at `path`. `options` may be null. `*model` is to be freed with `sbnc_model_free`; it is null where this fails.
//
// # Safety
//
// `path` ends with a zero; `options` is null or has the size that it says; `model` has room for a pointer.
int32_t sbnc_model_open(const char *path,
                        const sbnc_model_options *options,
                        sbnc_model **model);

// Frees a model; sessions that were opened from it live on. Null is nothing to free.
//
// # Safety
//
// `model` is null or came from `sbnc_model_open`, and nobody uses it any more.
void sbnc_model_free(sbnc_model *model);

// Tells what a model is. `info->size` is to be set.
//
// # Safety
//
// `model` came from `sbnc_model_open`; `info` has the size that it says.
int32_t sbnc_model_describe(const sbnc_model *model, sbnc_model_info *info);

// Opens a session. `options` may be null. `*session` is to be freed with `sbnc_session_free`; it is null where this fails.
//
// # Safety
//
// `model` came from `sbnc_model_open`; `options` is null or has the size that it says; `session` has room for a pointer.
int32_t sbnc_session_open(const sbnc_model *model,
                          const sbnc_session_options *options,
                          sbnc_session **session);

// Frees a session. Null is nothing to free.
//
// # Safety
//
// `session` is null or came from `sbnc_session_open`, and nobody uses it any more.
void sbnc_session_free(sbnc_session *session);

// Runs tokens at the end of the session's sequence and gives the logits of what follows them: `sbnc_model_info.vocab` numbers. Where `logits` has less room,
// the call fails before it runs anything; where it is null and `capacity` 0, the tokens are run and no logits given.
//
// # Safety
//
// `session` came from `sbnc_session_open`; there are `count` tokens, and room for `capacity` logits.
int32_t sbnc_session_forward(const sbnc_session *session,
                             const uint32_t *tokens,
                             size_t count,
                             float *logits,
                             size_t capacity);

// The number of tokens that a session has seen, in `*length`.
//
// # Safety
//
// `session` came from `sbnc_session_open`; `length` has room for a number.
int32_t sbnc_session_length(const sbnc_session *session, size_t *length);

// Makes a session forget all but its first `length` tokens.
//
// # Safety
//
// `session` came from `sbnc_session_open`.
int32_t sbnc_session_truncate(const sbnc_session *session, size_t length);

// Ends the call that another thread makes with this session with `SBNC_INTERRUPTED`, soon. If `interrupt` is 0, later calls run again; until then they end
// at once.
//
// # Safety
//
// `session` came from `sbnc_session_open`.
int32_t sbnc_session_interrupt(const sbnc_session *session,
                               uint32_t interrupt);

// Fills in what is usual. `sampling->size` is to be set.
//
// # Safety
//
// `sampling` has the size that it says.
int32_t sbnc_sampling_init(sbnc_sampling *sampling);

// The tokens of a text. `*count` becomes their number; where that is more than `capacity`, the call fails with `SBNC_MEMORY` and can be made again with
// more room. `kind` is one of `SBNC_TEXT_…`.
//
// # Safety
//
// `model` came from `sbnc_model_open`; there are `length` bytes of text, room for `capacity` tokens, and for a number in `count` unless it is null.
int32_t sbnc_tokenize(const sbnc_model *model,
                      const char *text,
                      size_t length,
                      uint32_t kind,
                      uint32_t *tokens,
                      size_t capacity,
                      size_t *count);

// The tokens of a conversation, written as the model's chat template says, up to where the answer begins. Room and count as for `sbnc_tokenize`.
//
// # Safety
//
// As for `sbnc_tokenize`; there are `message_count` messages, whose texts end with a zero.
int32_t sbnc_tokenize_chat(const sbnc_model *model,
                           const sbnc_message *messages,
                           size_t message_count,
                           uint32_t *tokens,
                           size_t capacity,
                           size_t *count);

// The text of some tokens, without special ones, in UTF-8 without a zero at its end. `*length` becomes its number of bytes; where that is more than
// `capacity`, the call fails with `SBNC_MEMORY` and can be made again with more room.
//
// # Safety
//
// `model` came from `sbnc_model_open`; there are `count` tokens, room for `capacity` bytes, and for a number in `length` unless it is null.
int32_t sbnc_detokenize(const sbnc_model *model,
                        const uint32_t *tokens,
                        size_t count,
                        char *text,
                        size_t capacity,
                        size_t *length);

// Generates what follows a prompt, which is the whole text so far: what the session has seen of it is not computed again. `on_piece` gets each token as it is
// chosen, in this thread, and may not use the session. `sampling`, `on_piece` and `result` may be null.
//
// # Safety
//
// `session` came from `sbnc_session_open`; there are `count` tokens; structs have the sizes that they say, and stop strings end with a zero.
int32_t sbnc_session_generate(const sbnc_session *session,
                              const uint32_t *prompt,
                              size_t count,
                              const sbnc_sampling *sampling,
                              sbnc_on_piece on_piece,
                              void *user,
                              sbnc_generation *result);

// Opens the model at `path`. `options` may be null. `*model` is to be freed with `sbnc_model_free`; it is null where this fails.
//
// # Safety
//
// `path` ends with a zero; `options` is null or has the size that it says; `model` has room for a pointer.
int32_t sbnc_model_open(const char *path,
                        const sbnc_model_options *options,
                        sbnc_model **model);

// Frees a model; sessions that were opened from it live on. Null is nothing to free.
//
// # Safety
//
// `model` is null or came from `sbnc_model_open`, and nobody uses it any more.
void sbnc_model_free(sbnc_model *model);

// Tells what a model is. `info->size` is to be set.
//
// # Safety
//
// `model` came from `sbnc_model_open`; `info` has the size that it says.
int32_t sbnc_model_describe(const sbnc_model *model, sbnc_model_info *info);

// Opens a session. `options` may be null. `*session` is to be freed with `sbnc_session_free`; it is null where this fails.
//
// # Safety
//
// `model` came from `sbnc_model_open`; `options` is null or has the size that it says; `session` has room for a pointer.
int32_t sbnc_session_open(const sbnc_model *model,
                          const sbnc_session_options *options,
                          sbnc_session **session);

// Frees a session. Null is nothing to free.
//
// # Safety
//
// `session` is null or came from `sbnc_session_open`, and nobody uses it any more.
void sbnc_session_free(sbnc_session *session);

// Runs tokens at the end of the session's sequence and gives the logits of what follows them: `sbnc_model_info.vocab` numbers. Where `logits` has less room,
// the call fails before it runs anything; where it is null and `capacity` 0, the tokens are run and no logits given.
//
// # Safety
//
// `session` came from `sbnc_session_open`; there are `count` tokens, and room for `capacity` logits.
int32_t sbnc_session_forward(const sbnc_session *session,
                             const uint32_t *tokens,
                             size_t count,
                             float *logits,
                             size_t capacity);

// The number of tokens that a session has seen, in `*length`.
//
// # Safety
//
// `session` came from `sbnc_session_open`; `length` has room for a number.
int32_t sbnc_session_length(const sbnc_session *session, size_t *length);

// Makes a session forget all but its first `length` tokens.
//
// # Safety
//
// `session` came from `sbnc_session_open`.
int32_t sbnc_session_truncate(const sbnc_session *session, size_t length);

// Ends the call that another thread makes with this session with `SBNC_INTERRUPTED`, soon. If `interrupt` is 0, later calls run again; until then they end
// at once.
//
// # Safety
//
// `session` came from `sbnc_session_open`.
int32_t sbnc_session_interrupt(const sbnc_session *session,
                               uint32_t interrupt);

// Fills in what is usual. `sampling->size` is to be set.
//
// # Safety
//
// `sampling` has the size that it says.
int32_t sbnc_sampling_init(sbnc_sampling *sampling);

// The tokens of a text. `*count` becomes their number; where that is more than `capacity`, the call fails with `SBNC_MEMORY` and can be made again with
// more room. `kind` is one of `SBNC_TEXT_…`.
//
// # Safety
//
// `model` came from `sbnc_model_open`; there are `length` bytes of text, room for `capacity` tokens, and for a number in `count` unless it is null.
int32_t sbnc_tokenize(const sbnc_model *model,
                      const char *text,
                      size_t length,
                      uint32_t kind,
                      uint32_t *tokens,
                      size_t capacity,
                      size_t *count);

// The tokens of a conversation, written as the model's chat template says, up to where the answer begins. Room and count as for `sbnc_tokenize`.
//
// # Safety
//
// As for `sbnc_tokenize`; there are `message_count` messages, whose texts end with a zero.
int32_t sbnc_tokenize_chat(const sbnc_model *model,
                           const sbnc_message *messages,
                           size_t message_count,
                           uint32_t *tokens,
                           size_t capacity,
                           size_t *count);

// The text of some tokens, without special ones, in UTF-8 without a zero at its end. `*length` becomes its number of bytes; where that is more than
// `capacity`, the call fails with `SBNC_MEMORY` and can be made again with more room.
//
// # Safety
//
// `model` came from `sbnc_model_open`; there are `count` tokens, room for `capacity` bytes, and for a number in `length` unless it is null.
int32_t sbnc_detokenize(const sbnc_model *model,
                        const uint32_t *tokens,
                        size_t count,
                        char *text,
                        size_t capacity,
                        size_t *length);

// Generates what follows a prompt, which is the whole text so far: what the session has seen of it is not computed again. `on_piece` gets each token as it is
// chosen, in this thread, and may not use the session. `sampling`, `on_piece` and `result` may be null.
//
// # Safety
//
// `session` came from `sbnc_session_open`; there are `count` tokens; structs have the sizes that they say, and stop strings end with a zero.
int32_t sbnc_session_generate(const sbnc_session *session,
                              const uint32_t *prompt,
                              size_t count,
                              const sbnc_sampling *sampling,
                              sbnc_on_piece on_piece,
                              void *user,
                              sbnc_generation *result);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SBNC_H */
