// One matrix product by oneDNN, whose C interface differs between versions 2 and 3.
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

struct ot_dnnl_product {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_desc_t description;
  dnnl_primitive_t primitive;
  dnnl_memory_t x, w, y;
  /// Bytes of the weights in the layout that oneDNN chose.
  size_t weight_byte_count;
};

/// y[m][n] = x[m][k] * w[k][n], `y` in float32, the others of `type` (dnnl_f32,
/// dnnl_bf16 or dnnl_f16); weights lie as oneDNN likes best. Returns 0 where it
/// has no kernel but a plain loop, or none at all.
static inline int ot_dnnl_create(
    struct ot_dnnl_product *p, dnnl_data_type_t type, int64_t m, int64_t n, int64_t k, void *x,
    void *y) {
  dnnl_dims_t x_dims = {m, k}, w_dims = {k, n}, y_dims = {m, n};
  dnnl_primitive_desc_t description = NULL;
  if (dnnl_engine_create(&p->engine, dnnl_cpu, 0) != dnnl_success) return 0;
  if (dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) != dnnl_success) return 0;
#if DNNL_VERSION_MAJOR >= 3
  dnnl_memory_desc_t x_desc, w_desc, y_desc;
  if (dnnl_memory_desc_create_with_tag(&x_desc, 2, x_dims, type, dnnl_ab) != dnnl_success ||
      dnnl_memory_desc_create_with_tag(&w_desc, 2, w_dims, type, dnnl_format_tag_any) != dnnl_success ||
      dnnl_memory_desc_create_with_tag(&y_desc, 2, y_dims, dnnl_f32, dnnl_ab) != dnnl_success)
    return 0;
  if (dnnl_matmul_primitive_desc_create(&description, p->engine, x_desc, w_desc, NULL, y_desc, NULL) !=
      dnnl_success)
    return 0;
#else
  dnnl_memory_desc_t x_value, w_value, y_value;
  dnnl_matmul_desc_t operation;
  if (dnnl_memory_desc_init_by_tag(&x_value, 2, x_dims, type, dnnl_ab) != dnnl_success ||
      dnnl_memory_desc_init_by_tag(&w_value, 2, w_dims, type, dnnl_format_tag_any) != dnnl_success ||
      dnnl_memory_desc_init_by_tag(&y_value, 2, y_dims, dnnl_f32, dnnl_ab) != dnnl_success ||
      dnnl_matmul_desc_init(&operation, &x_value, &w_value, NULL, &y_value) != dnnl_success)
    return 0;
  if (dnnl_primitive_desc_create(&description, &operation, NULL, p->engine, NULL) != dnnl_success)
    return 0;
  const dnnl_memory_desc_t *x_desc = &x_value, *y_desc = &y_value;
#endif
  p->description = description;
  const char *implementation = NULL;
  dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &implementation);
  if (!implementation || __builtin_strncmp(implementation, "ref", 3) == 0) return 0;
  p->weight_byte_count =
      dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0));
  if (dnnl_primitive_create(&p->primitive, description) != dnnl_success) return 0;
  if (dnnl_memory_create(&p->x, x_desc, p->engine, x) != dnnl_success) return 0;
  if (dnnl_memory_create(&p->y, y_desc, p->engine, y) != dnnl_success) return 0;
  return dnnl_memory_create(
             &p->w, dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0), p->engine,
             DNNL_MEMORY_NONE) == dnnl_success;
}

/// Multiplies by the weights at `w`. Returns whether it worked.
static inline int ot_dnnl_run(struct ot_dnnl_product *p, void *w) {
  if (dnnl_memory_set_data_handle(p->w, w) != dnnl_success) return 0;
  dnnl_exec_arg_t arguments[] = {
      {DNNL_ARG_SRC, p->x}, {DNNL_ARG_WEIGHTS, p->w}, {DNNL_ARG_DST, p->y}};
  return dnnl_primitive_execute(p->primitive, p->stream, 3, arguments) == dnnl_success &&
         dnnl_stream_wait(p->stream) == dnnl_success;
}

static inline void ot_dnnl_destroy(struct ot_dnnl_product *p) {
  if (p->x) dnnl_memory_destroy(p->x);
  if (p->w) dnnl_memory_destroy(p->w);
  if (p->y) dnnl_memory_destroy(p->y);
  if (p->primitive) dnnl_primitive_destroy(p->primitive);
  if (p->description) dnnl_primitive_desc_destroy(p->description);
  if (p->stream) dnnl_stream_destroy(p->stream);
  if (p->engine) dnnl_engine_destroy(p->engine);
}
