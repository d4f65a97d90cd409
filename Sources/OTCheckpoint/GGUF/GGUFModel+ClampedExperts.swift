import OTFoundation
import OTKernels
import OTTensor

/// The experts of GPT-OSS: llama.cpp has gate and up apart, `[experts, out, in]`; the model has them in one stack,
/// `[experts, in, out]`, whose columns alternate.
extension GGUFModel {
  /// Makes the model's stacks of the file's.
  ///
  /// - Throws: `Refusal` with rule `gguf-shape`.
  mutating func joinClampedExperts() throws {
    let ends = ["gate.weight", "up.weight", "down.weight", "gate.bias", "up.bias", "down.bias"]
    guard architecture.modelType == "gpt_oss" else { return }
    let parts = tensors.filter { tensor in ends.contains { tensor.name.hasSuffix(".experts." + $0) } }
    let views = Dictionary(parts.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    tensors.removeAll { views[$0.name] != nil }
    for name in views.keys.sorted() where name.hasSuffix(ends[2]) {
      let module = String(name.dropLast(ends[2].count))
      let all = ends.map { views[module + $0] }
      guard let gate = all[0], let up = all[1], let down = all[2], let gateBias = all[3], let upBias = all[4],
        let downBias = all[5], gate.shape == up.shape, gateBias.shape == upBias.shape, gate.shape.rank == 3,
        down.shape.rank == 3, gateBias.shape.rank == 2, down.shape.dimensions[0] == gate.shape.dimensions[0]
      else {
        throw files[0].refusal("gguf-shape", "is there without its kin, or with others of another shape", tensor: name)
      }
      tensors += [
        try stack([gate, up], named: module + "gate_up_proj"), try stack([down], named: module + "down_proj"),
        try alternating(gateBias, upBias, named: module + "gate_up_proj_bias"),
        downBias.renamed(module + "down_proj_bias"),
      ]
    }
  }

  /// A stack `[experts, in, out]` of stacks `[experts, out, in]`, whose rows alternate.
  private func stack(_ parts: [TensorView], named name: String) throws -> TensorView {
    let sizes = parts[0].shape.dimensions
    let rowCount = sizes[1].multipliedChecked(by: parts.count) ?? 0
    guard let shape = Shape([sizes[0], sizes[2], rowCount]), rowCount > 0,
      let byteCount = rowCount.multipliedChecked(by: sizes[2] * MemoryLayout<Float>.stride)
    else { throw files[0].refusal("gguf-shape", "is too large", tensor: parts[0].name) }
    let experts = (0..<sizes[0]).map { index in
      TransposedRows(
        base: AlternatingRows(views: parts.compactMap { $0.element(index) }), rowCount: rowCount,
        columnCount: sizes[2], elementByteCount: MemoryLayout<Float>.stride)
    }
    return TensorView(
      decoded: name, shape: shape, by: StackedRows(experts, rowCount: sizes[2], byteCount: byteCount),
      file: parts[0].file, byteOffset: parts[0].byteOffset)
  }

  /// Rows whose elements are those of two matrices in turns.
  private func alternating(_ first: TensorView, _ second: TensorView, named name: String) throws -> TensorView {
    let sizes = first.shape.dimensions
    guard let shape = Shape([sizes[0], sizes[1].multipliedChecked(by: 2) ?? 0]) else {
      throw files[0].refusal("gguf-shape", "is too large", tensor: first.name)
    }
    return TensorView(
      decoded: name, shape: shape, by: AlternatingElements(first: first, second: second), file: first.file,
      byteOffset: first.byteOffset)
  }
}

/// Rows of several matrices in turns, in float32.
private struct AlternatingRows: RowDecoder {
  let views: [TensorView]

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    guard !rows.isEmpty else { return }
    let target = target.bindMemory(to: Float.self)
    let width = target.count / rows.count
    for (index, row) in rows.enumerated() {
      let (place, part) = row.quotientAndRemainder(dividingBy: views.count)
      let line = UnsafeMutableBufferPointer(rebasing: target[index * width..<(index + 1) * width])
      views[part].withRowBytes(place..<place + 1) {
        Kernels.current.convert($0, from: views[part].elementType, to: line)
      }
    }
  }

  func release(_ rows: Range<Int>) {
    guard !rows.isEmpty else { return }
    let (first, last) = (rows.lowerBound / views.count, (rows.upperBound - 1) / views.count)
    for view in views { view.release(first..<last + 1) }
  }

  func storedByteCount(of rows: Range<Int>) -> Int {
    views.reduce(0) { $0 + $1.storedByteCount } * rows.count / max(views.reduce(0) { $0 + $1.shape.rowCount }, 1)
  }
}

/// Elements of the rows of two matrices in turns, in float32.
private struct AlternatingElements: RowDecoder {
  let first, second: TensorView

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    let target = target.bindMemory(to: Float.self)
    for (part, view) in [first, second].enumerated() {
      for (index, value) in view.narrowFloats(rows: rows).enumerated() { target[2 * index + part] = value }
    }
  }

  func release(_ rows: Range<Int>) { for view in [first, second] { view.release(rows) } }

  func storedByteCount(of rows: Range<Int>) -> Int {
    first.storedByteCount(of: rows) + second.storedByteCount(of: rows)
  }
}
