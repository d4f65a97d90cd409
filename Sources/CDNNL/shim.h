// One matrix product by oneDNN, found at run time: nothing of oneDNN is needed to build.
//
// The declarations are those that its documentation gives for the C interface of
// versions 2 and 3 (https://uxlfoundation.github.io/oneDNN), as far as they are used here.
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

// MARK: Declarations

typedef int ot_dnnl_status;  // dnnl_status_t; 0 is success
typedef int64_t ot_dnnl_dims[12];  // dnnl_dims_t
typedef struct {
  int argument;
  void *memory;
} ot_dnnl_argument;  // dnnl_exec_arg_t
typedef struct {
  int major, minor, patch;
  const char *hash;
  unsigned cpu_runtime, gpu_runtime;
} ot_dnnl_version;  // dnnl_version_t

// Values of enumerations, the same in both versions.
enum { OT_DNNL_F16 = 1, OT_DNNL_BF16 = 2, OT_DNNL_F32 = 3 };  // dnnl_data_type_t
enum { OT_DNNL_ANY_LAYOUT = 1, OT_DNNL_ROW_MAJOR = 3 };  // dnnl_format_tag_any, dnnl_ab
enum { OT_DNNL_CPU = 1, OT_DNNL_IN_ORDER = 1 };  // dnnl_cpu, dnnl_stream_in_order
enum { OT_DNNL_QUERY_NAME = 8, OT_DNNL_QUERY_WEIGHTS = 131 };  // …_impl_info_str, …_weights_md
enum { OT_DNNL_SOURCE = 1, OT_DNNL_DESTINATION = 17, OT_DNNL_WEIGHTS = 33 };  // DNNL_ARG_…

/// The functions of an installed library. Handles are pointers in both versions.
struct ot_dnnl_library {
  int major, minor;
  ot_dnnl_status (*engine_create)(void **, int kind, size_t index);
  ot_dnnl_status (*engine_destroy)(void *);
  ot_dnnl_status (*stream_create)(void **, void *engine, unsigned flags);
  ot_dnnl_status (*stream_destroy)(void *);
  ot_dnnl_status (*stream_wait)(void *);
  ot_dnnl_status (*description_query)(const void *, int what, int index, void *result);
  const void *(*description_query_memory)(const void *, int what, int index);
  ot_dnnl_status (*description_destroy)(void *);
  size_t (*memory_description_size)(const void *);
  ot_dnnl_status (*primitive_create)(void **, const void *description);
  ot_dnnl_status (*primitive_execute)(const void *, void *stream, int count, const ot_dnnl_argument *);
  ot_dnnl_status (*primitive_destroy)(void *);
  ot_dnnl_status (*memory_create)(void **, const void *description, void *engine, void *data);
  ot_dnnl_status (*memory_set_data)(void *, void *data);
  ot_dnnl_status (*memory_destroy)(void *);
  // Version 2: descriptions of memory and of operations are values.
  ot_dnnl_status (*memory_description_init)(void *, int rank, const int64_t *, int type, int layout);
  ot_dnnl_status (*product_init)(void *, const void *x, const void *w, const void *bias, const void *y);
  ot_dnnl_status (*description_create)(
      void **, const void *operation, const void *attributes, void *engine, const void *hint);
  // Version 3: they are handles.
  ot_dnnl_status (*memory_description_create)(void **, int rank, const int64_t *, int type, int layout);
  ot_dnnl_status (*memory_description_destroy)(void *);
  ot_dnnl_status (*product_description_create)(
      void **, void *engine, const void *x, const void *w, const void *bias, const void *y,
      const void *attributes);
  void (*set_thread_count)(int);  // of the OpenMP that comes with it; may be missing
};

/// Finds the functions in libdnnl.so.3 or libdnnl.so.2. Returns whether one is installed.
static inline int ot_dnnl_open(struct ot_dnnl_library *d) {
  void *library = dlopen("libdnnl.so.3", RTLD_NOW | RTLD_LOCAL);
  if (!library) library = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (!library) return 0;
  const ot_dnnl_version *(*version)(void);
  *(void **)&version = dlsym(library, "dnnl_version");
  if (!version) return 0;
  d->major = version()->major;
  d->minor = version()->minor;
  int is_complete = 1;
#define OT_DNNL_FIND(member, name) is_complete &= (*(void **)&d->member = dlsym(library, name)) != NULL
  OT_DNNL_FIND(engine_create, "dnnl_engine_create");
  OT_DNNL_FIND(engine_destroy, "dnnl_engine_destroy");
  OT_DNNL_FIND(stream_create, "dnnl_stream_create");
  OT_DNNL_FIND(stream_destroy, "dnnl_stream_destroy");
  OT_DNNL_FIND(stream_wait, "dnnl_stream_wait");
  OT_DNNL_FIND(description_query, "dnnl_primitive_desc_query");
  OT_DNNL_FIND(description_query_memory, "dnnl_primitive_desc_query_md");
  OT_DNNL_FIND(description_destroy, "dnnl_primitive_desc_destroy");
  OT_DNNL_FIND(memory_description_size, "dnnl_memory_desc_get_size");
  OT_DNNL_FIND(primitive_create, "dnnl_primitive_create");
  OT_DNNL_FIND(primitive_execute, "dnnl_primitive_execute");
  OT_DNNL_FIND(primitive_destroy, "dnnl_primitive_destroy");
  OT_DNNL_FIND(memory_create, "dnnl_memory_create");
  OT_DNNL_FIND(memory_set_data, "dnnl_memory_set_data_handle");
  OT_DNNL_FIND(memory_destroy, "dnnl_memory_destroy");
  if (d->major == 2) {
    OT_DNNL_FIND(memory_description_init, "dnnl_memory_desc_init_by_tag");
    OT_DNNL_FIND(product_init, "dnnl_matmul_desc_init");
    OT_DNNL_FIND(description_create, "dnnl_primitive_desc_create");
  } else {
    OT_DNNL_FIND(memory_description_create, "dnnl_memory_desc_create_with_tag");
    OT_DNNL_FIND(memory_description_destroy, "dnnl_memory_desc_destroy");
    OT_DNNL_FIND(product_description_create, "dnnl_matmul_primitive_desc_create");
  }
#undef OT_DNNL_FIND
  *(void **)&d->set_thread_count = dlsym(library, "omp_set_num_threads");
  return is_complete;
}

// MARK: A product

struct ot_dnnl_product {
  void *engine, *stream, *description, *primitive;
  void *x, *w, *y;
  /// Bytes of the weights in the layout that oneDNN chose.
  size_t weight_byte_count;
};

/// Describes the three matrices and the product. Returns whether there is a kernel.
static inline int ot_dnnl_describe(
    const struct ot_dnnl_library *d, struct ot_dnnl_product *p, int type, int64_t m, int64_t n,
    int64_t k, void *x, void *y) {
  ot_dnnl_dims x_dims = {m, k}, w_dims = {k, n}, y_dims = {m, n};
  if (d->major == 2) {
    // dnnl_memory_desc_t takes 696 bytes in version 2, dnnl_matmul_desc_t 2,800.
    struct ot_dnnl_value {
      _Alignas(16) unsigned char bytes[2048];
    } x_value, w_value, y_value;
    _Alignas(16) unsigned char operation[8192];
    return d->memory_description_init(&x_value, 2, x_dims, type, OT_DNNL_ROW_MAJOR) == 0 &&
           d->memory_description_init(&w_value, 2, w_dims, type, OT_DNNL_ANY_LAYOUT) == 0 &&
           d->memory_description_init(&y_value, 2, y_dims, OT_DNNL_F32, OT_DNNL_ROW_MAJOR) == 0 &&
           d->product_init(operation, &x_value, &w_value, NULL, &y_value) == 0 &&
           d->description_create(&p->description, operation, NULL, p->engine, NULL) == 0 &&
           d->memory_create(&p->x, &x_value, p->engine, x) == 0 &&
           d->memory_create(&p->y, &y_value, p->engine, y) == 0;
  }
  void *x_handle = NULL, *w_handle = NULL, *y_handle = NULL;
  int works =
      d->memory_description_create(&x_handle, 2, x_dims, type, OT_DNNL_ROW_MAJOR) == 0 &&
      d->memory_description_create(&w_handle, 2, w_dims, type, OT_DNNL_ANY_LAYOUT) == 0 &&
      d->memory_description_create(&y_handle, 2, y_dims, OT_DNNL_F32, OT_DNNL_ROW_MAJOR) == 0 &&
      d->product_description_create(&p->description, p->engine, x_handle, w_handle, NULL, y_handle, NULL) == 0 &&
      d->memory_create(&p->x, x_handle, p->engine, x) == 0 &&
      d->memory_create(&p->y, y_handle, p->engine, y) == 0;
  if (x_handle) d->memory_description_destroy(x_handle);
  if (w_handle) d->memory_description_destroy(w_handle);
  if (y_handle) d->memory_description_destroy(y_handle);
  return works;
}

/// y[m][n] = x[m][k] * w[k][n], `y` in float32, the others of `type` (OT_DNNL_F32,
/// …_BF16 or …_F16); weights lie as oneDNN likes best. Returns 0 where it
/// has no kernel but a plain loop, or none at all.
static inline int ot_dnnl_create(
    const struct ot_dnnl_library *d, struct ot_dnnl_product *p, int type, int64_t m, int64_t n,
    int64_t k, void *x, void *y) {
  if (d->engine_create(&p->engine, OT_DNNL_CPU, 0) != 0) return 0;
  if (d->stream_create(&p->stream, p->engine, OT_DNNL_IN_ORDER) != 0) return 0;
  if (!ot_dnnl_describe(d, p, type, m, n, k, x, y)) return 0;
  const char *name = NULL;
  d->description_query(p->description, OT_DNNL_QUERY_NAME, 0, &name);
  if (!name || __builtin_strncmp(name, "ref", 3) == 0) return 0;
  const void *weights = d->description_query_memory(p->description, OT_DNNL_QUERY_WEIGHTS, 0);
  p->weight_byte_count = d->memory_description_size(weights);
  return d->primitive_create(&p->primitive, p->description) == 0 &&
         d->memory_create(&p->w, weights, p->engine, NULL) == 0;
}

/// Multiplies by the weights at `w`. Returns whether it worked.
static inline int ot_dnnl_run(
    const struct ot_dnnl_library *d, struct ot_dnnl_product *p, void *w) {
  if (d->memory_set_data(p->w, w) != 0) return 0;
  ot_dnnl_argument arguments[] = {
      {OT_DNNL_SOURCE, p->x}, {OT_DNNL_WEIGHTS, p->w}, {OT_DNNL_DESTINATION, p->y}};
  return d->primitive_execute(p->primitive, p->stream, 3, arguments) == 0 &&
         d->stream_wait(p->stream) == 0;
}

static inline void ot_dnnl_destroy(const struct ot_dnnl_library *d, struct ot_dnnl_product *p) {
  if (p->x) d->memory_destroy(p->x);
  if (p->w) d->memory_destroy(p->w);
  if (p->y) d->memory_destroy(p->y);
  if (p->primitive) d->primitive_destroy(p->primitive);
  if (p->description) d->description_destroy(p->description);
  if (p->stream) d->stream_destroy(p->stream);
  if (p->engine) d->engine_destroy(p->engine);
}
