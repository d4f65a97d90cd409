import Foundation
import Testing
import _OTTestSupport

/// Programs in C that use the library as those of others do, under AddressSanitizer.
@Suite struct CLibraryTests {
  private static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path

  /// Compiles a program of formats/c and runs it.
  private func run(_ program: String, in folder: String, _ arguments: String) throws -> Tool.Outcome {
    let library = Tool.folder.path
    return try Tool.shell(
      """
      set -e
      clang -std=c11 -Wall -Wextra -Werror -g -fsanitize=address,undefined -fno-sanitize-recover=undefined \
        -I '\(Self.repository)/Sources/COTQ' '\(Self.repository)/formats/c/\(program).c' -o '\(folder)/\(program)' \
        -L '\(library)' -lotq -Wl,-rpath,'\(library)'
      ASAN_OPTIONS=detect_leaks=1 '\(folder)/\(program)' \(arguments)
      """)
  }

  @Test func theExampleRunsWithoutAFaultOrALeak() throws {
    try withTemporaryFolder { folder in
      let output = folder + "/m.otq"
      let result = try run("example", in: folder, "'\(Fixtures.path("models/llama-mini"))' '\(output)' 'And God said'")
      #expect(result.status == 0, "\(result.errors)")
      for part in ["told of progress", "cancelled: 2, cancelled", "verified: ", " scales, the first", "\"stopReason\""]
      {
        #expect(result.output.contains(part), "\(part) is not in \(result.output)")
      }
      #expect(!FileManager.default.fileExists(atPath: output + ".cancelled"))
      let refused = try Tool.shell("'\(folder)/example' /nowhere '\(output)'")
      #expect(refused.status == 1)
      #expect(refused.errors.contains("refused by file-missing: /nowhere"), "\(refused.errors)")
    }
  }

  @Test func damagedFilesAreErrorsAndNothingElse() throws {
    try withTemporaryFolder { folder in
      let packed = folder + "/small.otq"
      let made = try Tool.run(
        Fixtures.path("models/opt-mini"), packed, "--bits", "6", "--no-calibration", "--quiet")
      #expect(made.status == 0, "\(made.errors)")
      let files = [
        packed, Fixtures.path("gguf/types.gguf"), Fixtures.path("pytorch/training_checkpoint.pt"),
        Fixtures.path("pytorch/legacy.bin"), Fixtures.path("pytorch/training_checkpoint_pt.expected.safetensors"),
      ]
      let work = folder + "/damaged"
      try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true)
      let seed = UInt64.random(in: 0...1_000_000)
      let list = files.map { "'\($0)'" }.joined(separator: " ")
      let result = try run("damage", in: folder, "'\(work)' \(seed) 60 \(list)")
      #expect(result.status == 0, "seed \(seed): \(result.errors)")
      #expect(result.output.contains(" refusals"), "\(result.output)")
    }
  }
}
