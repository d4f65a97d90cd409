import OTFoundation
import OTKernels
import OTTensor

/// From tensors of the file to those of the model.
extension GGUFModel {
  /// The tensors that one of the file is in the model.
  ///
  /// - Throws: `Refusal` with rule `gguf-shape` or `gguf-key`.
  func originals(
    _ tensor: GGUFFile.Tensor, of file: GGUFFile, _ place: GGUFArchitecture.Place, _ change: GGUFArchitecture.Change?
  ) throws -> [TensorView] {
    func refusal(_ message: String) -> Refusal { file.refusal("gguf-shape", message, tensor: tensor.name) }
    let view = file.view(of: tensor, named: place.name)
    func decoded(_ decoder: any RowDecoder, as type: ElementType? = nil) -> [TensorView] {
      [
        TensorView(
          decoded: view.name, elementType: type ?? view.elementType, shape: view.shape, by: decoder, file: view.file,
          byteOffset: view.byteOffset)
      ]
    }
    let rowCount = view.shape.rowCount
    switch change {
    case nil: return [view]
    case .alternating(let headsKey):
      let all = try size("attention.head_count")
      guard let heads = try size(headsKey) ?? all, rowCount % heads == 0, rowCount / heads % 2 == 0 else {
        throw refusal("has \(rowCount) rows, which are no heads of pairs")
      }
      return decoded(RearrangedRows(view: view, order: .alternating(headSize: rowCount / heads)))
    case .fused:
      guard let heads = try size("attention.head_count"), rowCount % (3 * heads) == 0 else {
        throw refusal("has \(rowCount) rows, which are no queries, keys and values of heads")
      }
      return decoded(RearrangedRows(view: view, order: .byPart(partCount: 3, headSize: rowCount / (3 * heads))))
    case .grouped:
      let (heads, groups) = try headCounts()
      guard heads % groups == 0, rowCount % (heads + 2 * groups) == 0 else {
        throw refusal("has \(rowCount) rows, which are no queries, keys and values of groups of heads")
      }
      return decoded(
        RearrangedRows(
          view: view,
          order: .byGroup(width: heads / groups, groupCount: groups, headSize: rowCount / (heads + 2 * groups))))
    case .plusOne:
      // Offsets are as they are.
      guard place.end == "weight" else { return [view] }
      guard view.elementType.isConvertibleFloat else { throw refusal("has integers for gains") }
      return decoded(LessRows(view: view, constant: 1), as: .f32)
    case .transposed: return [view.shape.rank == 2 ? view.transposed() ?? view : view]
    case .row:
      guard view.shape.rank == 1, tensor.type.elementType != nil, let shape = Shape([1, view.shape.elementCount]) else {
        return [view]
      }
      return [
        TensorView(
          name: view.name, elementType: view.elementType, shape: shape, file: view.file, byteOffset: view.byteOffset)
      ]
    case .elements:
      guard view.shape.rank > 1, rowCount <= GGUFLimits.elementCount else { throw refusal("is no stack of tensors") }
      return (0..<rowCount).compactMap { index in
        let stem = place.stem.replacing("{}", with: "\(index)")
        return view.element(index)?.renamed(place.with(stem: stem).name)
      }
    case .split(let stems):
      let (heads, groups) = try headCounts()
      guard stems.count == 3, rowCount % (heads + 2 * groups) == 0 else {
        throw refusal("has \(rowCount) rows, which are no queries, keys and values of heads")
      }
      let size = rowCount / (heads + 2 * groups)
      let ends = [heads * size, (heads + groups) * size, rowCount]
      return zip(stems, zip([0] + ends, ends)).compactMap { stem, range in
        view.rows(range.0..<range.1)?.renamed(place.with(stem: stem).name)
      }
    }
  }

  private func headCounts() throws -> (heads: Int, groups: Int) {
    guard let heads = try size("attention.head_count") else {
      throw files[0].refusal("gguf-key", "has no key '\(architectureName).attention.head_count'")
    }
    return (heads, try size("attention.head_count_kv") ?? heads)
  }

  /// The linear that gives keys and values of multi-head latent attention, of the two that newer files have: of keys,
  /// transposed, and of values, each head by head.
  ///
  /// - Throws: `Refusal` with rule `gguf-shape`.
  mutating func joinLatentParts() throws {
    let ends = [".k_b.weight", ".v_b.weight"]
    let parts = tensors.filter { tensor in ends.contains(where: tensor.name.hasSuffix) }
    guard !parts.isEmpty else { return }
    let views = Dictionary(parts.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    tensors.removeAll { views[$0.name] != nil }
    for name in views.keys.sorted() where name.hasSuffix(ends[0]) {
      let module = String(name.dropLast(ends[0].count))
      func refusal(_ message: String) -> Refusal { files[0].refusal("gguf-shape", message, tensor: name) }
      guard let keys = views[name], let values = views[module + ends[1]], keys.shape.rank == 3, values.shape.rank == 3
      else { throw refusal("is there without its values, or is no stack of matrices") }
      let (heads, rank, plain) = (keys.shape.dimensions[0], keys.shape.dimensions[1], keys.shape.dimensions[2])
      guard values.shape.dimensions[0] == heads, values.shape.dimensions[2] == rank,
        let shape = Shape([heads * (plain + values.shape.dimensions[1]), rank])
      else { throw refusal("is \(keys.shape), its values \(values.shape)") }
      let matrices = (0..<heads).flatMap { [keys.element($0)?.transposed(), values.element($0)] }.compactMap { $0 }
      guard matrices.count == 2 * heads else { throw refusal("is no stack of matrices") }
      tensors.append(
        TensorView(
          decoded: module + ".kv_b_proj.weight", elementType: .f32, shape: shape,
          by: HeadRows(
            keys: matrices.enumerated().filter { $0.offset % 2 == 0 }.map(\.element),
            values: matrices.enumerated().filter { $0.offset % 2 == 1 }.map(\.element)), file: keys.file,
          byteOffset: keys.byteOffset))
    }
  }
}

/// The rows of two matrices of each head, one below the other, in float32.
private struct HeadRows: RowDecoder {
  let keys, values: [TensorView]

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    guard !rows.isEmpty, let first = keys.first, let other = values.first else { return }
    let (plain, size) = (first.shape.rowCount, first.shape.rowCount + other.shape.rowCount)
    let target = target.bindMemory(to: Float.self)
    let width = target.count / rows.count
    for row in rows {
      let (head, within) = row.quotientAndRemainder(dividingBy: size)
      let (view, place) = within < plain ? (keys[head], within) : (values[head], within - plain)
      let start = (row - rows.lowerBound) * width
      let line = UnsafeMutableBufferPointer(rebasing: target[start..<start + width])
      view.withRowBytes(place..<place + 1) { Kernels.current.convert($0, from: view.elementType, to: line) }
    }
  }

  // The parts of a head are of other blocks: only the whole is forgotten.
  func release(_ rows: Range<Int>) {
    guard rows.upperBound == keys.reduce(0, { $0 + $1.shape.rowCount }) + values.reduce(0, { $0 + $1.shape.rowCount })
    else { return }
    for view in keys + values { view.release(0..<view.shape.rowCount) }
  }

  func storedByteCount(of rows: Range<Int>) -> Int {
    let all = keys + values
    return all.reduce(0) { $0 + $1.storedByteCount } * rows.count / max(all.reduce(0) { $0 + $1.shape.rowCount }, 1)
  }
}
