import Foundation
import OTCheckpoint
import OTContainer
import OTConversion
import OTExport
import OTFoundation
import OTGraph
import OTModel
import OTRuntime
import OTTensor
import OTVerify
import Testing
import _OTModelSupport
import _OTTestSupport

enum FileManagerFile {
  static func remove(_ path: String) throws { try FileManager.default.removeItem(atPath: path) }
}

@Suite struct ConverterTests {
  /// Logits of a checkpoint by the float executor.
  func logits(_ path: String) throws -> [Float] {
    let checkpoint = try Checkpoint.open(path)
    let graph = try #require(try ConversionPlan(checkpoint: checkpoint, options: ConversionOptions()).graph)
    let executor = try FloatExecutor(
      graph: graph, parameters: ParameterReader(checkpoint.tensors), threadCount: 2)
    let tokens = (0..<48).map { 5 + $0 * 37 % 2000 }
    return try executor.run(tokenIDs: tokens).output("logits").values
  }

  /// The unpacked file is the model again: the float outputs of source and
  /// unpacked file agree as closely as 8 bits allow, transformations or not.
  @Test(arguments: [
    (Fixture.opt, FixtureMethod.perToken), (.bloom, .perToken), (.llama, .perToken), (.bert, .perToken),
    (.opt, .outlierTune), (.bloom, .outlierTune), (.llama, .outlierTuneWithoutSymmetrization),
  ])
  func unpackedModelsComputeTheSame(fixture: Fixture, method: FixtureMethod) throws {
    try withTemporaryFolder { folder in
      let file = try fixture.packed(method)
      #expect(try #require(file.graph).transforms.isEmpty == (method == .perToken))
      try unpack(file, to: folder + "/model.safetensors")
      try FileManager.default.copyItem(
        atPath: fixture.path("config.json"), toPath: folder + "/config.json")
      let expected = try logits(fixture.folder)
      let actual = try logits(folder)
      let range = (expected.max() ?? 0) - (expected.min() ?? 0)
      let worst = zip(expected, actual).map { abs($0 - $1) }.max() ?? .infinity
      #expect(worst < 0.05 * range, "\(worst) of \(range)")
      #expect(worst > 0)
    }
  }

  private struct Enough: Error {}

  /// A check of all sums tells how far it is also among the files that are attached, and ends there.
  @Test func aCheckOfSumsEndsWhereItIsTold() throws {
    let file = try Fixture.llama.packed(.perToken)
    let container = file.container
    let tensors = container.tensors.reduce(0) { $0 + container.storedByteCount(of: $1) }
    var told: [(done: Int, total: Int)] = []
    try container.verify(threadCount: 2) { told.append(($0, $1)) }
    let total = try #require(told.first).total
    #expect(told.first?.done == 0 && told.last?.done == total && total > tensors)
    #expect(told.allSatisfy { $0.total == total } && zip(told, told.dropFirst()).allSatisfy { $0.done <= $1.done })
    #expect(told.count > container.tensors.count)
    // What is left are tokenizer and configuration.
    var last = 0
    #expect(throws: Enough.self) {
      try container.verify(threadCount: 2) { done, _ in
        last = done
        if told.suffix(2).first?.done == done { throw Enough() }
      }
    }
    #expect(last < total && total - last < total / 4)
  }

  /// The wait for the digests of the sources ends, too, whoever computes them.
  @Test(arguments: [1, 4]) func theWaitForDigestsEnds(threadCount: Int) throws {
    try withTemporaryFolder { folder in
      let path = folder + "/source"
      // Sparse: it takes longer than the wait between two checks, but no disk.
      let size = 1 << 30
      #expect(truncate(path, size: size))
      let digests = SourceDigests([("source", try MappedFile(path: path))], threadCount: threadCount)
      defer { digests.cancel() }
      #expect(throws: Enough.self) { try digests.records { throw Enough() } }
    }
  }

  private func truncate(_ path: String, size: Int) -> Bool {
    guard FileManager.default.createFile(atPath: path, contents: nil),
      let handle = FileHandle(forWritingAtPath: path)
    else { return false }
    return (try? handle.truncate(atOffset: UInt64(size))) != nil
  }

  /// `output-no-space`: nothing is begun that the disk has no room for.
  @Test(arguments: [Compression.standard, .none])
  func tooLittleSpaceIsRefusedBeforehand(compression: Compression) throws {
    try withTemporaryFolder { folder in
      var options = ConversionOptions()
      options.compression = compression
      let plan = try ConversionPlan(checkpoint: Fixture.llama.checkpoint(), options: options)
      // zstd hardly stores less than seven tenths of what is estimated; without it the estimate is exact.
      let stored = plan.estimate.storedByteCount
      let needed = compression == .none ? stored : stored / 10 * 7
      var asked: [String] = []
      func convert(free: Int?) throws {
        try FileManager.default.createDirectory(atPath: folder + "/out", withIntermediateDirectories: true)
        _ = try Converter(plan).run(to: folder + "/out/m.otq", force: true) { _, _ in
        } freeByteCount: {
          asked.append($0)
          return free
        }
      }
      let refusal = #expect(throws: Refusal.self) { try convert(free: needed - 1) }
      #expect(refusal?.rule == "output-no-space")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/out") == [])
      #expect(asked == [folder + "/out"])
      try convert(free: needed)
      try convert(free: nil)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/out") == ["m.otq"])
    }
  }

  @Test func allFloatTypesAndCarriedTypes() throws {
    try withTemporaryFolder { folder in
      var random = SeededGenerator(seed: 3)
      let values = (0..<32 * 48).map { _ in Float.random(in: -1...1, using: &random) }
      var builder = CheckpointBuilder()
      builder.add("f32", [32, 48], floats: values)
      builder.tensors.append(("f64", .f64, [32, 48], values.map(Double.init).withUnsafeBytes { Array($0) }))
      builder.tensors.append(
        (
          "bf16", .bf16, [32, 48],
          values.map { UInt16(truncatingIfNeeded: $0.bitPattern >> 16) }.withUnsafeBytes { Array($0) }
        ))
      builder.tensors.append(
        ("f16", .f16, [32, 48], values.map { Float16($0).bitPattern }.withUnsafeBytes { Array($0) }))
      builder.tensors.append(("i64", .i64, [2, 3], (0..<48).map { UInt8($0) }))
      builder.tensors.append(("bool", .bool, [5], [0, 1, 1, 0, 1]))
      builder.tensors.append(("empty", .f32, [0, 4], []))
      builder.tensors.append(("scalar", .f32, [], [0, 0, 0x80, 0x3F]))
      let checkpoint = try builder.write(to: folder + "/model.safetensors")
      var options = ConversionOptions()
      options.isWeightsOnly = true
      let file = try convert(checkpoint, options, to: folder + "/m.otq")
      for name in ["f32", "f64", "bf16", "f16"] { #expect(file.container[name]?.scheme?.bits == 8) }
      #expect(try WeightVerification(of: file, reference: SourceModel(checkpoint, path: folder)).hasPassed)
      try unpack(file, to: folder + "/u.safetensors")
      let unpacked = try Checkpoint.open(folder + "/u.safetensors")
      for view in checkpoint.tensors {
        let other = try #require(unpacked[view.name])
        #expect(other.elementType == view.elementType && other.shape == view.shape)
        guard file.container[view.name]?.scheme == nil else { continue }
        let same = view.withRowBytes(0..<view.shape.rowCount) { a in
          other.withRowBytes(0..<view.shape.rowCount) { a.elementsEqual($0) }
        }
        #expect(same, "\(view.name)")
      }
    }
  }

  /// Rows without columns are not to be counted: 2^31 of them would take minutes.
  @Test func quantizedRowsWithoutColumnsAreUnpacked() throws {
    try withTemporaryFolder { folder in
      let scheme = try #require(QuantizationScheme(bits: 8, isSymmetric: true, granularity: .perTensor))
      let writer = try ContainerWriter(path: folder + "/m.otq")
      for index in 0..<100 {
        try writer.addQuantized(
          name: "w\(index)", shape: try #require(Shape([(1 << 31) - 1, 0])), scheme: scheme, codes: 0..<0, scales: [1],
          zeroPoints: [], source: .init(name: "w\(index)", elementType: .f16), error: nil)
      }
      try writer.commit(metadata: [:])
      try unpack(PackedModel(path: folder + "/m.otq"), to: folder + "/u.safetensors")
      #expect(try Checkpoint.open(folder + "/u.safetensors").tensors.count == 100)
    }
  }

  @Test func tiedTensorsAreStoredOnce() throws {
    try withTemporaryFolder { folder in
      let checkpoint = try Checkpoint.open(Fixtures.path("pytorch/tied.bin"))
      #expect(!checkpoint.aliases.isEmpty)
      var options = ConversionOptions()
      options.isWeightsOnly = true
      let file = try convert(checkpoint, options, to: folder + "/m.otq")
      let aliases = file.container.tensors.filter { if case .alias = $0.content { true } else { false } }
      #expect(Set(aliases.map(\.name)) == Set(checkpoint.aliases.keys))
      #expect(try WeightVerification(of: file, reference: SourceModel(checkpoint, path: folder)).hasPassed)
    }
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity]) func badWeightsAreNamed(value: Float) throws {
    try withTemporaryFolder { folder in
      var values = [Float](repeating: 0.5, count: 32 * 20)
      values[7 * 20 + 3] = value
      var builder = CheckpointBuilder()
      builder.add("w", [32, 20], floats: values)
      let checkpoint = try builder.write(to: folder + "/model.safetensors")
      var options = ConversionOptions()
      options.isWeightsOnly = true
      let error = #expect(throws: Refusal.self) { try convert(checkpoint, options, to: folder + "/m.otq") }
      #expect(error?.rule == "weight-not-finite" && error?.tensor == "w")
      #expect(error?.message.contains("[7, 3]") == true, "\(error.map(\.description) ?? "")")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["model.safetensors"])
    }
  }

  /// In every tensor that the model needs, whatever becomes of it, and in matrices of a model whose needs are
  /// not known; elsewhere they are named, and stored.
  @Test(arguments: [ElementType.f32, .f16, .bf16, .f64], [Double.nan, .infinity, -.infinity])
  func badNumbersInWhatStaysAsItIs(type: ElementType, value: Double) throws {
    func bytes(_ count: Int, badAt index: Int?) -> [UInt8] {
      (0..<count).flatMap { element -> [UInt8] in
        let number = element == index ? value : 0.5
        return switch type {
        case .f16: withUnsafeBytes(of: Float16(number).bitPattern.littleEndian, Array.init)
        case .bf16: withUnsafeBytes(of: UInt16(Float(number).bitPattern >> 16).littleEndian, Array.init)
        case .f64: withUnsafeBytes(of: number.bitPattern.littleEndian, Array.init)
        default: withUnsafeBytes(of: Float(number).bitPattern.littleEndian, Array.init)
        }
      }
    }
    // Too small to be quantized; a vector; a mask, as it may be stored.
    for (shape, isRefused) in [([4, 4], true), ([5000], false), ([1, 1, 3, 3], false)] {
      try withTemporaryFolder { folder in
        var builder = CheckpointBuilder()
        let count = shape.reduce(1, *)
        builder.tensors.append(("first", type, [4, 4], bytes(16, badAt: nil)))
        builder.tensors.append(("second", type, shape, bytes(count, badAt: count - 1)))
        let checkpoint = try builder.write(to: folder + "/model.safetensors")
        var options = ConversionOptions()
        options.isWeightsOnly = true
        let converter = Converter(try ConversionPlan(checkpoint: checkpoint, options: options))
        do {
          let outcome = try converter.run(to: folder + "/m.otq")
          #expect(!isRefused && outcome.warnings.count == 1 && outcome.warnings[0].contains("'second'"))
          #expect(
            try WeightVerification(
              of: PackedModel(path: folder + "/m.otq"), reference: SourceModel(checkpoint, path: folder)
            ).hasPassed)
        } catch let refusal as Refusal {
          #expect(isRefused && refusal.rule == "weight-not-finite" && refusal.tensor == "second")
          #expect(refusal.message.contains("element \(count - 1) "))
        }
      }
    }
  }

  /// Every parameter of a graph, one at a time: norms, biases, tables, and weights that are excluded.
  @Test(arguments: Fixture.allCases) func badNumbersInEveryParameter(_ fixture: Fixture) throws {
    let original = try fixture.checkpoint()
    var options = ConversionOptions()
    options.embeddingBits = 16
    options.exclude = [try pattern("[02]")]
    let source = try #require(original.files.first { $0.name.hasSuffix("safetensors") })
    let tensors = original.tensors.filter { $0.file.path == source.path }
    try fixture.withCopy(["pytorch_model.bin": nil]) { folder in
      for tensor in tensors.indices.filter({ $0 % 5 == 0 }).map({ tensors[$0] }) {
        var data = try Data(contentsOf: URL(fileURLWithPath: source.path))
        let size = tensor.elementType.bitWidth / 8
        let last = tensor.byteOffset + (tensor.shape.elementCount - 1) * size
        // All bits of the exponent, which ends below the sign: NaN.
        data[last + size - 1] = 0x7F
        data[last + size - 2] |= 0xFC
        let path = "\(folder)/\(source.name)"
        try FileManager.default.removeItem(atPath: path)
        try data.write(to: URL(fileURLWithPath: path))
        let error = #expect(throws: Refusal.self) {
          try convert(Checkpoint.open(folder), options, to: folder + "/m.otq")
        }
        #expect(
          ["weight-not-finite", "parameter-not-finite"].contains(error?.rule) && error?.tensor == tensor.name,
          "\(tensor.name): \(error.map(\.description) ?? "")")
      }
    }
  }

  /// Weights below the least normal number are zero to any product, and the file passes its own verification.
  @Test(arguments: [1e-43, 1e-40, 1e-38]) func weightsTooSmallForAScaleVerify(magnitude: Double) throws {
    try withTemporaryFolder { folder in
      var generator = SeededGenerator()
      var builder = CheckpointBuilder()
      builder.add(
        "w", [32, 20], floats: (0..<640).map { _ in Float(Double.random(in: -1...1, using: &generator) * magnitude) })
      let checkpoint = try builder.write(to: folder + "/model.safetensors")
      for bits in [4, 6, 8] {
        var options = ConversionOptions()
        (options.isWeightsOnly, options.bits) = (true, bits)
        let file = try convert(checkpoint, options, to: "\(folder)/\(bits).otq")
        let verification = try WeightVerification(of: file, reference: SourceModel(checkpoint, path: folder))
        #expect(verification.hasPassed, "\(bits) bits, seed \(generator.seed): \(verification.offenders)")
      }
    }
  }

  @Test func unsupportedTypesAreNamed() throws {
    try withTemporaryFolder { folder in
      var builder = CheckpointBuilder()
      builder.tensors.append(("q", .f8e4m3, [4], [1, 2, 3, 4]))
      let checkpoint = try builder.write(to: folder + "/model.safetensors")
      let error = #expect(throws: Refusal.self) {
        try ConversionPlan(checkpoint: checkpoint, options: ConversionOptions())
      }
      #expect(error?.rule == "tensor-type" && error?.tensor == "q")
    }
  }
}
