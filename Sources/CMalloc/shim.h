#include <stdlib.h>

#if defined(__GLIBC__)
#include <malloc.h>

/// Returns freed memory of the heap to the system.
static inline void ot_return_free_memory(void) { malloc_trim(0); }
#else
static inline void ot_return_free_memory(void) {}
#endif
