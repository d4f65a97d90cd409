import CDNNL
import COpenBLAS
import OTTensor

/// Products of floats by other libraries, on the shapes of ours.
enum FloatProductTiming {
  /// OpenBLAS; nil where it is not installed.
  private static let library: ot_blas_library? = {
    var library = ot_blas_library()
    return ot_blas_load(&library) == nil ? library : nil
  }()

  /// Lets both libraries use so many threads.
  static func setThreadCount(_ count: Int) {
    library?.set_thread_count?(Int32(count))
    OneDNN.installed?.setThreadCount(count)
  }

  /// Memory of small float32, or of the same as the upper halves of float32.
  static func memory(byteCount: Int, type: ElementType) -> BenchmarkMemory {
    BenchmarkMemory(byteCount: byteCount) { memory in
      if type == .f32 {
        let values = memory.bindMemory(to: Float.self)
        for index in values.indices { values[index] = Float(index % 251 - 125) / 256 }
      } else {
        let values = memory.bindMemory(to: UInt16.self)
        for index in values.indices {
          let value = Float(index % 251 - 125) / 256
          values[index] =
            type == .bf16 ? UInt16(truncatingIfNeeded: value.bitPattern >> 16) : 0x3000 + UInt16(index % 251)
        }
      }
    }
  }

  /// Seconds of one float32 product by OpenBLAS.
  static func openBLAS(_ shape: KernelShape, rowCount: Int, _ timer: KernelTimer, weights: BenchmarkMemory) -> Spread {
    let elementCount = shape.rowCount * shape.columnCount
    let copyCount = max(1, weights.bytes.count / (elementCount * 4))
    let x = memory(byteCount: rowCount * shape.columnCount * 4, type: .f32)
    let y = UnsafeMutablePointer<Float>.allocate(capacity: rowCount * shape.rowCount)
    defer {
      x.free()
      y.deallocate()
    }
    let (m, n, k) = (Int32(rowCount), Int32(shape.rowCount), Int32(shape.columnCount))
    let (order, asItIs, transposed) = (Int32(OT_BLAS_ROW_MAJOR), Int32(OT_BLAS_AS_IT_IS), Int32(OT_BLAS_TRANSPOSED))
    guard let library else { preconditionFailure("OpenBLAS is not installed (Debian: libopenblas0)") }
    let (a, w) = (x.bytes.bindMemory(to: Float.self).baseAddress, weights.bytes.bindMemory(to: Float.self))
    var copy = 0
    return timer.measure { repetitionCount in
      for _ in 0..<repetitionCount {
        let b = w.baseAddress.map { $0 + copy * elementCount }
        copy = (copy + 1) % copyCount
        if rowCount == 1 {
          library.sgemv?(order, asItIs, n, k, 1, b, k, a, 1, 0, y, 1)
        } else {
          library.sgemm?(order, asItIs, transposed, m, n, k, 1, a, k, b, k, 0, y, n)
        }
      }
    }
  }

  /// Seconds of one product by oneDNN, its weights arranged beforehand as it likes;
  /// nil where it is not installed or has no kernel for this processor.
  static func oneDNN(
    _ type: ElementType, _ shape: KernelShape, rowCount: Int, _ timer: KernelTimer, weights: BenchmarkMemory
  ) -> Spread? {
    guard var library = OneDNN.installed?.library else { return nil }
    let x = memory(byteCount: rowCount * shape.columnCount * 4, type: type)
    let y = UnsafeMutablePointer<Float>.allocate(capacity: rowCount * shape.rowCount)
    var product = ot_dnnl_product()
    defer {
      ot_dnnl_destroy(&library, &product)
      x.free()
      y.deallocate()
    }
    let source = UnsafeMutableRawPointer(mutating: x.bytes.baseAddress)
    let dataType = type == .f32 ? OT_DNNL_F32 : type == .bf16 ? OT_DNNL_BF16 : OT_DNNL_F16
    guard
      ot_dnnl_create(
        &library, &product, Int32(dataType), Int64(rowCount), Int64(shape.rowCount),
        Int64(shape.columnCount), source, y) != 0,
      product.weight_byte_count <= weights.bytes.count
    else { return nil }
    let stride = (product.weight_byte_count + 63) / 64 * 64
    let copyCount = max(1, weights.bytes.count / stride)
    let base = UnsafeMutableRawPointer(mutating: weights.bytes.baseAddress)
    var copy = 0
    var works = ot_dnnl_run(&library, &product, base) != 0
    guard works else { return nil }
    let seconds = timer.measure { repetitionCount in
      for _ in 0..<repetitionCount {
        works = ot_dnnl_run(&library, &product, base.map { $0 + copy * stride }) != 0 && works
        copy = (copy + 1) % copyCount
      }
    }
    return works ? seconds : nil
  }
}
