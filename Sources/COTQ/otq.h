// otq.h: the C interface of libotq.
//
// Opens .otq files and checkpoints, reads their tensors, runs models, and converts, verifies, exports and
// evaluates them. Everything happens in this process, on the CPU, offline.
//
// STATUS AND ERRORS
//   A function that can fail returns an otq_status: OTQ_OK, or why not. Its last argument may be NULL; if it is not
//   and the status is not OTQ_OK, *error becomes an otq_error that says what was wrong, which the caller gives to
//   otq_error_free. With OTQ_OK *error becomes NULL. Out arguments are filled with OTQ_OK; with any other status
//   (but see otq_verify) pointers and handles that they lead to become NULL and counts 0, and no file has appeared.
//   A fault in a file, an argument or an option never ends the process.
//   One thing can: a file that is made shorter by others while it is open (SIGBUS), as with every mapped file.
//
// HANDLES
//   otq_error, otq_file, otq_model, otq_generation and otq_cancellation are opaque. A handle is no address: one that
//   is closed, NULL or of another kind is refused (rule argument-handle) wherever it is used, and closing it once
//   more does nothing. A handle may be closed while other threads use it: their calls end as they would have.
//
// MEMORY
//   Numbers are written into memory of the caller, whose size is checked: it must be exact. Strings, arrays and
//   bytes that a function allocates (a char **, an int64_t **) belong to the caller, who gives them to otq_free.
//   What an accessor returns (const char *) belongs to its handle and lives as long as that.
//
// TEXT
//   Paths, names and JSON are UTF-8 that ends with a zero byte. Texts for models have a count of bytes beside them,
//   or OTQ_ZERO_TERMINATED. Invalid UTF-8 is refused (argument-text), in paths too.
//   Texts that are given back end with a zero byte that their count leaves out, and may have others inside.
//
// OPTIONS
//   A JSON object, or NULL for none. Its names are those of the command 'otconvert', without the dashes in front:
//   {"bits": 6, "method": ["smoothquant,alpha=0.5"], "weights-only": true}. An option with a value takes a string or a
//   number; a flag true or false; one that is repeatable, or takes several files, an array or one value. null is as
//   if the option were not there. An unknown name, a value out of range, or options that exclude each other are
//   refused (OTQ_MISUSE) before anything is read. 'otconvert convert --help' and the article "Options" of the
//   documentation say what each does, and its default.
//   Relative paths are relative to the working directory of the process. "-", the standard input, is not taken.
//
// THREADS
//   Every function may be called from several threads at once, with the same handles, except where it says otherwise.
//   Work is shared among the threads that option "threads" allows (default: all cores); results do not depend on it.
//
// Numbers are of the machine's byte order, which is little-endian; matrices are row-major.

#ifndef OTQ_H
#define OTQ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The version of this interface: a library of the same number has all that is declared here. It grows when
// functions are added or changed.
#define OTQ_ABI_VERSION 1

// As a count of bytes: the text ends with its first zero byte.
#define OTQ_ZERO_TERMINATED SIZE_MAX

// How a call ended.
typedef int32_t otq_status;
enum {
  OTQ_OK = 0,
  // A file, a model or a text was refused, or a check failed: the error says by which rule.
  OTQ_REFUSED = 1,
  // The caller has ended it: by a callback, or an otq_cancellation. The error has rule "cancelled".
  OTQ_CANCELLED = 2,
  // The call was wrong: a NULL, a handle, a count, an option. Rules "argument-…" and "option-…".
  OTQ_MISUSE = 64
};

typedef struct otq_error otq_error;
typedef struct otq_file otq_file;
typedef struct otq_model otq_model;
typedef struct otq_generation otq_generation;
typedef struct otq_cancellation otq_cancellation;

// ---- The library ----------------------------------------------------------------------------------------------

// The library's version: "1.2.0". Lives as long as the library.
const char *otq_version(void);

// The OTQ_ABI_VERSION that the library was built with.
int32_t otq_abi_version(void);

// Gives memory back that a function of this library has allocated. NULL: nothing.
void otq_free(void *memory);

// ---- Errors ---------------------------------------------------------------------------------------------------
// Accessors of a handle that is no error give NULL, or -1.

// The rule that was broken, in kebab case: "safetensors-hole". Stable: test for it. Never NULL.
const char *otq_error_rule(const otq_error *error);

// The fault in words, without the file's name. Never NULL.
const char *otq_error_message(const otq_error *error);

// Path of the offending file as the caller gave it; NULL: none.
const char *otq_error_file(const otq_error *error);

// Name of the offending tensor; NULL: none. Names from files may have control characters: see otq_error_description.
const char *otq_error_tensor(const otq_error *error);

// Position of the fault in the file, in bytes from its start; -1: none.
int64_t otq_error_byte_offset(const otq_error *error);

// What can be done about it; NULL: nothing is known.
const char *otq_error_remedy(const otq_error *error);

// All of it in one line for people, control characters escaped: "FILE: tensor 'T': byte 12: MESSAGE [RULE]; REMEDY".
const char *otq_error_description(const otq_error *error);

// Frees an error. NULL: nothing.
void otq_error_free(otq_error *error);

// ---- Files ----------------------------------------------------------------------------------------------------

// Opens an .otq file, or a checkpoint: a file of safetensors, PyTorch or GGUF, the index of a sharded checkpoint, or
// a folder in the layout of Hugging Face. Structure is checked and names are read, not weights: it takes
// milliseconds. The file stays mapped until it is closed.
//   path: of the file or folder.
//   file: becomes a handle for otq_close.
// Errors: the readers' rules: file-…, otq-…, json-…, safetensors-…, pickle-…, zip-…, gguf-…, directory-…, others.
otq_status otq_open(const char *path, otq_file **file, otq_error **error);

// Closes a file. Models that were made from it stay.
void otq_close(otq_file *file);

// What the file says about itself, as JSON:
//   {"path", "name", "isPacked" (true: an .otq file), "family" or null, "weightBits": [..], "method" or null,
//    "byteCount", "parameterCount", "tensorCount", "vocabularySize" or null, "contextLength" or null,
//    "producer" or null, "sources": [{"name", "byteCount", "sha256"}, ..], "warnings": ["..", ..]}
//   json: becomes the text, for otq_free.
// Errors: otq-…, json-….
otq_status otq_metadata(const otq_file *file, char **json, otq_error **error);

// Number of tensors. Errors: misuse alone.
otq_status otq_tensor_count(const otq_file *file, size_t *count, otq_error **error);

// All tensors in the order of the file, as JSON: an array of
//   {"name", "shape": [..] (outermost first; [out, in] for the weight of a linear),
//    "storage": "plain", "quantized" or "alias",
//    "byteCount" (in the file, scales and zero points included; 0 for an alias), "sqnrDecibels" or null,
//    plain: "type": "F32", "F16", "BF16", "I64" … as safetensors names them,
//    quantized: "bits", "isSymmetric", "granularity": "tensor", "channel" or "group", "groupSize" or null,
//               "scaleCount",
//    alias: "of" (the name of the tensor whose elements it has)}
//   json: becomes the text, for otq_free.
otq_status otq_tensors(const otq_file *file, char **json, otq_error **error);

// A part of a tensor.
typedef int32_t otq_part;
enum {
  // The elements as they are stored. Plain: of the tensor's own type, [shape]. Quantized: a byte each, unsigned,
  // 0 to 2^bits - 1, [shape].
  OTQ_PART_VALUES = 0,
  // Quantized: float32 [scaleCount]: 1 (tensor), [rows] (channel) or [rows, groups] (group). Rows are the first
  // dimension, columns the elements of the others; a group is groupSize columns, the last perhaps fewer.
  OTQ_PART_SCALES = 1,
  // Quantized: a byte for each scale, unsigned; 2^(bits-1) where the scheme is symmetric.
  // An element is scale x (value - zero point).
  OTQ_PART_ZERO_POINTS = 2
};

// Bytes of a part, as otq_tensor_read writes them. An alias has the parts of the tensor that it stands for.
// Errors: tensor-missing for a name that is not there, tensor-part for a part that it does not have (the scales of a
// plain tensor).
otq_status otq_tensor_byte_count(
    const otq_file *file, const char *name, otq_part part, size_t *byte_count, otq_error **error);

// Writes all bytes of a part.
//   buffer: byte_count bytes, as otq_tensor_byte_count says. What it holds after an error is not said.
// Errors: as otq_tensor_byte_count; argument-length for another count; otq-… for damaged data.
otq_status otq_tensor_read(
    const otq_file *file, const char *name, otq_part part, void *buffer, size_t byte_count, otq_error **error);

// Writes rows of a tensor as float32 [row_count, columns]: floats converted, quantized ones dequantized. Rows are the
// first dimension, columns the elements of the others: a vector has rows of one column, a scalar one such row. In an
// .otq file these are the parameters that the packed model runs with: what the conversion moved into them is part of
// them. Checkpoints whose weights are quantized (GPTQ, AWQ, GGUF …) give the values that their codes mean.
//   first_row, row_count: within the tensor's rows.
//   values: value_count floats: row_count x columns.
// Errors: tensor-missing; tensor-rows for rows that it does not have; tensor-type for elements that are no floats;
// argument-length; otq-… for damaged data.
otq_status otq_tensor_rows(
    const otq_file *file, const char *name, size_t first_row, size_t row_count, float *values, size_t value_count,
    otq_error **error);

// ---- Models ---------------------------------------------------------------------------------------------------

// Makes a model ready to run: an .otq file as it is packed, with integer products; a checkpoint in float32.
//   options: "threads", "quantize-attention" (2 to 8 bits of attention; packed models alone).
//   model: becomes a handle for otq_model_free.
// Errors: run-no-graph or run-incomplete for a model that cannot be run; parameter-…, otq-….
otq_status otq_model_load(const otq_file *file, const char *options, otq_model **model, otq_error **error);

// Frees a model. Generations that were begun with it stay.
void otq_model_free(otq_model *model);

// The sizes of a model's inputs and outputs, as JSON:
//   {"path", "family", "vocabularySize" or null, "contextLength" or null (no limit), "isCausal" (it continues texts),
//    "logitCount" or null (numbers of a row of otq_logits), "embeddingSize" or null (numbers of a vector of otq_embed),
//    "labels": ["..", ..] or null (of a classifier), "hasTokenizer"}
otq_status otq_model_info(const otq_model *model, char **json, otq_error **error);

// The tokens of a text.
//   text, byte_count: UTF-8; OTQ_ZERO_TERMINATED for a text that ends with a zero byte.
//   adds_special_tokens: not 0 puts the tokens around it that the model expects.
//   token_ids, count: become an array of count IDs, for otq_free; NULL where there are none.
// Errors: tokenizer-missing, tokenizer-…, argument-text.
otq_status otq_tokenize(
    const otq_model *model, const char *text, size_t byte_count, int32_t adds_special_tokens, int64_t **token_ids,
    size_t *count, otq_error **error);

// The text of tokens; bytes that are no UTF-8 become U+FFFD, IDs that the vocabulary does not have become nothing.
//   text, byte_count: become the text, for otq_free, and its bytes; byte_count may be NULL.
// Errors: tokenizer-missing, tokenizer-….
otq_status otq_detokenize(
    const otq_model *model, const int64_t *token_ids, size_t count, int32_t skips_special_tokens, char **text,
    size_t *byte_count, otq_error **error);

// Runs the model on a sequence of tokens: row i has the logits of the token after token i (of a masked-LM head: of
// token i itself).
//   token_ids: count of them, at least 1.
//   logits: value_count floats: count x logitCount of otq_model_info.
// Errors: run-empty, run-context, run-token-id, run-output for a model without logits, argument-length.
otq_status otq_logits(
    const otq_model *model, const int64_t *token_ids, size_t count, float *logits, size_t value_count,
    otq_error **error);

// A piece of a text that is being generated. What it leads to lives until the callback returns, or until the next
// call with the generation.
typedef struct otq_piece {
  // Whole characters, the next of the text; ends with a zero byte. May be empty.
  const char *text;
  size_t byte_count;
  // The tokens chosen since the piece before.
  const int64_t *token_ids;
  size_t token_count;
  // In the last piece what the text took, as JSON, else NULL:
  // {"stopReason": "endOfText", "tokenCount", "contextLength" or "stopString",
  //  "promptTokenCount", "tokenCount", "promptSeconds", "seconds"}
  const char *summary;
} otq_piece;

// Is called for every piece. Not 0: the text ends here, without an error.
typedef int32_t (*otq_piece_callback)(const otq_piece *piece, void *context);

// Continues a text, piece by piece, on the calling thread.
//   prompt, byte_count: the text, to which the model's special tokens are added.
//   options: "max-tokens" (128), "temperature" (0: always the likeliest token), "top-k", "top-p", "seed" (0),
//     "stop" (array of texts). The same model, prompt, options and seed give the same text.
//   callback: gets every piece, the last with a summary.
//   context: is handed to the callback.
// Errors: run-not-causal, generate-empty-prompt, run-context, run-token-id, sampling-…, run-memory, tokenizer-….
otq_status otq_generate(
    const otq_model *model, const char *prompt, size_t byte_count, const char *options, otq_piece_callback callback,
    void *context, otq_error **error);

// The same, pulled: begins a text, of which otq_generation_next gives the pieces. Nothing runs ahead.
//   generation: becomes a handle for otq_generation_free.
// Errors: as otq_generate.
otq_status otq_generation_begin(
    const otq_model *model, const char *prompt, size_t byte_count, const char *options, otq_generation **generation,
    otq_error **error);

// The same of tokens, to which none are added.
otq_status otq_generation_begin_with_tokens(
    const otq_model *model, const int64_t *token_ids, size_t count, const char *options,
    otq_generation **generation, otq_error **error);

// Computes the next piece. Calls with one generation wait for each other.
//   piece: is filled; after the last piece (the one with a summary) it becomes all zeros.
// Errors: sampling-not-finite, run-memory.
otq_status otq_generation_next(otq_generation *generation, otq_piece *piece, otq_error **error);

// Frees a generation, before or after its end.
void otq_generation_free(otq_generation *generation);

// Vectors of texts, for comparing meanings by their cosine. Pooling, normalization, prompt and the longest text are
// those of the model's files; longer texts are cut.
//   texts: text_count of them; byte_counts: of each, or NULL where all end with a zero byte.
//   vectors: value_count floats: text_count x embeddingSize of otq_model_info.
// Errors: embed-causal, embed-empty-text, embed-modules, embed-not-finite, tokenizer-…, argument-length.
otq_status otq_embed(
    const otq_model *model, const char *const *texts, const size_t *byte_counts, size_t text_count, float *vectors,
    size_t value_count, otq_error **error);

// The labels of a text or of a pair of texts, as JSON, the best first:
//   [{"label", "index", "score", "logit"}, ..]
//   pair: the second text; NULL: none, and pair_byte_count has no meaning.
//   json: becomes the text, for otq_free.
// Errors: classify-no-classes, classify-not-finite, tokenizer-….
otq_status otq_classify(
    const otq_model *model, const char *text, size_t byte_count, const char *pair, size_t pair_byte_count,
    char **json, otq_error **error);

// ---- Long work ------------------------------------------------------------------------------------------------

// A request to end calls that were given it. One may be given to several calls, and stays as it is once it is set.
// Returns a handle for otq_cancellation_free.
otq_cancellation *otq_cancellation_create(void);

// Ends the calls that were given it, soon; they return OTQ_CANCELLED. From any thread.
void otq_cancellation_cancel(otq_cancellation *cancellation);

// Frees it; calls that were given it go on.
void otq_cancellation_free(otq_cancellation *cancellation);

// Is called while a call works, on the thread that made the call, several times a second or less often.
//   stage: what is being done: "calibrating", "comparing", "measuring", "rounding", "converting", "exporting",
//     "verifying", "running", "evaluating", "answering".
//   unit: of the counts: "bytes", "tokens", "sites", "models", "windows", "items".
//   done, total: of the stage; done <= total.
//   context: as the call was given it.
// Not 0: the call is cancelled.
typedef int32_t (*otq_progress_callback)(
    const char *stage, const char *unit, int64_t done, int64_t total, void *context);

// How a call tells of its progress, and how it is ended. Every member may be NULL.
typedef struct otq_observer {
  otq_progress_callback progress;
  void *context;
  const otq_cancellation *cancellation;
} otq_observer;

// Converts a checkpoint to an .otq file, which appears whole or not at all.
//   input: path of a checkpoint, as otq_open takes it. output: path of the file to write.
//   options: those of 'otconvert convert': "bits", "activation-bits", "activations", "weight-scheme", "rounding",
//     "group-size", "per-tensor", "embedding-bits", "exclude", "bits-for", "budget", "family", "method", "effort",
//     "weights-only", "compression", "act-scales", "symmetrization", "symmetrization-samples", "statistics", "recipe",
//     "no-symmetrization", "no-calibration"; "text", "text-field", "ids", "tensor", "samples", "length", "seed",
//     "max-memory"; "save-recipe", "force", "resume", "threads"; "require", "until", "require-text", "require-ids",
//     "require-windows".
//   observer: NULL: none.
//   json: becomes what 'otconvert convert --json' prints, with "method" and "warnings" (an array of lines) beside it,
//     for otq_free; NULL: it is not wanted.
// Errors: the readers', family-…, graph-…, calibration-…, statistics-…, method-…, weight-…, output-…, resume-….
otq_status otq_convert(
    const char *input, const char *output, const char *options, const otq_observer *observer, char **json,
    otq_error **error);

// Compares an .otq file with the checkpoint that it was made from; without "reference" reads all of it and checks
// every checksum and quantized value.
//   path: of the .otq file.
//   options: those of 'otconvert verify': "reference", "level" ("weights", "layers", "model"), "tolerance", "text",
//     "text-field", "ids", "tensor", "samples", "length", "seed", "report", "junit", "force", "threads"; "task" with "data"
//     and "limit".
//   json: becomes what 'otconvert verify --json' prints; NULL: it is not wanted. It is given with OTQ_OK, and with
//     OTQ_REFUSED where the rule is verify-failed.
// Errors: verify-failed for a file outside the tolerance; the readers', otq-…, tokenizer-…, output-….
otq_status otq_verify(
    const char *path, const char *options, const otq_observer *observer, char **json, otq_error **error);

// Writes a model in a format of other tools; the folder or file appears whole or not at all.
//   input: path of a checkpoint or of an .otq file.
//   output: path of the folder or file to write.
//   format: "safetensors", "compressed-tensors", "gguf", "mlx", "ctranslate2".
//   options: those of 'otconvert export': "restored", "dtype", "shard-size", "force", "threads"; for a checkpoint
//     also those of otq_convert but "effort", "save-recipe", "resume", "require", "until" and those of the text for
//     these.
//   json: becomes {"file" or "folder", "format", "warnings"}; NULL: it is not wanted.
// Errors: export-… for what the format cannot hold; as otq_convert.
otq_status otq_export(
    const char *input, const char *output, const char *format, const char *options, const otq_observer *observer,
    char **json, otq_error **error);

// Runs a model on text or tokens (perplexity), or has it do a task of the field; beside another model, its distance from
// that.
//   model: ready to run.
//   against: the reference that it is compared with; NULL: none.
//   options: those of 'otconvert eval': "text" (files) with "text-field", or "ids" (a file), "tensor", "context", "windows",
//     "threads"; or "task" (a name) with "data" (a file) and perhaps "limit", of a perplexity "context" and "stride".
//   json: becomes what 'otconvert eval --json' prints.
// Errors: eval-…, text-…, ids-…, task-…, tokenizer-…, run-….
otq_status otq_eval(
    const otq_model *model, const otq_model *against, const char *options, const otq_observer *observer, char **json,
    otq_error **error);

#ifdef __cplusplus
}
#endif

#endif
