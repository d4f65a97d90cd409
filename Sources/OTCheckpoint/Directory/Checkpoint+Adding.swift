import OTFoundation
import OTPlatform
import OTTensor

extension Checkpoint {
  /// The checkpoint with tensors that are made anew in place of those of the same names, or behind the others.
  ///
  /// They are in a file of `folder` that has no name any more when this returns: it is gone with the process.
  ///
  /// - Parameter values: the elements of a tensor by its name, row-major, as float32.
  /// - Throws: as the writer throws, and as `values` does.
  package func adding(
    _ entries: [SafetensorsWriter.Entry], in folder: String, values: (String) throws -> [Float]
  ) throws -> Checkpoint {
    guard !entries.isEmpty else { return self }
    let place = folder.appendingPathComponent(
      ".otq-rotated-\(getpid())-\(String(UInt64.random(in: .min ... .max), radix: 36))")
    var writer = try SafetensorsWriter(path: place, entries: entries)
    for entry in entries { try values(entry.name).withUnsafeBytes { try writer.append(Array($0)) } }
    try writer.commit()
    defer { unlink(place) }
    let made = try Checkpoint.open(place)
    let names = Set(entries.map(\.name))
    return try Checkpoint(self, tensors: tensors.filter { !names.contains($0.name) } + made.tensors)
  }

  /// The checkpoint without some tensors.
  ///
  /// - Throws: nothing that this one did not.
  package func removing(_ names: Set<String>) throws -> Checkpoint {
    try Checkpoint(self, tensors: tensors.filter { !names.contains($0.name) })
  }
}
