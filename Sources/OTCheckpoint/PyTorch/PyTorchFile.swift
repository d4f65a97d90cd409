import OTFoundation
import OTTensor

/// A file of `torch.save`: the ZIP archive of PyTorch 1.6 and later, or the
/// older sequence of pickles.
///
/// Tensors are views into the mapped file under dotted paths: dictionary keys
/// and list indices joined by dots. Tensors that share a storage share bytes.
/// Values other than tensors are passed over. The accepted subset of the
/// format is in `formats/accepted-pytorch.md`.
package struct PyTorchFile: Sendable {
  /// In order of appearance; names are unique.
  package let tensors: [TensorView]
  /// Oddities that do not keep the file from being read.
  package let warnings: [String]
  /// Paths of the first values that are no tensors, at most 16.
  package let otherPaths: [String]
  /// The key under which the file of a training has the model, where it has tensors of an optimizer or the like beside it.
  package let modelKey: String?

  /// True when the file starts like one of `torch.save`.
  package static func recognizes(_ mapping: MappedFile) -> Bool {
    let bytes = mapping.bytes
    if mapping.byteCount >= 4 && bytes[0] == 0x50 && bytes[1] == 0x4B {
      return bytes[2] == 3 && bytes[3] == 4 || bytes[2] == 5 && bytes[3] == 6
    }
    return mapping.byteCount >= 2 && bytes[0] == 0x80 && bytes[1] <= 5
  }

  /// Reads the file's structure; with `verifiesStorages` also every byte of
  /// an archive once, to compare checksums, on at most `threadCount` threads.
  ///
  /// - Throws: `Refusal` with a rule `zip-…`, `pickle-…`, `legacy-…` or `pytorch-…`.
  package init(
    mapping: MappedFile, verifiesStorages: Bool = true,
    threadCount: Int = Machine.processorCount
  ) throws {
    guard PyTorchFile.recognizes(mapping) else { throw PyTorchFile.unrecognized(mapping) }
    let contents =
      mapping.bytes[0] == 0x50
      ? try PyTorchArchive.contents(
        mapping, verifiesStorages: verifiesStorages, threadCount: threadCount)
      : try PyTorchLegacy.contents(mapping)
    let paths = try PickleTensorPaths(contents.pickle, file: mapping.path)
    let heap = contents.pickle.heap
    tensors = paths.tensors.map { path, index in
      let tensor = heap.tensors[index]
      return TensorView(
        name: path, elementType: tensor.elementType, shape: tensor.shape, strides: tensor.strides,
        file: mapping,
        // Inside the storage, and the storage inside the file.
        byteOffset: contents.storageOffsets[tensor.storage] + tensor.storageByteOffset,
        isBigEndian: contents.isBigEndian)
    }
    warnings = contents.warnings
    otherPaths = paths.otherPaths
    modelKey = paths.modelKey
  }
}

/// The contents of a file of `torch.save`, whichever container it is.
struct PyTorchContents {
  let pickle: PickleMachine.Result
  /// Offset in the file of each storage of the pickle's heap.
  let storageOffsets: [Int]
  let isBigEndian: Bool
  let warnings: [String]
}
