/* What a C program may do wrong, and what it gets for it: capi MODEL.sbnc. Prints a line for each fault that is not noticed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sbnc.h"

static int faults = 0;

static void expect(int32_t found, int32_t wanted, const char *words, const char *what) {
    if (found != wanted || (words && !strstr(sbnc_last_error(), words))) {
        printf("%s: status %d, wanted %d with \"%s\": %s\n", what, found, wanted, words ? words : "", sbnc_last_error());
        faults += 1;
    }
}

static uint32_t stop_at_third(void *user, const sbnc_piece *piece) {
    int *seen = user;
    (void)piece;
    *seen += 1;
    return *seen < 3;
}

static uint32_t reenter(void *user, const sbnc_piece *piece) {
    (void)piece;
    size_t length = 0;
    expect(sbnc_session_length(user, &length), SBNC_USAGE, "one call at a time", "a session in its own callback");
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    sbnc_model *model = (sbnc_model *)1;
    expect(sbnc_model_open(NULL, NULL, &model), SBNC_USAGE, "path", "no path");
    if (model != NULL) faults += 1;
    expect(sbnc_model_open("no/such.sbnc", NULL, &model), SBNC_IO, "no/such.sbnc", "no file");
    expect(sbnc_model_open(argv[1], NULL, NULL), SBNC_USAGE, "model", "nowhere to put the model");
    expect(sbnc_model_open(argv[0], NULL, &model), SBNC_INVALID, NULL, "a file of another kind");
    sbnc_model_options options = {.size = sizeof options};
    options.device = 9;
    expect(sbnc_model_open(argv[1], &options, &model), SBNC_USAGE, "SBNC_DEVICE", "an unknown device");
    options.device = SBNC_DEVICE_CPU;
    options.threads = 1;
    options.read = 1;
    options.size = 1;
    expect(sbnc_model_open(argv[1], &options, &model), SBNC_USAGE, "size", "a struct without its size");
    options.size = sizeof options;
    expect(sbnc_model_open(argv[1], &options, &model), SBNC_OK, NULL, "open");

    sbnc_model_info info = {.size = sizeof info};
    expect(sbnc_model_describe(model, &info), SBNC_OK, NULL, "describe");
    if (info.size != sizeof info || info.vocab != 320 || !info.has_tokenizer || !info.has_chat_template) faults += 1;
    info.vocab = 1;
    info.layers = 99;
    info.size = offsetof(sbnc_model_info, context);
    expect(sbnc_model_describe(model, &info), SBNC_OK, NULL, "describe to an older program");
    if (info.vocab != 320 || info.layers != 99) faults += 1;
    expect(sbnc_model_describe(NULL, &info), SBNC_USAGE, "model", "no model");

    uint32_t tokens[64];
    size_t count = 0, length = 0;
    expect(sbnc_tokenize(model, "hello", 5, SBNC_TEXT_WHOLE, NULL, 0, &count), SBNC_MEMORY, "room", "no room for tokens");
    if (count != 2) faults += 1;
    expect(sbnc_tokenize(model, "hello", 5, SBNC_TEXT_WHOLE, tokens, 64, &count), SBNC_OK, NULL, "tokenize");
    expect(sbnc_tokenize(model, "\xff", 1, SBNC_TEXT_WHOLE, tokens, 64, &count), SBNC_USAGE, "UTF-8", "not UTF-8");
    expect(sbnc_tokenize(model, "a", 1, 7, tokens, 64, &count), SBNC_USAGE, "SBNC_TEXT", "an unknown kind of text");
    expect(sbnc_tokenize(model, "hello", 5, SBNC_TEXT_WHOLE, tokens, 64, &count), SBNC_OK, NULL, "tokenize");
    char text[64];
    expect(sbnc_detokenize(model, tokens, count, text, sizeof text, &length), SBNC_OK, NULL, "detokenize");
    if (length != 5 || memcmp(text, "hello", 5)) faults += 1;
    sbnc_message messages[] = {{"user", "hi"}};
    size_t chat_count = 0;
    uint32_t chat[64];
    expect(sbnc_tokenize_chat(model, messages, 1, chat, 64, &chat_count), SBNC_OK, NULL, "tokenize a conversation");
    messages[0].content = "<|end|>";
    expect(sbnc_tokenize_chat(model, messages, 1, chat, 64, &chat_count), SBNC_USAGE, "<|end|>", "a special token in a message");
    messages[0].role = "nobody";
    messages[0].content = "hi";
    expect(sbnc_tokenize_chat(model, messages, 1, chat, 64, &chat_count), SBNC_USAGE, "nobody", "an unknown role");

    sbnc_session *session = NULL;
    sbnc_session_options small = {.size = sizeof small};
    small.memory = 1;
    expect(sbnc_session_open(model, &small, &session), SBNC_MEMORY, "memory", "a session that does not fit");
    if (session != NULL) faults += 1;
    small.memory = 0;
    small.context = 32;
    expect(sbnc_session_open(model, &small, &session), SBNC_OK, NULL, "session");
    float logits[320];
    expect(sbnc_session_forward(session, tokens, count, logits, 10), SBNC_MEMORY, "320", "no room for logits");
    expect(sbnc_session_forward(session, tokens, count, logits, 320), SBNC_OK, NULL, "forward");
    size_t best = 0;
    for (size_t i = 0; i < 320; i++) {
        if (!isfinite(logits[i])) faults += 1;
        if (logits[i] > logits[best]) best = i;
    }
    uint32_t wrong[] = {320};
    expect(sbnc_session_forward(session, wrong, 1, NULL, 0), SBNC_USAGE, "319", "a token that is none");
    expect(sbnc_session_forward(session, NULL, 3, NULL, 0), SBNC_USAGE, "tokens", "no tokens");
    expect(sbnc_session_length(session, &length), SBNC_OK, NULL, "length");
    if (length != count) faults += 1;
    expect(sbnc_session_truncate(session, 1), SBNC_OK, NULL, "truncate");

    sbnc_sampling sampling = {.size = sizeof sampling};
    expect(sbnc_sampling_init(&sampling), SBNC_OK, NULL, "sampling");
    sampling.ignore_eos = 1;
    sbnc_generation result = {.size = sizeof result};
    int seen = 0;
    expect(sbnc_session_generate(session, tokens, count, &sampling, stop_at_third, &seen, &result), SBNC_OK, NULL, "generate");
    if (seen != 3 || result.finish != SBNC_FINISH_CALLBACK || result.generated_tokens != 3 || result.cached_tokens != 1) faults += 1;
    expect(sbnc_session_generate(session, tokens, count, &sampling, NULL, NULL, &result), SBNC_OK, NULL, "generate until the context is full");
    if (result.finish != SBNC_FINISH_CONTEXT || result.generated_tokens != 32 - count + 1) faults += 1;
    sampling.top_p = 3;
    expect(sbnc_session_generate(session, tokens, count, &sampling, NULL, NULL, NULL), SBNC_USAGE, "top-p", "a setting out of range");
    sampling.top_p = 1;
    const char *stops[] = {""};
    sampling.stops = stops;
    sampling.stop_count = 1;
    expect(sbnc_session_generate(session, tokens, count, &sampling, NULL, NULL, NULL), SBNC_USAGE, "stop", "an empty stop string");
    sampling.stop_count = 0;
    expect(sbnc_session_generate(session, tokens, count, &sampling, reenter, session, NULL), SBNC_OK, NULL, "generate");
    expect(sbnc_session_interrupt(session, 1), SBNC_OK, NULL, "interrupt");
    expect(sbnc_session_generate(session, tokens, count, &sampling, NULL, NULL, &result), SBNC_INTERRUPTED, NULL, "generate, interrupted");
    expect(sbnc_session_interrupt(session, 0), SBNC_OK, NULL, "no longer interrupt");
    sbnc_model_free(model);
    expect(sbnc_session_forward(session, tokens, 1, NULL, 0), SBNC_OK, NULL, "a session without its model's handle");
    sbnc_session_free(session);
    sbnc_session_free(NULL);
    sbnc_model_free(NULL);
    printf("best %zu\n", best);
    return faults == 0 ? 0 : 1;
}
