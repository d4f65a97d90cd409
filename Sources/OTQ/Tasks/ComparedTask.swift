import OTFoundation

/// A task that several models do on one file of its data.
public struct ComparedTask: Sendable, Hashable {
  /// The task's name.
  public let name: String
  /// The file of its data.
  public let path: String
  /// The most items; nil: all.
  public let limit: Int?

  /// A task; its name is looked up when it is done.
  public init(name: String, path: String, limit: Int? = nil) {
    (self.name, self.path, self.limit) = (name, path, limit)
  }

  /// The task's name, with that of the file where it is not called after the task.
  package var title: String {
    let file = path.lastPathComponent
    return file.hasPrefix(name + ".") && file.dropFirst(name.count + 1).allSatisfy { $0 != "." }
      ? name : "\(name) \(file)"
  }
}
