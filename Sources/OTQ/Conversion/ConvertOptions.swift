@_exported import enum OTConversion.Effort

/// The work that goes into a conversion where no method is named.
public typealias Effort = OTConversion.Effort

/// The options of converting a checkpoint; the defaults are those of `otconvert convert`.
///
/// ```swift
/// var options = ConvertOptions()
/// options.bits = 6
/// options.text.paths = ["wiki.txt"]
/// ```
///
/// They can also be given by the names of the command's options: see ``init(named:)``.
public struct ConvertOptions: Sendable, Hashable {
  /// The range of a weight's quantized values.
  public enum WeightScheme: String, Sendable, CaseIterable {
    /// Symmetric around 0.
    case symmetric
    /// From the weight's minimum to its maximum.
    case asymmetric
  }

  /// The form of a file's bytes.
  public enum Storage: String, Sendable, CaseIterable {
    /// Compressed.
    case zstd
    /// Packed, for use in place.
    case none
  }

  // MARK: Weights and activations

  /// Bits of the blocks' weights, 2 … 8; 8 and 6 are the ones to use.
  public var bits = 8
  /// Bits of activations, 2 … 8, or 16: they stay float.
  public var activationBits = 8
  /// Activations that share a scale: `token`, `group:N`, either with `:asymmetric` behind it, `tensor`, `channel`; nil: as
  /// the method
  /// says.
  public var activations: String?
  /// The range of a weight's quantized values; nil: symmetric with method `best`, else asymmetric.
  public var weightScheme: WeightScheme?
  /// The rule that makes weights quantized values, with its options: `gptq,damping=0.01`; nil: as the method says.
  public var rounding: String?
  /// Weights of a row that share a scale, a multiple of 16; nil: the whole row.
  public var groupSize: Int?
  /// One scale for a whole weight matrix.
  public var isPerTensor = false
  /// Bits of embeddings and the output head: 8, or 16 for float16.
  public var embeddingBits = 8
  /// Regular expressions: linears and embeddings with such names stay as they are, with their fused group.
  public var exclude: [String] = []
  /// `REGEX=BITS` for names, for the whole fused group; the last match counts.
  public var bitsFor: [String] = []
  /// The most that the file may take, `5.0bpw` or `90MB`: bits are then chosen for each fused group.
  public var budget: String?
  /// True: weights alone are quantized, and models of unknown families can be packed too.
  public var isWeightsOnly = false
  /// The form of the file's bytes.
  public var compression = Storage.zstd

  // MARK: Methods

  /// The model's family, where its `config.json` has no `model_type`.
  public var family: String?
  /// Methods with their options, `smoothquant,alpha=0.5`; each sees what those before it did. Empty: `best` where the
  /// model can be run on text, `outliertune` with statistics, else `hadamard`.
  public var methods: [String] = []
  /// The work that goes into the model where no method is named; nil: standard.
  public var effort: Effort?
  /// False: static scales alone, without shifting channels to their midpoints.
  public var isSymmetrized = true
  /// Path of decisions that an earlier conversion of this model has kept.
  public var recipe: String?

  // MARK: What is known of activations

  /// False: without statistics nothing is run on text.
  public var isCalibrated = true
  /// The text to calibrate on: 128 samples of 512 tokens.
  public var text = SampledText()
  /// Memory in bytes for calibrating, the mapped checkpoint not counted; nil: half of the machine's.
  public var maximumByteCount: Int?
  /// Path of statistics that `otconvert calibrate` wrote.
  public var statistics: String?
  /// Path of activation scales of other tools.
  public var activationScales: String?
  /// Path of sums of midpoints of other tools.
  public var symmetrization: String?
  /// The number of samples that ``symmetrization`` sums over.
  public var symmetrizationSampleCount: Int?

  // MARK: Output

  /// What the file has to hold before it appears.
  public var requirements = RequireOptions()

  /// Path of a file that keeps what was decided, for ``recipe`` of another conversion.
  public var savedRecipe: String?
  /// True when existing outputs are replaced.
  public var replacesOutput = false
  /// True: what is done is kept in the folder `OUT.resume` beside the output until that stands, and what an earlier
  /// conversion with the same options has kept there is not done again.
  public var resumes = false
  /// The most threads that work at a time; the output does not depend on it. Nil: all cores.
  public var threadCount: Int?

  /// The defaults.
  public init() {}
}
