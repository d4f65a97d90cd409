import OTFoundation
import OTTensor

/// The tensors of a checkpoint without their data: shape and type by name.
package struct TensorCatalog: Sendable {
  /// One tensor's shape and type.
  package struct Entry: Sendable, Hashable {
    /// The dimensions, outermost first.
    package let shape: Shape
    /// The type of its elements.
    package let elementType: ElementType

    /// An entry for a tensor of this shape and type.
    package init(shape: Shape, elementType: ElementType) {
      self.shape = shape
      self.elementType = elementType
    }
  }

  /// The tensors by name.
  package let entries: [String: Entry]
  /// The file or folder they are in, for refusals.
  package let file: String?

  /// A catalog of `entries`.
  package init(_ entries: [String: Entry], file: String? = nil) {
    self.entries = entries
    self.file = file
  }

  /// A catalog of views of tensors; of two with one name the last counts.
  package init(_ tensors: [TensorView], file: String? = nil) {
    let pairs = tensors.map { ($0.name, Entry(shape: $0.shape, elementType: $0.elementType)) }
    self.init(Dictionary(pairs, uniquingKeysWith: { $1 }), file: file)
  }

  /// The tensor called `name`.
  package subscript(name: String) -> Entry? {
    entries.index(forKey: name).map { entries[$0] }.flatMap { $0.key.hasSameBytes(as: name) ? $0.value : nil }
  }

  /// All names, sorted.
  package var names: [String] { entries.keys.sorted() }

  /// Dimensions of the tensor called `name`; nil where there is none.
  func dimensions(_ name: String) -> [Int]? { self[name]?.shape.dimensions }

  /// The number of layers called `<prefix><index>.…`, from 0 without a gap.
  func layerCount(prefix: String) -> Int {
    var found: Set<Int> = []
    for name in entries.keys where name.hasPrefix(prefix) {
      let digits = name.dropFirst(prefix.count).prefix { $0 != "." }
      if let index = Int(digits), String(index) == digits { found.insert(index) }
    }
    return (0..<found.count).first { !found.contains($0) } ?? found.count
  }
}
