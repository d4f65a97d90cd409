#include <oniguruma.h>
#include <stddef.h>

// What Swift cannot reach: macros, mutable globals and a variadic function.

/// Prepares the library; once, before anything else. Patterns may nest `depth` groups.
static inline int ot_onig_prepare(unsigned int depth) {
  OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
  int status = onig_initialize(encodings, 1);
  return status == ONIG_NORMAL ? onig_set_parse_depth_limit(depth) : status;
}

/// Compiles a pattern in UTF-8, in the library's own syntax without its callouts.
///
/// Returns 0, or an error with its text in `message`, which has room for
/// `ONIG_MAX_ERROR_MESSAGE_LEN` bytes.
static inline int ot_onig_compile(OnigRegex *regex, const OnigUChar *pattern, size_t length, OnigUChar *message) {
  OnigSyntaxType syntax;
  onig_copy_syntax(&syntax, ONIG_SYNTAX_ONIGURUMA);
  onig_set_syntax_op2(
      &syntax,
      onig_get_syntax_op2(&syntax) & ~(ONIG_SYN_OP2_QMARK_BRACE_CALLOUT_CONTENTS | ONIG_SYN_OP2_ASTERISK_CALLOUT_NAME));
  OnigErrorInfo info;
  int status =
      onig_new(regex, pattern, pattern + length, ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, &syntax, &info);
  if (status != ONIG_NORMAL) onig_error_code_to_str(message, status, &info);
  return status;
}
