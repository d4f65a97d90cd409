import Foundation
import OTFoundation

/// A folder in which a checkpoint is looked for.
struct ModelFolder {
  private static let safetensorsNames = ["model.safetensors", "model.safetensors.index.json"]
  private static let pyTorchNames = ["pytorch_model.bin", "pytorch_model.bin.index.json"]

  let path: String
  /// Names of all that is in the folder, sorted.
  let names: [String]

  /// Nil when `path` is no folder.
  init?(path: String) throws {
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory),
      isDirectory.boolValue
    else { return nil }
    self.path = path
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
    } catch {
      throw Refusal("directory-unreadable", "cannot be listed: \(error)", file: path)
    }
  }

  /// The file that holds the model.
  ///
  /// The usual names come first: other safetensors files may hold anything.
  /// Safetensors is preferred to PyTorch's format, with a warning.
  func choose() throws -> (name: String, warnings: [String]) {
    let pyTorch = ModelFolder.pyTorchNames.filter(names.contains)
    if let name = try only(ModelFolder.safetensorsNames.filter(names.contains)) {
      return (name, pyTorch.map { "\(Refusal.printable(path)): '\($0)' is ignored for '\(name)'" })
    }
    let indices = names.filter { $0.hasSuffix(".safetensors.index.json") }
    // The shards of an index are no checkpoints of their own.
    let others = indices.isEmpty ? names.filter { $0.hasSuffix(".safetensors") } : indices
    if let name = try only(others + pyTorch) { return (name, []) }
    let rest = names.filter { name in
      [".bin", ".pt", ".pth"].contains(where: name.hasSuffix) && !name.hasPrefix(".")
    }
    if let name = try only(rest) { return (name, []) }
    throw Refusal(
      "directory-no-checkpoint", "holds no checkpoint: no *.safetensors, index or *.bin",
      file: path, remedy: "give the path of the file")
  }

  /// The one candidate, or nil when there is none.
  private func only(_ candidates: [String]) throws -> String? {
    guard candidates.count > 1 else { return candidates.first }
    let list = candidates.prefix(4).map { "'\($0)'" }.joined(separator: ", ")
    throw Refusal(
      "directory-ambiguous", "holds \(candidates.count) candidates for the model: \(list)",
      file: path, remedy: "give the path of the one to read")
  }
}
