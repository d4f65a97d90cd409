import OTFoundation
import OTJSON

/// The parts of a model of sentence-transformers, as `modules.json` in its folder lists them.
package struct SentenceModules: Sendable {
  /// The name of the file that lists them.
  package static let fileName = "modules.json"

  /// The folder of the transformer, relative to that of the file; empty: that folder itself.
  package let transformer: String?
  /// The folder of the pooling module, relative to that of the file.
  package let pooling: String?

  /// The modules that a list names; folders that are no plain relative paths are left out.
  package init(_ json: JSONValue) {
    func folder(_ type: String) -> String? {
      let module = json.array?.first { module in
        module["type"]?.string?.split(separator: ".").last.map { $0 == type } ?? false
      }
      return module?["path"]?.string.flatMap { path in
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let isPlain = path.isEmpty || parts.allSatisfy { !["", ".", ".."].contains($0) && !$0.contains("\\") }
        return isPlain && (path.isEmpty || PrintableName.fault(of: path) == nil) ? path : nil
      }
    }
    transformer = folder("Transformer")
    pooling = folder("Pooling")
  }

  /// The modules of the model in `folder`; nil where there is no list that can be read.
  init?(folder: String) {
    let path = folder.appendingPathComponent(SentenceModules.fileName)
    guard let file = try? MappedFile(path: path), let json = try? JSONValue.parse(contentsOf: file) else { return nil }
    self.init(json)
  }

  /// The name of the pooling module's configuration.
  package var poolingName: String? {
    pooling.map { $0.isEmpty ? "config.json" : $0 + "/config.json" }
  }
}
