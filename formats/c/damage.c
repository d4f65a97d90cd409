// Damages files in every way that a few thousand tries find, and has each read by the C interface: whatever is in
// a file, a call ends with a status, and one that is not OTQ_OK with an error that names a rule.
//
//   damage FOLDER SEED COUNT FILE…
//
// Each file is cut at many places and has bytes changed, COUNT times each; the damaged one lies in FOLDER, under the
// name of the whole.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "otq.h"

static uint64_t state;

// SplitMix64.
static uint64_t draw(void) {
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static long calls, refusals;

// Counts a status; ends the program where it and the error do not fit.
static otq_status checked(otq_status status, otq_error **place, const char *what) {
  // Read after the call: the order of arguments is nobody's promise.
  otq_error *error = *place;
  *place = NULL;
  ++calls;
  if (status == OTQ_OK ? error != NULL : !error || !otq_error_rule(error) || !*otq_error_rule(error) ||
                                             !otq_error_message(error) || !otq_error_description(error)) {
    fprintf(stderr, "%s: status %d does not fit its error\n", what, status);
    exit(1);
  }
  if (status == OTQ_MISUSE || status == OTQ_CANCELLED) {
    fprintf(stderr, "%s: %s\n", what, otq_error_description(error));
    exit(1);
  }
  if (status) ++refusals;
  otq_error_free(error);
  return status;
}

// Reads the tensors that a file has, by the names in its JSON.
static void read_tensors(const otq_file *file, char *json) {
  for (char *name = strstr(json, "\"name\":\""); name; name = strstr(name, "\"name\":\"")) {
    name += 8;
    char *end = strchr(name, '"');
    if (!end) return;
    char copy[256];
    size_t length = (size_t)(end - name);
    // Names with escapes would have to be read as JSON has them.
    if (length < sizeof copy && !memchr(name, '\\', length)) {
      memcpy(copy, name, length);
      copy[length] = 0;
      for (otq_part part = OTQ_PART_VALUES; part <= OTQ_PART_ZERO_POINTS; ++part) {
        otq_error *error = NULL;
        size_t byte_count = 0;
        if (checked(otq_tensor_byte_count(file, copy, part, &byte_count, &error), &error, copy)) continue;
        if (byte_count > 1 << 24) continue;
        void *buffer = malloc(byte_count ? byte_count : 1);
        if (!buffer) exit(1);
        checked(otq_tensor_read(file, copy, part, buffer, byte_count, &error), &error, copy);
        free(buffer);
      }
    }
    name = end;
  }
}

static void read_file(const char *path) {
  otq_error *error = NULL;
  otq_file *file = NULL;
  if (checked(otq_open(path, &file, &error), &error, path)) {
    if (file) exit(1);
    return;
  }
  char *json = NULL;
  checked(otq_metadata(file, &json, &error), &error, path);
  otq_free(json);
  if (!checked(otq_tensors(file, &json, &error), &error, path)) read_tensors(file, json);
  otq_free(json);
  size_t length = strlen(path);
  if (length > 4 && !strcmp(path + length - 4, ".otq")) {
    checked(otq_verify(path, "{\"threads\": 2}", NULL, NULL, &error), &error, path);
  }
  otq_model *model = NULL;
  if (!checked(otq_model_load(file, "{\"threads\": 2}", &model, &error), &error, path)) otq_model_free(model);
  otq_close(file);
}

static void write_file(const char *path, const uint8_t *bytes, size_t count) {
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(bytes, 1, count, file) != count || fclose(file)) {
    perror(path);
    exit(1);
  }
}

int main(int argc, char **argv) {
  if (argc < 5) {
    fprintf(stderr, "damage FOLDER SEED COUNT FILE...\n");
    return 64;
  }
  state = strtoull(argv[2], NULL, 10);
  long tries = strtol(argv[3], NULL, 10);
  for (int index = 4; index < argc; ++index) {
    FILE *file = fopen(argv[index], "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
      perror(argv[index]);
      return 1;
    }
    size_t count = (size_t)ftell(file);
    rewind(file);
    uint8_t *whole = malloc(count + 1), *bytes = malloc(count + 1);
    if (!whole || !bytes || fread(whole, 1, count, file) != count) return 1;
    fclose(file);
    const char *name = strrchr(argv[index], '/');
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", argv[1], name ? name + 1 : argv[index]);
    for (long number = 0; number < tries; ++number) {
      // Most of what is read is at the beginning; an archive has its directory at the end.
      size_t head = count < 4096 ? count : 4096;
      write_file(path, whole, draw() % 2 ? draw() % (head + 1) : draw() % (count + 1));
      read_file(path);
      memcpy(bytes, whole, count);
      for (uint64_t changes = 1 + draw() % 4; changes; --changes) {
        uint64_t kind = draw() % 4;
        size_t place = kind == 0 ? draw() % count : kind == 1 ? count - 1 - draw() % head : draw() % head;
        bytes[place] = draw() % 2 ? (uint8_t)(bytes[place] ^ 1u << draw() % 8) : (uint8_t)draw();
      }
      write_file(path, bytes, count);
      read_file(path);
    }
    remove(path);
    free(whole);
    free(bytes);
  }
  printf("%ld calls, %ld refusals\n", calls, refusals);
  return refusals > 0 ? 0 : 1;
}
