/* Generates text with a model: generate MODEL.sbnc PROMPT [MAX_TOKENS]
 *
 *     cargo rustc -p sbnc-runtime --release --features capi --crate-type cdylib
 *     cc -I runtime/include runtime/examples/c/generate.c -L target/release -lsbnc_runtime -o generate
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sbnc.h"

static int check(int32_t status, const char *doing) {
    if (status != SBNC_OK) {
        fprintf(stderr, "%s: %s\n", doing, sbnc_last_error());
        exit(status);
    }
    return status;
}

static uint32_t print_piece(void *user, const sbnc_piece *piece) {
    (void)user;
    fwrite(piece->text, 1, piece->text_length, stdout);
    fflush(stdout);
    return 1; /* go on */
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: generate MODEL.sbnc PROMPT [MAX_TOKENS]\n");
        return SBNC_USAGE;
    }
    if (sbnc_abi_version() >> 16 != SBNC_ABI_VERSION >> 16) {
        fprintf(stderr, "the library is of another version than the header\n");
        return SBNC_UNSUPPORTED;
    }

    sbnc_model *model = NULL;
    check(sbnc_model_open(argv[1], NULL, &model), "open");
    sbnc_model_info info = {.size = sizeof info};
    check(sbnc_model_describe(model, &info), "describe");
    fprintf(stderr, "%llu layers, %llu tokens\n", (unsigned long long)info.layers, (unsigned long long)info.vocab);

    /* Ask how many tokens there are, then for the tokens. */
    size_t count = 0;
    sbnc_tokenize(model, argv[2], strlen(argv[2]), SBNC_TEXT_WHOLE, NULL, 0, &count);
    uint32_t *tokens = malloc(count * sizeof *tokens);
    check(sbnc_tokenize(model, argv[2], strlen(argv[2]), SBNC_TEXT_WHOLE, tokens, count, &count), "tokenize");

    sbnc_session *session = NULL;
    check(sbnc_session_open(model, NULL, &session), "session");
    sbnc_sampling sampling = {.size = sizeof sampling};
    check(sbnc_sampling_init(&sampling), "sampling");
    sampling.max_tokens = argc > 3 ? strtoul(argv[3], NULL, 10) : 64;

    sbnc_generation result = {.size = sizeof result};
    check(sbnc_session_generate(session, tokens, count, &sampling, print_piece, NULL, &result), "generate");
    printf("\n");
    fprintf(stderr, "%llu tokens\n", (unsigned long long)result.generated_tokens);

    free(tokens);
    sbnc_session_free(session);
    sbnc_model_free(model);
    return 0;
}
