import Foundation
import Testing
import _OTTestSupport

/// That decoding a token takes no memory from the heap.
@Suite struct AllocationTests {
  /// Counts calls of the allocator of a program that has this preloaded.
  private static let counter = """
    #include <stdatomic.h>
    #include <stdio.h>
    #include <stdlib.h>
    void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
    void *__libc_memalign(size_t, size_t);
    static atomic_long count;
    void *malloc(size_t n) { return count++, __libc_malloc(n); }
    void *calloc(size_t n, size_t m) { return count++, __libc_calloc(n, m); }
    void *realloc(void *p, size_t n) { return count++, __libc_realloc(p, n); }
    void *aligned_alloc(size_t a, size_t n) { return count++, __libc_memalign(a, n); }
    int posix_memalign(void **p, size_t a, size_t n) { return count++, (*p = __libc_memalign(a, n)) ? 0 : 12; }
    __attribute__((destructor)) static void report(void) { fprintf(stderr, "allocations %ld\\n", (long)count); }
    """

  @Test(arguments: [
    ("llama-mini", ["--bits=6"]), ("opt-mini", ["--bits=8"]), ("bloom-mini", ["--bits=6"]),
    // Weights that are floats.
    ("llama-mini", ["--bits=6", "--embedding-bits=16"]),
    ("opt-mini", ["--bits=6", "--exclude=layers.0", "--compression=none"]),
  ])
  func decodingAllocatesNothing(model: String, options: [String]) throws {
    try withTemporaryFolder { folder in
      let (source, library, packed) = (folder + "/count.c", folder + "/count.so", folder + "/model.otq")
      try Self.counter.write(toFile: source, atomically: true, encoding: .utf8)
      let compiling = try Tool.shell("clang -O1 -shared -fPIC '\(source)' -o '\(library)'")
      try #require(compiling.status == 0, "\(compiling.errors)")
      let converting = try Tool.finish(
        Tool.process([Fixtures.path("models/" + model), packed, "--no-calibration", "--quiet"] + options))
      try #require(converting.status == 0, "\(converting.errors)")

      /// The fewest of three: threads that start while something else allocates may cost some more.
      func count(tokenCount: Int) throws -> Int {
        try #require(try (0..<3).map { _ in try countOnce(tokenCount: tokenCount) }.min())
      }
      func countOnce(tokenCount: Int) throws -> Int {
        let arguments = ["model", packed, "--prompt", "4", "--runs", "1", "--threads", "2"]
        let process = Tool.process(arguments + ["--decode", "\(tokenCount)"], environment: ["LD_PRELOAD": library])
        process.executableURL = Tool.folder.appendingPathComponent("otbench")
        let outcome = try Tool.finish(process)
        #expect(outcome.status == 0, "\(outcome.errors)")
        let line = try #require(outcome.errors.split(separator: "\n").last { $0.hasPrefix("allocations ") })
        return try #require(Int(line.dropFirst("allocations ".count)))
      }
      // The benchmark decodes twice: 400 tokens more. Threads that start under load differ by up to
      // twenty; one allocation in ten tokens would be forty.
      #expect(try count(tokenCount: 240) - count(tokenCount: 40) < 40)
    }
  }
}
