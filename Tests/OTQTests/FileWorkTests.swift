import Foundation
import OTQ
import Testing
import _OTTestSupport

/// Long work on files, as an app has it.
@Suite struct FileWorkTests {
  private static let checkpoint = Fixtures.path("models/llama-mini")

  private var options: ConvertOptions {
    var options = ConvertOptions()
    options.bits = 6
    options.isCalibrated = false
    options.threadCount = 2
    return options
  }

  @Test func aConversionTellsItsProgressAndThenItsResult() async throws {
    let folder = try TemporaryFolder()
    let output = folder.path + "/m.otq"
    var stages: [WorkStage] = []
    var results: [ConvertResult] = []
    for try await step in try ModelFile.convert(Self.checkpoint, to: output, options: options) {
      switch step {
      case .progress(let progress):
        #expect(results.isEmpty)
        #expect((0...1).contains(progress.fraction))
        stages.append(progress.stage)
      case .finished(let result): results.append(result)
      }
    }
    #expect(results.count == 1)
    #expect(!stages.isEmpty && stages.allSatisfy { $0 == .converting })
    let result = try #require(results.first)
    let attributes = try FileManager.default.attributesOfItem(atPath: output)
    #expect(result.byteCount == (attributes[.size] as? NSNumber)?.intValue)
    #expect(result.method == "hadamard")
    // 6 bits and the scales, compressed.
    #expect((5.0...7.0).contains(result.linearBitsPerWeight))
    let verified = try await ModelFile.verify(output, against: Self.checkpoint).result()
    #expect(verified.hasPassed, "\(verified.faults)")
  }

  @Test func aFileOfAnotherModelIsAResultWithFaults() async throws {
    let folder = try TemporaryFolder()
    let output = folder.path + "/m.otq"
    _ = try await ModelFile.convert(Self.checkpoint, to: output, options: options).result()
    let result = try await ModelFile.verify(output, against: Fixtures.path("models/opt-mini")).result()
    #expect(!result.hasPassed)
    #expect(!result.faults.isEmpty)
  }

  @Test func aCancelledTaskLeavesNothing() async throws {
    let folder = try TemporaryFolder()
    let output = folder.path + "/m.otq"
    let work = try ModelFile.convert(Self.checkpoint, to: output, options: options)
    let task = Task { () -> String in
      do {
        while !Task.isCancelled { await Task.yield() }
        _ = try await work.result()
        return "done"
      } catch {
        return (error as? Refusal)?.rule ?? "\(error)"
      }
    }
    task.cancel()
    #expect(await task.value == "cancelled")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }

  /// Work that has begun ends, too: a calibration of seconds at its first progress.
  @Test func aTaskThatIsCancelledMeanwhileLeavesNothing() async throws {
    let folder = try TemporaryFolder()
    var options = options
    options.isCalibrated = true
    let work = try ModelFile.convert(Self.checkpoint, to: folder.path + "/m.otq", options: options)
    let task = Task { () -> String in
      do {
        for try await step in work {
          if case .progress = step { withUnsafeCurrentTask { $0?.cancel() } }
        }
        return "done"
      } catch {
        return (error as? Refusal)?.rule ?? "\(error)"
      }
    }
    #expect(await task.value == "cancelled")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }

  @Test func anExportOfAPackedFileIsAFolder() async throws {
    let folder = try TemporaryFolder()
    let output = folder.path + "/m.otq"
    _ = try await ModelFile.convert(Self.checkpoint, to: output, options: options).result()
    let settings = ExportOptions()
    do {
      // Its residual stream is rotated online: the format has no place for that.
      _ = try await ModelFile.export(output, to: folder.path + "/mlx", format: "mlx", options: settings).result()
      Issue.record("a format without rotations took one")
    } catch {
      #expect(error.rule.hasPrefix("export-"))
    }
    let checkpoint = try await ModelFile.export(
      Self.checkpoint, to: folder.path + "/copy", format: "safetensors",
      options: ExportOptions(named: ["method": ["per-token"], "threads": ["2"]])
    ).result()
    #expect(checkpoint.warnings.contains { $0.contains("only copied") })
    #expect(FileManager.default.fileExists(atPath: folder.path + "/copy/config.json"))
    #expect(Set(try FileManager.default.contentsOfDirectory(atPath: folder.path)) == ["m.otq", "copy"])
  }

  @Test func wrongOptionsAreRefusedBeforeAnythingIsRead() throws {
    func rule(_ options: [String: [String]]) -> String? {
      do throws(Refusal) {
        _ = try ConvertOptions(named: options)
        return nil
      } catch {
        return error.rule
      }
    }
    #expect(rule(["bits": ["6"], "weights-only": [], "exclude": ["lm_head", "embed"]]) == nil)
    #expect(rule(["bits": ["9"]]) == "option-value")
    #expect(rule(["bits": []]) == "option-value")
    #expect(rule(["weights-only": ["true"]]) == "option-value")
    #expect(rule(["weight": ["6"]]) == "option-unknown")
    #expect(rule(["text": ["a"], "ids": ["b"]]) == "option-conflict")
    #expect(rule(["method": ["unheard-of"]])?.hasPrefix("method") == true)
  }

  @Test func optionsByNameAreThoseOfTheCommand() throws {
    let options = try ConvertOptions(named: [
      "bits": ["4"], "activation-bits": ["16"], "group-size": ["64"], "embedding-bits": ["16"],
      "bits-for": ["down=8"], "weight-scheme": ["symmetric"], "rounding": ["gptq"], "compression": ["none"],
      "text": ["a.txt", "b.txt"], "samples": ["7"], "length": ["99"], "seed": ["5"], "max-memory": ["2G"],
      "method": ["awq"], "save-recipe": ["r.json"], "force": [], "resume": [], "threads": ["3"],
    ])
    var expected = ConvertOptions()
    (expected.bits, expected.activationBits, expected.groupSize, expected.embeddingBits) = (4, 16, 64, 16)
    (expected.bitsFor, expected.weightScheme, expected.rounding) = (["down=8"], .symmetric, "gptq")
    (expected.compression, expected.methods, expected.savedRecipe) = (.none, ["awq"], "r.json")
    (expected.replacesOutput, expected.threadCount, expected.maximumByteCount) = (true, 3, 2_000_000_000)
    (expected.text.paths, expected.text.sampleCount) = (["a.txt", "b.txt"], 7)
    (expected.text.length, expected.text.seed) = (99, 5)
    expected.resumes = true
    #expect(options == expected)
  }
}

/// A folder that is gone with the object.
private final class TemporaryFolder: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("otq-work-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}
