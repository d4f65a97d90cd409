import OTCheckpoint
import OTConversion
import OTFoundation
import OTQ
import _OTModelSupport
import _OTTestSupport

extension Fixture {
  /// The checkpoint, which runs in float32.
  func model() throws -> LanguageModel { try LanguageModel(path: folder, threadCount: 2) }

  /// The model, packed with a scale per token.
  func packedModel(bits: Int = 8, threadCount: Int = 2) throws -> LanguageModel {
    try packModel(at: folder, bits: bits, threadCount: threadCount)
  }
}

/// A checkpoint, packed with a scale per token; the file stays mapped when it is gone.
func packModel(at checkpoint: String, bits: Int = 8, threadCount: Int = 2) throws -> LanguageModel {
  try withTemporaryFolder { temporary in
    var options = ConversionOptions()
    options.bits = bits
    try convert(Checkpoint.open(checkpoint), options, to: temporary + "/model.otq")
    return try LanguageModel(path: temporary + "/model.otq", threadCount: threadCount)
  }
}

/// The rule by which `body` is refused; nil when it is not.
func refusedRule(_ body: () throws -> Void) throws -> String? {
  do {
    try body()
    return nil
  } catch let refusal as Refusal {
    return refusal.rule
  }
}
