import OTContainer
import OTFoundation
import OTJSON
import OTQuantization
import OTTensor

/// The path and the manner in which a model is written.
package struct ExportOutput: Sendable {
  /// The file or folder.
  package let path: String
  /// True when an existing one is replaced.
  package let force: Bool
  /// Files that must not be overwritten, `force` or not.
  package let inputs: [FileIdentity]
  /// The form of an `.otq` file's bytes.
  package var compression = Compression.standard
  /// The type of floats in formats of floats; nil for that of each source tensor.
  package var elementType: ElementType?
  /// The most bytes of a file of tensors, in formats of several files; nil for one file.
  package var shardByteCount: Int?

  /// An output with everything else as usual.
  package init(path: String, force: Bool = false, inputs: [FileIdentity] = []) {
    (self.path, self.force, self.inputs) = (path, force, inputs)
  }
}

/// What a format is, for those who choose among formats.
package struct FormatTraits: Sendable {
  /// What a format's output is.
  package enum Output: Sendable {
    /// One file.
    case file
    /// A folder with all tensors in one file.
    case folder
    /// A folder whose tensors may be shared among several files.
    case shards
  }

  /// What it is and for whom, in lines of at most 58 characters.
  package let summary: String
  /// What is written.
  package let output: Output
  /// True when it has floats alone: packed models come dequantized, and may be restored.
  package let isOfFloats: Bool
  /// True when quantized values should be symmetric where the user does not say: others have no place.
  package let prefersSymmetric: Bool

  /// A description of a format.
  package init(_ summary: String, _ output: Output, isOfFloats: Bool = false, prefersSymmetric: Bool = false) {
    (self.summary, self.output) = (summary, output)
    (self.isOfFloats, self.prefersSymmetric) = (isOfFloats, prefersSymmetric)
  }
}

/// The part of a writer that many threads use at once.
package protocol TensorEncoder: Sendable {
  /// Bytes that are ready to be written.
  associatedtype Encoded: Sendable

  /// Rows that a block of the tensor takes, all blocks but the last.
  func rowsPerBlock(of tensor: ExportedTensor) -> Int

  /// Encodes rows of a quantized tensor.
  func encode(_ rows: QuantizedRows, of tensor: ExportedTensor) throws -> Encoded

  /// Encodes rows of another tensor, elements of its type, row-major and little-endian.
  func encode(_ bytes: UnsafeRawBufferPointer, rows: Range<Int>, of tensor: ExportedTensor) throws -> Encoded
}

extension TensorEncoder {
  /// As many as are a quarter of a megabyte.
  package func rowsPerBlock(of tensor: ExportedTensor) -> Int {
    let bitWidth = tensor.plainType?.bitWidth ?? 8
    return max(1, (1 << 18) / max(tensor.shape.rowElementCount * bitWidth / 8, 1))
  }
}

/// Writes models in one format.
///
/// It is asked first what it takes, and refuses what the format cannot hold; then it gets the
/// tensors one after another, block by block in the order of their rows. What it writes appears
/// with `commit`, whole, or not at all.
package protocol ModelWriter: AnyObject, SendableMetatype {
  associatedtype Encoder: TensorEncoder

  /// The format's name on the command line.
  static var format: String { get }

  /// What the format is.
  static var traits: FormatTraits { get }

  /// A writer that has not begun.
  init(_ output: ExportOutput)

  /// The output it writes to.
  var output: ExportOutput { get }
  /// What `accept` found that the user should know, a line each: what the format leaves out or changes of what does
  /// not make up the function.
  var notes: [String] { get }
  /// Encodes blocks.
  var encoder: Encoder { get }

  /// The tensors that it takes of a model, each with the content that it wants, in the order in
  /// which it wants them. Nothing is written.
  ///
  /// - Throws: `Refusal` for a model that the format cannot hold, naming the site and the way out,
  ///   and with a rule `output-…` for an output that cannot be written.
  func accept(_ model: ExportedModel) throws -> [ExportedTensor]

  /// Bytes that these tensors will hardly stay below.
  func leastByteCount(of tensors: [ExportedTensor]) -> Int

  /// Begins the output.
  func begin(_ tensors: [ExportedTensor], of model: ExportedModel) throws

  /// Writes the next block of the current tensor.
  func write(_ block: Encoder.Encoded, of tensor: ExportedTensor) throws

  /// Ends the current tensor, whose blocks have all been written.
  func finish(_ tensor: ExportedTensor) throws

  /// The records of the first tensors, which an earlier writer of the same output has written: those come no more.
  var adopted: [JSONObject] { get }

  /// Makes the tensor that was ended last durable, where the work is one to go on with.
  ///
  /// - Parameter record: what `adopted` has of it.
  func keep(_ record: JSONObject) throws

  /// Ends the output and gives it its name.
  ///
  /// - Parameter record: what was done to the model, for formats that have a place for it.
  func commit(_ record: JSONObject) throws
}

extension ModelWriter {
  /// Nothing to say.
  package var notes: [String] { [] }

  /// None: the output is written in one go.
  package var adopted: [JSONObject] { [] }

  /// Nothing is kept.
  package func keep(_ record: JSONObject) {}

  /// A note of some tensors: the first and how many more; nil where there are none.
  static func note(_ what: String, _ names: [String]) -> String? {
    names.first.map { "\(what): '\($0)'" + (names.count > 1 ? " and \(names.count - 1) more" : "") }
  }
}
