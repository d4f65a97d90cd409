// Converts a checkpoint, verifies the file, looks into it and lets it write, by the C interface.
//
//   cc -o example example.c -I FOLDER -L FOLDER -lotq -Wl,-rpath,FOLDER
//   ./example CHECKPOINT OUTPUT.otq [PROMPT]
//
// FOLDER is the one that scripts/build-library wrote.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "otq.h"

// Prints an error and frees it.
static int failed(otq_error *error) {
  fprintf(stderr, "refused by %s: %s\n", otq_error_rule(error), otq_error_description(error));
  otq_error_free(error);
  return 1;
}

static int32_t show_progress(
    const char *stage, const char *unit, int64_t done, int64_t total, void *context) {
  if (done == total) printf("%s: %" PRId64 " %s\n", stage, total, unit);
  ++*(int *)context;
  return 0;
}

static int32_t show_piece(const otq_piece *piece, void *context) {
  (void)context;
  fwrite(piece->text, 1, piece->byte_count, stdout);
  if (piece->summary) printf("\n%s\n", piece->summary);
  return 0;
}

// Prints the first quantized values of the first quantized tensor.
static int show_tensor(const otq_file *file, const char *name) {
  otq_error *error = NULL;
  size_t value_bytes, scale_bytes;
  if (otq_tensor_byte_count(file, name, OTQ_PART_VALUES, &value_bytes, &error)) return failed(error);
  if (otq_tensor_byte_count(file, name, OTQ_PART_SCALES, &scale_bytes, &error)) return failed(error);
  uint8_t *values = malloc(value_bytes);
  float *scales = malloc(scale_bytes);
  int status = 0;
  if (!values || !scales) {
    status = 1;
  } else if (otq_tensor_read(file, name, OTQ_PART_VALUES, values, value_bytes, &error) ||
             otq_tensor_read(file, name, OTQ_PART_SCALES, scales, scale_bytes, &error)) {
    status = failed(error);
  } else {
    printf("%s: %zu values, %zu scales, the first %u and %g\n", name, value_bytes, scale_bytes / 4, values[0],
           scales[0]);
  }
  free(values);
  free(scales);
  return status;
}

static int run(const otq_file *file, const char *prompt) {
  otq_error *error = NULL;
  otq_model *model = NULL;
  if (otq_model_load(file, "{\"threads\": 2}", &model, &error)) return failed(error);
  int status = 0;
  char *info = NULL;
  int64_t *ids = NULL;
  size_t count = 0;
  if (otq_model_info(model, &info, &error) ||
      otq_tokenize(model, prompt, OTQ_ZERO_TERMINATED, 1, &ids, &count, &error)) {
    status = failed(error);
  } else {
    printf("%s\n%zu tokens\n", info, count);
    if (otq_generate(model, prompt, OTQ_ZERO_TERMINATED, "{\"max-tokens\": 16}", show_piece, NULL, &error)) {
      status = failed(error);
    }
  }
  otq_free(info);
  otq_free(ids);
  otq_model_free(model);
  return status;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "example CHECKPOINT OUTPUT.otq [PROMPT]\n");
    return 64;
  }
  const char *checkpoint = argv[1], *output = argv[2], *prompt = argc > 3 ? argv[3] : "Once upon a time";
  printf("libotq %s\n", otq_version());
  otq_error *error = NULL;

  int calls = 0;
  otq_observer observer = {show_progress, &calls, NULL};
  char *json = NULL;
  if (otq_convert(checkpoint, output, "{\"bits\": 8, \"no-calibration\": true, \"force\": true}", &observer, &json,
                  &error)) {
    return failed(error);
  }
  printf("%s\ntold %s\n", json, calls > 0 ? "of progress" : "nothing");
  otq_free(json);

  // Who is cancelled leaves nothing.
  otq_cancellation *cancellation = otq_cancellation_create();
  otq_cancellation_cancel(cancellation);
  observer.cancellation = cancellation;
  char *cancelled = malloc(strlen(output) + 16);
  if (!cancelled) return 1;
  sprintf(cancelled, "%s.cancelled", output);
  otq_status status = otq_convert(checkpoint, cancelled, NULL, &observer, NULL, &error);
  printf("cancelled: %d, %s\n", status, otq_error_rule(error));
  otq_error_free(error);
  otq_cancellation_free(cancellation);
  free(cancelled);

  size_t length = strlen(checkpoint) + 32;
  char *options = malloc(length);
  if (!options) return 1;
  // A path with quotes or backslashes would have to be escaped.
  snprintf(options, length, "{\"reference\": \"%s\"}", checkpoint);
  status = otq_verify(output, options, NULL, &json, &error);
  free(options);
  if (status) return failed(error);
  printf("verified: %zu bytes of JSON\n", strlen(json));
  otq_free(json);

  otq_file *file = NULL;
  if (otq_open(output, &file, &error)) return failed(error);
  int result = 0;
  char *tensors = NULL;
  if (otq_metadata(file, &json, &error) || otq_tensors(file, &tensors, &error)) {
    result = failed(error);
  } else {
    printf("%s\n", json);
    // A program would parse the JSON.
    char *quantized = strstr(tensors, "\"storage\":\"quantized\"");
    if (quantized) {
      char *name = quantized;
      while (name > tensors && strncmp(name, "\"name\":\"", 8)) --name;
      name += 8;
      char *end = strchr(name, '"');
      if (end) *end = 0;
      result = show_tensor(file, name);
    }
    if (!result) result = run(file, prompt);
  }
  otq_free(json);
  otq_free(tensors);
  otq_close(file);
  return result;
}
