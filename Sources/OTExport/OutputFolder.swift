import OTFoundation
import OTJSON
import OTPlatform

/// A folder that appears whole under its name, or not at all.
///
/// Files go into a folder beside it, which `commit` gives its name. A folder
/// that is replaced is never gone: the two change places where the file system can (Linux since 3.15, macOS); it must be one that this wrote: its record names its files, and nothing else may
/// be in it. An object that is dropped before `commit` removes what it wrote.
final class OutputFolder {
  /// The file that names the others.
  static let recordName = "otq-export.json"

  let path: String
  private let folder: TemporaryFolder
  private var temporary: String { folder.path }
  private let force: Bool
  private var names: [String] = []
  private var isDone = false

  /// Checks that the folder can be written; nothing is created.
  ///
  /// - Throws: `Refusal` with rule `output-exists`, `output-not-ours`, `output-no-parent`,
  ///   `output-not-regular` or `output-is-input`.
  static func check(_ path: String, force: Bool, inputs: [FileIdentity]) throws {
    let (parent, name) = split(path)
    guard !name.isEmpty, name != ".", name != ".." else {
      throw Refusal("output-not-regular", "is no name of a new folder", file: path, remedy: "name a folder to create")
    }
    guard FileSystem.isFolder(parent) else {
      throw Refusal("output-no-parent", "its folder does not exist", file: path, remedy: "create the folder first")
    }
    guard let kind = FileSystem.kind(path) else { return }
    guard kind == .folder else {
      throw Refusal("output-not-regular", "is no folder", file: path, remedy: "choose another output")
    }
    let own = try files(in: path)
    for file in try paths(in: path) {
      let isOwn = own.contains(file) || own.contains { $0.hasPrefix(file + "/") }
      guard isOwn, FileSystem.kind(path + "/" + file) != .symbolicLink else {
        throw Refusal(
          "output-not-ours", "holds '\(file)', which no export wrote: it is not replaced", file: path,
          remedy: "choose another output, or remove it yourself")
      }
      if let found = FileIdentity(path: path + "/" + file), inputs.contains(where: found.isSameFile) {
        throw Refusal(
          "output-is-input", "holds '\(file)', one of the files being read", file: path, remedy: "choose another output"
        )
      }
    }
    // Last: only where it helps.
    guard force else {
      throw Refusal("output-exists", "exists already", file: path, remedy: "use --force to replace it")
    }
  }

  /// Creates the folder that receives the files.
  ///
  /// - Throws: as `check`; `Refusal` with rule `output-unwritable`.
  init(_ path: String, force: Bool, inputs: [FileIdentity]) throws {
    try OutputFolder.check(path, force: force, inputs: inputs)
    let (parent, name) = OutputFolder.split(path)
    guard let folder = TemporaryFolder(for: name, in: parent) else {
      throw Refusal(
        "output-unwritable", "no folder can be created there: \(String(cString: strerror(errno)))", file: path)
    }
    self.path = path
    self.force = force
    self.folder = folder
  }

  deinit { if !isDone { OutputFolder.remove(temporary, names) } }

  /// The path of a file to be written, which becomes one of the folder's.
  func file(_ name: String) throws -> String {
    let folder = OutputFolder.split(temporary + "/" + name).parent
    guard FileSystem.createFolder(folder) else { throw unwritable("no folder can be created in it") }
    names.append(name)
    return temporary + "/" + name
  }

  /// Writes a file.
  ///
  /// - Throws: `Refusal` with a rule `output-…`.
  func write(_ name: String, _ bytes: UnsafeRawBufferPointer) throws {
    let file = try AtomicFile(path: file(name))
    try file.append(bytes)
    try file.commit()
  }

  /// Writes the record and gives the folder its name.
  ///
  /// - Throws: `Refusal` with rule `output-exists` or `output-unwritable`.
  func commit(_ record: JSONObject) throws {
    var record = record
    record["files"] = .array((names + [OutputFolder.recordName]).sorted().map { .string($0) })
    try Array(JSONValue.object(record).text(pretty: true).utf8).withUnsafeBytes {
      try write(OutputFolder.recordName, $0)
    }
    // Of its files the names are durable, of those that hold folders not yet.
    for inner in Set(names.map { OutputFolder.split(temporary + "/" + $0).parent }) {
      try FileSystem.synchronize(OutputFolder.split(inner).parent)
    }
    if force, FileSystem.kind(path) != nil {
      // Again: time has passed.
      try OutputFolder.check(path, force: true, inputs: [])
      let old = try OutputFolder.files(in: path)
      try replace()
      isDone = true
      try FileSystem.synchronize(OutputFolder.split(path).parent)
      OutputFolder.remove(temporary, old)
    } else {
      guard rename(temporary, path) == 0 else {
        throw errno == ENOTEMPTY || errno == EEXIST
          ? Refusal("output-exists", "exists already", file: path, remedy: "use --force to replace it") : unwritable()
      }
      isDone = true
      try FileSystem.synchronize(OutputFolder.split(path).parent)
    }
  }

  /// Puts the new folder in the place of the old, which is then where the new one was.
  private func replace() throws {
    if FileSystem.exchange(temporary, path) { return }
    guard errno == EINVAL || errno == ENOSYS || errno == ENOTSUP else { throw unwritable() }
    // For a moment there is neither: a file system that cannot exchange names.
    let old = temporary + ".old"
    guard rename(path, old) == 0 else { throw unwritable() }
    guard rename(temporary, path) == 0 else {
      let refusal = unwritable()
      _ = rename(old, path)
      throw refusal
    }
    _ = rename(old, temporary)
  }

  private func unwritable(_ what: String = "cannot get its name") -> Refusal {
    Refusal("output-unwritable", "\(what): \(String(cString: strerror(errno)))", file: path)
  }

  /// The files that the record of a folder names; none where it has no record.
  private static func files(in folder: String) throws -> [String] {
    let record = folder + "/" + recordName
    guard FileSystem.kind(record) != nil else { return [] }
    let names = try JSONValue.parse(contentsOf: MappedFile(path: record))["files"]?.array?.compactMap(\.string) ?? []
    // Whatever a record says, nothing outside its folder is an export's.
    return names.filter { !$0.hasPrefix("/") && !$0.split(separator: "/").contains("..") }
  }

  /// Removes files of a folder, and the folders that are empty then.
  private static func remove(_ folder: String, _ names: [String]) {
    var folders: Set<String> = []
    for name in names {
      unlink(folder + "/" + name)
      let parent = split(folder + "/" + name).parent
      if parent != folder { folders.insert(parent) }
    }
    for folder in folders { rmdir(folder) }
    rmdir(folder)
  }

  /// The paths of all that is in a folder and the folders in it, relative to it.
  private static func paths(in folder: String) throws -> [String] {
    try FileSystem.names(in: folder).sorted().flatMap { name in
      guard FileSystem.kind(folder + "/" + name) == .folder else { return [name] }
      return try [name] + paths(in: folder + "/" + name).map { "\(name)/\($0)" }
    }
  }

  private static func split(_ path: String) -> (parent: String, name: String) {
    var path = path[...]
    while path.count > 1, path.hasSuffix("/") { path = path.dropLast() }
    guard let slash = path.lastIndex(of: "/") else { return (".", String(path)) }
    return (slash == path.startIndex ? "/" : String(path[..<slash]), String(path[path.index(after: slash)...]))
  }
}
