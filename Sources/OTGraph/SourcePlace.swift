import OTTensor

/// The place of a parameter in the checkpoint's tensor that it is made of: a box of it, walked along
/// the axes in some order.
package struct SourcePlace: Sendable, Hashable {
  /// The indices taken along each axis of the checkpoint's tensor.
  package let box: [Range<Int>]
  /// The axis of the checkpoint's tensor along which each dimension of the parameter runs.
  package let axes: [Int]
  /// The indices of the box along the last of these axes that are taken alone, counted from its first; nil: all.
  package var columns: [Int]?

  /// The parameter's shape; nil for one that no tensor has.
  package var shape: Shape? {
    var dimensions = axes.map { box[$0].count }
    if let columns { dimensions[dimensions.count - 1] = columns.count }
    return Shape(dimensions)
  }

  /// True when it is all of a tensor of `shape`, in its order.
  package func isWhole(of shape: Shape) -> Bool {
    columns == nil && axes == Array(shape.dimensions.indices) && zip(box, shape.dimensions).allSatisfy { $0 == 0..<$1 }
  }

  /// The offset of element 0 and the strides in a row-major tensor of `shape`, counted in elements.
  package func elements(in shape: Shape) -> (offset: Int, strides: [Int]) {
    let strides = shape.rowMajorStrides
    return (zip(box, strides).reduce(0) { $0 + $1.0.lowerBound * $1.1 }, axes.map { strides[$0] })
  }

  /// True when places cover a tensor of `shape` exactly: each element once.
  package static func cover(_ places: [SourcePlace], _ shape: Shape) -> Bool {
    // More parts than any model has; they are compared with each other.
    guard places.count <= 4096, places.allSatisfy({ $0.box.count == shape.rank }) else { return false }
    let count = places.reduce(0) { $0 + $1.elementCount }
    guard count == shape.elementCount else { return false }
    return places.indices.allSatisfy { first in
      places[(first + 1)...].allSatisfy { !places[first].overlaps($0) }
    }
  }

  private var elementCount: Int {
    box.reduce(1) { $0 * $1.count } / max(axes.last.map { box[$0].count } ?? 1, 1)
      * (columns?.count ?? axes.last.map { box[$0].count } ?? 1)
  }

  private func overlaps(_ other: SourcePlace) -> Bool {
    box.indices.allSatisfy { axis in
      guard box[axis].overlaps(other.box[axis]) else { return false }
      let (own, others) = (listed(axis), other.listed(axis))
      guard own != nil || others != nil else { return true }
      return !Set(own ?? Array(box[axis])).isDisjoint(with: others ?? Array(other.box[axis]))
    }
  }

  /// The indices of the checkpoint's tensor that are taken along an axis; nil: those of the box.
  private func listed(_ axis: Int) -> [Int]? {
    axis == axes.last ? columns.map { $0.map { box[axis].lowerBound + $0 } } : nil
  }

  fileprivate func taking(_ rows: Range<Int>, removing: Bool) -> SourcePlace? {
    guard columns == nil, let axis = axes.first, rows.lowerBound >= 0, rows.upperBound <= box[axis].count else {
      return nil
    }
    var box = box
    let first = box[axis].lowerBound
    box[axis] = first + rows.lowerBound..<first + rows.upperBound
    return SourcePlace(box: box, axes: removing ? Array(axes.dropFirst()) : axes)
  }
}

extension SourceTensor {
  /// The place that it has in the checkpoint's tensor of `shape`; nil where it cannot be taken of that.
  package func place(in shape: Shape) -> SourcePlace? {
    switch self {
    case .named: return SourcePlace(box: shape.dimensions.map { 0..<$0 }, axes: Array(shape.dimensions.indices))
    case .plus(let source, _): return source.place(in: shape)
    case .columns(let source, let columns):
      guard var place = source.place(in: shape), place.columns == nil, place.axes.count == 2 else { return nil }
      let count = place.box[place.axes[1]].count
      guard columns.fault(among: count) == nil else { return nil }
      place.columns = columns.channels(among: count)
      return place
    case .transposed(let source):
      guard let inner = source.place(in: shape), inner.columns == nil, inner.axes.count == 2 else { return nil }
      return SourcePlace(box: inner.box, axes: inner.axes.reversed())
    case .rows(let source, let rows): return source.place(in: shape)?.taking(rows, removing: false)
    case .element(let source, let index):
      guard index >= 0, index < Int.max, let inner = source.place(in: shape), inner.axes.count > 1 else { return nil }
      return inner.taking(index..<index + 1, removing: true)
    }
  }
}
