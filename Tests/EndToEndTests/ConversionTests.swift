import Foundation
import OTCheckpoint
import OTJSON
import OTTensor
import Testing
import _OTTestSupport

/// Every family, source format and storage through convert, inspect, verify and unpack.
@Suite struct ConversionTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let source: String
    /// Folder of the statistics, if OutlierTune is applied.
    var statistics: String?
    var isSymmetrized = false
    var bits = 6
    var options: [String] = []
    var testDescription: String {
      "\(source) \(bits) bits \(statistics == nil ? "" : isSymmetrized ? "symmetrized" : "static") \(options.joined(separator: " "))"
    }

    var arguments: [String] {
      // What calibration makes of a model, CalibrationTests test.
      var arguments = ["--bits", "\(bits)", "--no-calibration"] + options
      if let statistics {
        let folder = Fixtures.path("models/\(statistics)")
        arguments += ["--act-scales", folder + (isSymmetrized ? "/act_scales_sym.pt" : "/act_scales.pt")]
        if isSymmetrized {
          arguments += ["--symmetrization", folder + "/symmetrizations.pt", "--symmetrization-samples", "32"]
        }
      }
      return arguments
    }
  }

  static let cases: [Case] = [
    Case(source: "opt-mini"), Case(source: "opt-mini/model.safetensors", bits: 8),
    Case(source: "opt-mini/pytorch_model.bin"),
    Case(source: "opt-mini", statistics: "opt-mini"),
    Case(source: "opt-mini", statistics: "opt-mini", isSymmetrized: true),
    Case(source: "opt-mini", statistics: "opt-mini", isSymmetrized: true, options: ["--compression", "none"]),
    Case(source: "opt-mini", options: ["--weight-scheme", "symmetric"]),
    Case(source: "opt-mini", bits: 4, options: ["--group-size", "32"]),
    Case(source: "opt-mini", bits: 5, options: ["--per-tensor", "--compression", "none"]),
    Case(source: "opt-mini", options: ["--embedding-bits", "16", "--exclude", "layers.0.*fc"]),
    Case(source: "bloom-mini", statistics: "bloom-mini", isSymmetrized: true),
    Case(source: "bloom-mini/model.safetensors.index.json", bits: 8),
    Case(source: "bloom-mini/pytorch_model.bin", bits: 8, options: ["--compression", "none"]),
    Case(source: "llama-mini", statistics: "llama-mini", isSymmetrized: true),
    Case(source: "llama-mini", statistics: "llama-mini", bits: 8),
    Case(source: "llama-mini/pytorch_model.bin", options: ["--weights-only"]),
    Case(source: "bert-mini"), Case(source: "bert-mini/pytorch_model.bin", bits: 8),
  ]

  @Test(arguments: cases) func convertsVerifiesAndUnpacks(_ test: Case) throws {
    try withTemporaryFolder { folder in
      let source = Fixtures.path("models/\(test.source)")
      let packed = folder + "/model.otq"
      let convert = Tool.process([source, packed] + test.arguments)
      let converted = try Tool.finish(convert)
      #expect(converted.status == 0, "\(converted.errors)")

      let verified = try Tool.run("verify", packed, "--reference", source)
      #expect(verified.status == 0, "\(verified.errors)")
      #expect(verified.output.contains("verified: "))

      let inspected = try JSONValue.parse(try Tool.run("inspect", packed, "--json").output)
      let checkpoint = try Checkpoint.open(source)
      let sources = Set((inspected["tensors"]?.array ?? []).compactMap { $0["source"]?.string })
      #expect(sources == Set(checkpoint.tensors.map { "\($0.name) \($0.elementType.rawValue)" }))
      let bits = (inspected["tensors"]?.array ?? []).compactMap { $0["bits"]?.integer }
      #expect(bits.contains(test.bits))
      #expect((inspected["sources"]?.array ?? []).allSatisfy { ($0["sha256"]?.string ?? "").count == 64 })

      let restored = folder + "/restored.safetensors"
      let unpacked = try Tool.run("unpack", packed, restored)
      #expect(unpacked.status == 0, "\(unpacked.errors)")
      try expectNear(try Checkpoint.open(restored), checkpoint, bits: test.bits)
    }
  }

  /// Names, types and shapes are the source's, and no tensor is far off:
  /// relative to its largest element, undone scales included.
  private func expectNear(_ restored: Checkpoint, _ source: Checkpoint, bits: Int) throws {
    #expect(Set(restored.tensors.map(\.name)) == Set(source.tensors.map(\.name)))
    for view in source.tensors {
      let other = try #require(restored[view.name])
      #expect(other.shape == view.shape && other.elementType == view.elementType, "\(view.name)")
      guard view.elementType == .f16 else { continue }
      let expected = Self.halves(view), actual = Self.halves(other)
      let energy = expected.reduce(0) { $0 + $1 * $1 }
      let error = zip(expected, actual).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      // 6 dB a bit, and much room: this finds tensors that were not undone, not
      // the last step. Biases hold the remainder (W − Ŵ)·z of symmetrization.
      let allowed = view.shape.rank == 1 ? 0.3 : pow(10, -Double(6 * bits - 18) / 20)
      #expect(error.squareRoot() <= allowed * energy.squareRoot() + 1e-6, "\(view.name)")
    }
  }

  static func halves(_ view: TensorView) -> [Double] {
    view.withRowBytes(0..<view.shape.rowCount) { bytes in
      (0..<view.shape.elementCount).map { index in
        Double(Float16(bitPattern: bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)))
      }
    }
  }

  @Test func theBytesDependOnNothingButSourceAndOptions() throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/opt-mini")
      let sets = ["scalar", "avx2", "avx512vnni"].filter { set in
        (try? Tool.run("inspect", model, environment: ["OTQ_ISA": set]).status) == 0
      }
      #expect(sets.contains("scalar"))
      var files: [Data] = []
      for (threads, set) in [("1", "scalar"), ("2", "scalar"), ("7", "scalar")] + sets.map({ ("3", $0) }) {
        let path = folder + "/\(threads)-\(set).otq"
        let outcome = try Tool.run(
          model, path, "--bits", "6", "--threads", threads, "--act-scales", model + "/act_scales_sym.pt",
          "--symmetrization", model + "/symmetrizations.pt", "--symmetrization-samples", "32", "--force",
          environment: ["OTQ_ISA": set])
        #expect(outcome.status == 0, "\(outcome.errors)")
        files.append(try contents(path))
      }
      #expect(Set(files).count == 1)
    }
  }

  @Test func demoRunsFromAnyFolder() throws {
    try withTemporaryFolder { folder in
      let outcome = try Tool.run("demo", in: folder)
      #expect(outcome.status == 0, "\(outcome.errors)")
      #expect(outcome.output.contains("verified: 68 tensors"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }
  }

  /// The folder of the package `otq`.
  static let pythonPackage = Fixtures.root.deletingLastPathComponent().appendingPathComponent("formats/python").path

  /// The reader that follows formats/otq.md reads what earlier versions wrote.
  @Test(arguments: ["opt", "bloom", "llama", "bert"])
  func pythonReaderVerifiesFilesOfVersion1_0(family: String) throws {
    let python = ProcessInfo.processInfo.environment["OTQ_PYTHON"] ?? "python3"
    let path = Fixtures.path("previous-versions/1.0/\(family).otq")
    let outcome = try Tool.shell("cd '\(Self.pythonPackage)' && \(python) -B -m otq '\(path)' --verify")
    #expect(outcome.status == 0, "\(outcome.errors)")
  }

  @Test(arguments: ["opt-mini", "bloom-mini", "llama-mini", "bert-mini"])
  func pythonReaderGivesTheSameTensors(model: String) throws {
    let python = ProcessInfo.processInfo.environment["OTQ_PYTHON"] ?? "python3"
    guard try Tool.shell("\(python) -c 'import numpy, zstandard, safetensors'").status == 0 else {
      Issue.record("needs numpy, zstandard and safetensors: scripts/test installs them")
      return
    }
    // Everything is float in the copy, so that unpack writes what the file holds.
    let script = """
      import sys
      sys.path.insert(0, sys.argv[1])
      import numpy, otq
      from safetensors.numpy import load_file
      expected = load_file(sys.argv[4])
      for path in sys.argv[2:4]:
          with otq.safe_open(path) as file:
              names = [name for name in file.keys() if "source" in file.entry(name)]
              assert sorted(names) == sorted(expected), "names differ"
              for name in names:
                  value = file.get_slice(name)[...].astype(expected[name].dtype)
                  assert numpy.array_equal(value, expected[name]), name
              assert file.get_attachment("config.json") == open(sys.argv[5], "rb").read()
      print("same", len(names))
      """
    try withTemporaryFolder { folder in
      let source = Fixtures.path("models/\(model)")
      for (name, options) in [("zstd", []), ("none", ["--compression", "none"])] {
        let outcome = try Tool.finish(
          Tool.process(
            [source, "\(folder)/\(name).otq", "--bits", "6", "--group-size", "48", "--method", "per-token"] + options))
        #expect(outcome.status == 0, "\(outcome.errors)")
      }
      #expect(try Tool.run("unpack", folder + "/zstd.otq", folder + "/unpacked.safetensors").status == 0)
      try script.write(toFile: folder + "/compare.py", atomically: true, encoding: .utf8)
      let outcome = try Tool.shell(
        "\(python) -B '\(folder)/compare.py' '\(Self.pythonPackage)' '\(folder)/zstd.otq' '\(folder)/none.otq'"
          + " '\(folder)/unpacked.safetensors' '\(source)/config.json'")
      #expect(outcome.status == 0 && outcome.output.hasPrefix("same"), "\(outcome.errors)")
    }
  }
}
