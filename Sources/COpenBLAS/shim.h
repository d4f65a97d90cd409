#include <cblas.h>

// OpenBLAS holds LAPACK as well; Debian's header of it is a package of its own.
// The Cholesky factor of a symmetric positive definite matrix, column-major, in place.
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
