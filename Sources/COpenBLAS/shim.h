// Matrix products of OpenBLAS, found at run time: its threads come into being when it is loaded,
// and a program that multiplies no floats should have none.
//
// The declarations are those of the C interface to the BLAS (www.netlib.org/blas/blast-forum), with
// 32-bit sizes, as far as they are used here.
#include <dlfcn.h>
#include <stdlib.h>

// Values of enumerations of cblas.h.
enum { OT_BLAS_ROW_MAJOR = 101, OT_BLAS_AS_IT_IS = 111, OT_BLAS_TRANSPOSED = 112 };

/// The functions of an installed library.
struct ot_blas_library {
  void (*sgemm)(
      int order, int transposes_a, int transposes_b, int m, int n, int k, float alpha, const float *a, int lda,
      const float *b, int ldb, float beta, float *c, int ldc);
  void (*sgemv)(
      int order, int transposes, int m, int n, float alpha, const float *a, int lda, const float *x, int incx,
      float beta, float *y, int incy);
  // LAPACK's: the Cholesky factor of a symmetric positive definite matrix, column-major, in place.
  void (*dpotrf)(const char *uplo, const int *n, double *a, const int *lda, int *info);
  void (*dpotrs)(const char *uplo, const int *n, const int *count, const double *a, const int *lda, double *b,
                 const int *ldb, int *info);
  void (*set_thread_count)(int);
};

/// Loads the library, without threads of its own; returns null, or what is wrong.
static inline const char *ot_blas_load(struct ot_blas_library *library) {
  static const char *const names[] = {
      "libopenblas.so.0", "libopenblas.so", "libopenblas.0.dylib", "libopenblas.dylib",
      "/opt/homebrew/opt/openblas/lib/libopenblas.dylib", "/usr/local/opt/openblas/lib/libopenblas.dylib"};
  // Read by the library when it is loaded. Without memory for its threads it would wait for them for ever.
  const char *const variable = "OPENBLAS_NUM_THREADS";
  const int is_set = getenv(variable) != NULL;
  if (!is_set) setenv(variable, "1", 0);
  void *handle = NULL;
  for (size_t i = 0; handle == NULL && i < sizeof names / sizeof *names; ++i) {
    handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  }
  if (!is_set) unsetenv(variable);
  if (handle == NULL) {
    // What is wrong with the first name, not with a place of another system.
    dlopen(names[0], RTLD_NOW | RTLD_LOCAL);
    return dlerror();
  }
  *(void **)&library->sgemm = dlsym(handle, "cblas_sgemm");
  *(void **)&library->dpotrf = dlsym(handle, "dpotrf_");
  *(void **)&library->dpotrs = dlsym(handle, "dpotrs_");
  *(void **)&library->sgemv = dlsym(handle, "cblas_sgemv");
  *(void **)&library->set_thread_count = dlsym(handle, "openblas_set_num_threads");
  const int is_complete = library->sgemm && library->dpotrf && library->dpotrs && library->sgemv && library->set_thread_count;
  return is_complete ? NULL : "it lacks functions of the BLAS";
}
