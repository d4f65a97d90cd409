import Foundation
import OTCheckpoint
import OTFoundation
import OTObservation
import Testing
import _OTTestSupport

/// Section 6 of accepted-pytorch.md, numbers 89–92, as far as no model is needed.
@Suite struct ForeignStatisticsFileTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let rule: String
    let what: String
    let bytes: Bytes
    var kind = ForeignStatistics.Kind.absoluteMaximum
    var testDescription: String { "\(rule): \(what)" }
  }

  static func vector(_ values: [Float], key: String = "0", size: [Int]? = nil) -> Bytes {
    let size = size ?? [values.count]
    let strides = size.map { _ in 1 }
    return Pickle.tensor(
      Pickle.storage(key: key, location: "cuda:0", count: values.count), size: size,
      strides: strides)
  }

  static func data(_ values: [Float]) -> Bytes { values.flatMap { little(Int($0.bitPattern), 4) } }

  static func flat(_ values: [Float], size: [Int]? = nil) -> Bytes {
    Zip(
      pickle: Pickle.whole(Pickle.dictionary([("fc1", vector(values, size: size))])),
      storages: [data(values)]
    ).bytes
  }

  static func file(_ items: [(String, Bytes)]) -> Bytes {
    Zip(pickle: Pickle.whole(Pickle.dictionary(items)), storages: [data([1, 2])]).bytes
  }

  static let malformed: [Case] = [
    Case(rule: "scales-not-finite", what: "NaN", bytes: flat([1, .nan])),
    Case(rule: "scales-not-finite", what: "infinity", bytes: flat([1, .infinity])),
    Case(
      rule: "scales-not-finite", what: "NaN among midpoints", bytes: flat([1, .nan]),
      kind: .midpointSum),
    Case(rule: "scales-negative", what: "-1", bytes: flat([1, -1])),
    Case(rule: "scales-all-zero", what: "zeros", bytes: flat([0, 0])),
    Case(rule: "scales-shape", what: "two rows", bytes: flat([1, 2, 3, 4], size: [2, 2])),
    Case(rule: "scales-shape", what: "a scalar", bytes: flat([1], size: [])),
    Case(rule: "scales-shape", what: "no channel", bytes: flat([])),
    Case(
      rule: "scales-missing-input", what: "only output",
      bytes: file([("fc1", Pickle.dictionary([("output", vector([1, 2]))]))])),
    Case(
      rule: "scales-mixed-schemas", what: "a vector and a dictionary",
      bytes: file([
        ("fc1", vector([1, 2])), ("fc2", Pickle.dictionary([("input", vector([1, 2]))])),
      ])),
    Case(
      rule: "scales-type", what: "integers",
      bytes: file([("fc1", Pickle.tensor(Pickle.storage("IntStorage", count: 2), size: [2]))])),
    Case(
      rule: "scales-type", what: "a number beside tensors",
      bytes: file([("fc1", vector([1, 2])), ("fc2", Pickle.int(1))])),
    Case(rule: "scales-empty", what: "no linear", bytes: file([])),
  ]

  @Test(arguments: malformed)
  func refuses(_ malformed: Case) throws {
    try withTemporaryFolder { folder in
      let path = folder + "/scales.pt"
      try Data(malformed.bytes).write(to: URL(fileURLWithPath: path))
      let refusal = #expect(throws: Refusal.self) {
        try ForeignStatistics.vectors(path: path, kind: malformed.kind)
      }
      #expect(refusal?.rule == malformed.rule, "\(refusal?.description ?? "")")
    }
  }

  /// act_scales.pt is flat, the others are defaultdicts of (1,1,C).
  @Test(arguments: Fixture.decoders)
  func readsTheFixtures(_ fixture: Fixture) throws {
    let folder = fixture.folder
    let plain = try ForeignStatistics.vectors(
      path: folder + "/act_scales.pt", kind: .absoluteMaximum)
    let centred = try ForeignStatistics.vectors(
      path: folder + "/act_scales_sym.pt", kind: .absoluteMaximum)
    let middles = try ForeignStatistics.vectors(
      path: folder + "/symmetrizations.pt", kind: .midpointSum)
    #expect(!plain.isEmpty && !centred.isEmpty && !middles.isEmpty)
    for (linear, middle) in middles {
      let before = try #require(plain[linear])
      let after = try #require(centred[linear])
      #expect(before.count == middle.count && after.count == middle.count)
      // max|x − z| ≤ max|x| + |z|, z being the sum over 32 sequences divided by 32.
      for channel in middle.indices {
        #expect(after[channel] <= (before[channel] + abs(middle[channel]) / 32) * 1.0001)
      }
    }
  }

  @Test func readsSafetensorsAndPassesOverOutputs() throws {
    let header =
      #"{"fc1.input":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"#
      + #""fc1.output":{"dtype":"F16","shape":[1,1,1],"data_offsets":[8,10]}}"#
    let bytes =
      little(header.utf8.count, 8) + Bytes(header.utf8) + Self.data([0.5, 3]) + [0, 0x3C]
    try withTemporaryFolder { folder in
      let path = folder + "/scales.safetensors"
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      #expect(
        try ForeignStatistics.vectors(path: path, kind: .absoluteMaximum) == ["fc1": [0.5, 3]])
    }
  }

  /// Halves by the formula of IEEE 754: (−1)^s · 2^(e−15) · 1.f, or 2^(−14) · 0.f.
  @Test func readsEveryFiniteHalfExactly() throws {
    let patterns = (0..<0x8000).filter { $0 & 0x7C00 != 0x7C00 }.flatMap { [$0, $0 | 0x8000] }
    let expected = patterns.map { bits -> Float in
      let exponent = bits >> 10 & 31
      let fraction = Float(bits & 0x3FF) / 1024
      let magnitude =
        exponent == 0
        ? Float(sign: .plus, exponent: -14, significand: 1) * fraction
        : Float(sign: .plus, exponent: exponent - 15, significand: 1) * (1 + fraction)
      return bits & 0x8000 == 0 ? magnitude : -magnitude
    }
    let tensor = Pickle.tensor(
      Pickle.storage("HalfStorage", count: patterns.count), size: [patterns.count])
    let zip = Zip(
      pickle: Pickle.whole(Pickle.dictionary([("fc1", tensor)])),
      storages: [patterns.flatMap { little($0, 2) }])
    try withTemporaryFolder { folder in
      let path = folder + "/scales.pt"
      try Data(zip.bytes).write(to: URL(fileURLWithPath: path))
      let values = try ForeignStatistics.vectors(path: path, kind: .midpointSum)["fc1"]
      #expect(values?.map(\.bitPattern) == expected.map(\.bitPattern))
    }
  }
}
