import OTFoundation
import OTVerify

/// The result of comparing an `.otq` file with its source.
public struct VerifyResult: Sendable, Hashable {
  /// The file.
  public let path: String
  /// What is outside the tolerance, a sentence each.
  public let faults: [String]
  /// Oddities that are no faults, a line each.
  public let notes: [String]
  /// What `otconvert verify --json` prints.
  public let json: String

  /// True when nothing is outside the tolerance.
  public var hasPassed: Bool { faults.isEmpty }

  /// The refusal of a file that has not passed; nil for one that has.
  package var refusal: Refusal? { VerifyResult.refusal(of: path, faults) }

  static func refusal(of path: String, _ faults: [String]) -> Refusal? {
    guard !faults.isEmpty else { return nil }
    let more = faults.count > 8 ? "; and \(faults.count - 8) more" : ""
    return Refusal("verify-failed", faults.prefix(8).joined(separator: "; ") + more, file: path)
  }
}

extension VerificationReport {
  /// The refusal of a file that has not passed; nil for one that has.
  package var refusal: Refusal? { VerifyResult.refusal(of: path, faults) }
}

extension ModelFile {
  /// Compares an `.otq` file with the checkpoint that it was made from: weights, layers, whole models.
  ///
  /// - Parameters:
  ///   - path: of the `.otq` file.
  ///   - reference: path of the checkpoint; nil: every checksum and quantized value of the file is checked, alone.
  ///   - options: how to compare.
  /// - Returns: the work, which begins when it is iterated. A file outside the tolerance is a result with faults; the
  ///   work throws ``Refusal`` with a rule `otq-…` for damage, or the readers' rules, `tokenizer-…`, `output-…` or
  ///   `cancelled`.
  /// - Throws: ``Refusal`` with a rule `option-…` for options that are wrong.
  public static func verify(
    _ path: String, against reference: String? = nil, options: VerifyOptions = VerifyOptions()
  ) throws(Refusal) -> FileWork<VerifyResult> {
    let work = try VerifyWork(path, reference: reference, options)
    return FileWork { try work.result($0) }
  }
}
