// Runs token ids through a GGUF file with llama.cpp and writes the logits, or the last hidden states:
//
//   peer-logits MODEL IDS VALUES SEQUENCES LENGTH THREADS [logits|hidden]
//
// IDS holds int32 [SEQUENCES, LENGTH], VALUES becomes float32 [SEQUENCES, LENGTH, vocabulary or channels].
// Built and used by scripts/bench-peers, to see that llama.cpp was built right, and by scripts/check-exports.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"

static void quiet(enum ggml_log_level level, const char *text, void *data) {
  (void)data;
  if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static int fail(const char *what) {
  fprintf(stderr, "peer-logits: %s\n", what);
  return 1;
}

int main(int count, char **arguments) {
  if (count != 7 && count != 8) return 64;
  bool is_hidden = count == 8 && !strcmp(arguments[7], "hidden");
  int sequences = atoi(arguments[4]), length = atoi(arguments[5]), threads = atoi(arguments[6]);
  if (sequences < 1 || length < 1 || threads < 1) return 64;
  FILE *ids = fopen(arguments[2], "rb"), *values = fopen(arguments[3], "wb");
  if (!ids || !values) return fail("a file cannot be opened");

  llama_log_set(quiet, NULL);
  llama_backend_init();
  struct llama_model *model = llama_model_load_from_file(arguments[1], llama_model_default_params());
  if (!model) return fail("the model cannot be loaded");
  struct llama_context_params parameters = llama_context_default_params();
  parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = (uint32_t)length;
  parameters.n_threads = parameters.n_threads_batch = threads;
  if (is_hidden) {
    parameters.embeddings = true;
    parameters.pooling_type = LLAMA_POOLING_TYPE_NONE;
  }
  struct llama_context *context = llama_init_from_model(model, parameters);
  if (!context) return fail("there is no context");
  size_t width = (size_t)(is_hidden ? llama_model_n_embd(model) : llama_vocab_n_tokens(llama_model_get_vocab(model)));

  struct llama_batch batch = llama_batch_init(length, 0, 1);
  for (int sequence = 0; sequence < sequences; sequence++) {
    if (fread(batch.token, sizeof(llama_token), (size_t)length, ids) != (size_t)length) return fail("ids are missing");
    for (int i = 0; i < length; i++) {
      batch.pos[i] = i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    batch.n_tokens = length;
    llama_memory_clear(llama_get_memory(context), true);
    if (llama_decode(context, batch)) return fail("decoding failed");
    for (int i = 0; i < length; i++) {
      const float *row = is_hidden ? llama_get_embeddings_ith(context, i) : llama_get_logits_ith(context, i);
      if (!row || fwrite(row, sizeof *row, width, values) != width) return fail("values cannot be written");
    }
  }
  return fclose(values) ? fail("values cannot be written") : 0;
}
