import OTExport
import OTFoundation

/// The options of writing a model in a format of other tools; the defaults are those of `otconvert export`.
public struct ExportOptions: Sendable, Hashable {
  /// What is done to a checkpoint before; of a packed file its threads and whether outputs are replaced, alone.
  public var conversion = ConvertOptions()
  /// True: of an `.otq` file, as `safetensors`, with the transformations undone.
  public var isRestored = false
  /// The type of all floats: `f32`, `f16` or `bf16`; nil: as in the source, `f32` for `ctranslate2`.
  public var elementType: String?
  /// The most bytes of a file of tensors, in megabytes; nil: one file.
  public var shardMegabytes: Int?

  /// The defaults.
  public init() {}

  /// Options by the names that `otconvert export` gives them, without the dashes in front.
  ///
  /// - Parameter options: the values of each option; none for a flag that is set.
  /// - Throws: as ``ConvertOptions/init(named:)``.
  public init(named options: [String: [String]]) throws(Refusal) {
    var named = NamedOptions(options)
    conversion = try ConvertOptions(taking: &named)
    isRestored = try named.flag("restored")
    elementType = try named.text("dtype")
    shardMegabytes = try named.integer("shard-size")
    try named.finish()
    try conversion.check()
  }

  /// The formats of other tools.
  public static var formats: [String] { Writers.exports.map { $0.format } }

  /// The formats, with what each is, for a help text.
  package static var listing: String {
    let width = (formats.map(\.count).max() ?? 0) + 4
    return Writers.exports.map { writer in
      let lines = writer.traits.summary.split(separator: "\n")
      return lines.enumerated().map { index, line in
        let start = "  " + (index == 0 ? writer.format : "")
        return start + String(repeating: " ", count: width - start.count) + line
      }.joined(separator: "\n")
    }.joined(separator: "\n")
  }

  /// Checks what can be checked without the model.
  ///
  /// - Returns: the writer of the format.
  /// - Throws: ``Refusal`` with rule `option-value`, `option-conflict`, `method-…` or `rounding-…`.
  @discardableResult
  package func check(for format: String) throws(Refusal) -> any ModelWriter.Type {
    guard let writer = Writers.exports.first(where: { $0.format == format }) else {
      throw Refusal("option-value", "--to must be one of \(Self.formats.joined(separator: ", "))")
    }
    let traits = writer.traits
    try OptionFault.refuse(
      elementType.map { !["f32", "f16", "bf16"].contains($0) } ?? false, value: "--dtype must be f32, f16 or bf16")
    try OptionFault.refuse(
      conversion.effort != nil,
      conflict: "--effort is for convert: formats of others have no rotations; name a --method")
    try OptionFault.refuse(
      conversion.budget != nil && traits.isOfFloats,
      conflict: "--budget chooses bits, and floats have none")
    try OptionFault.refuse(
      isRestored && !traits.isOfFloats,
      conflict: "--restored gives floats: export them --to safetensors first")
    try OptionFault.refuse(
      shardMegabytes != nil && traits.output != .shards,
      conflict: "--shard-size is for folders of shards: \(format) has one file of tensors")
    try OptionFault.refuse(
      conversion.requirements.isGiven, conflict: "--require and --until are for convert: an export is not measured")
    try OptionFault.refuse(
      conversion.savedRecipe != nil, conflict: "--save-recipe is for convert")
    try OptionFault.refuse(conversion.resumes, conflict: "--resume is for convert")
    try OptionFault.refuse(
      shardMegabytes.map { !(1...1 << 30).contains($0) } ?? false,
      value: "--shard-size must be 1 to 1073741824 megabytes")
    try conversion.check()
    return writer
  }
}
