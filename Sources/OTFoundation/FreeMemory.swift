import CMalloc

/// Returns freed memory of the heap to the system where the allocator keeps it: after
/// parsing much JSON, tens of megabytes that nothing needs again.
package func returnFreeMemory() { ot_return_free_memory() }
