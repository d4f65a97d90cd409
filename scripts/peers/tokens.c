// Prints the tokens that llama.cpp makes of texts with the tokenizer of a GGUF file:
//
//   peer-tokens MODEL TEXTS
//
// TEXTS holds UTF-8 texts, each after the count of its bytes as int32. Prints a line of ids for each, with the special
// tokens that the file asks for. Built and used by scripts/check-exports.
#include <stdio.h>
#include <stdlib.h>

#include "llama.h"

static void quiet(enum ggml_log_level level, const char *text, void *data) {
  (void)data;
  if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static int fail(const char *what) {
  fprintf(stderr, "peer-tokens: %s\n", what);
  return 1;
}

int main(int count, char **arguments) {
  if (count != 3) return 64;
  FILE *texts = fopen(arguments[2], "rb");
  if (!texts) return fail("the texts cannot be opened");
  llama_log_set(quiet, NULL);
  llama_backend_init();
  struct llama_model_params parameters = llama_model_default_params();
  parameters.vocab_only = true;
  struct llama_model *model = llama_model_load_from_file(arguments[1], parameters);
  if (!model) return fail("the model cannot be loaded");
  const struct llama_vocab *vocab = llama_model_get_vocab(model);
  int32_t length;
  while (fread(&length, sizeof length, 1, texts) == 1) {
    if (length < 0 || length > 1 << 20) return fail("a text is too long");
    // A byte gives a token at most, and few are added.
    int32_t limit = 4 * length + 16;
    char *text = malloc((size_t)length + 1);
    llama_token *ids = malloc((size_t)limit * sizeof *ids);
    if (!text || !ids || fread(text, 1, (size_t)length, texts) != (size_t)length) return fail("a text is missing");
    int32_t found = llama_tokenize(vocab, text, length, ids, limit, true, true);
    if (found < 0) return fail("a text has more tokens than bytes");
    for (int32_t i = 0; i < found; i++) printf(i ? " %d" : "%d", ids[i]);
    putchar('\n');
    free(text);
    free(ids);
  }
  return 0;
}
