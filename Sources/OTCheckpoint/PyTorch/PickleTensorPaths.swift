import OTFoundation

/// The tensors of a pickle under dotted paths: dictionary keys and list
/// indices from the root down, joined by dots.
struct PickleTensorPaths {
  /// Index into the heap's tensors, in order of appearance.
  private(set) var tensors: [(path: String, index: Int)] = []
  /// Paths of values that are no tensors (numbers, strings, None …), at most 16.
  private(set) var otherPaths: [String] = []

  /// Keys of the root under which trainers keep the model beside the rest of their state.
  private static let modelKeys = ["state_dict", "model_state_dict", "model", "module"]

  /// The key of the root whose dictionary is the model's, where others than that have tensors, too.
  private(set) var modelKey: String?

  /// A container that is being walked.
  private struct Level {
    let container: Int
    var next = 0
    /// The key or index that led here; nil at the root.
    let key: String?
    /// Bytes of the path down to here.
    let pathByteCount: Int
  }

  private let heap: PickleHeap
  private let file: String
  private let root: Int
  private var levels: [Level] = []
  private var isOnPath: [Bool]

  /// Walks the whole value with an explicit stack.
  ///
  /// - Throws: `Refusal` with rule `pickle-cycle`, `pickle-nesting`,
  ///   `pickle-too-large`, `pickle-key` or `pytorch-root`.
  init(_ result: PickleMachine.Result, file: String) throws {
    heap = result.heap
    self.file = file
    guard case .container(let root) = result.root else {
      throw Refusal(
        "pytorch-root", "holds \(result.root.kindName), not a dictionary of tensors", file: file,
        remedy: "save a state dict (torch.save(model.state_dict(), …))")
    }
    self.root = root
    isOnPath = Array(repeating: false, count: heap.containers.count)
    try walk()
    // Judged last, so that a list that contains itself is called that.
    guard heap.containers[root].isDictionary else {
      throw refuse("pytorch-root", "holds a list, tuple or set, not a dictionary of tensors")
    }
    modelKey = findModelKey()
  }

  private func findModelKey() -> String? {
    let root = heap.containers[root]
    func isTensor(_ value: PickleValue) -> Bool { if case .tensor = value { true } else { false } }
    guard !root.values.contains(where: isTensor) else { return nil }
    let models = PickleTensorPaths.modelKeys.filter { key in
      root[key].flatMap(heap.container).map { $0.isDictionary && $0.values.contains(where: isTensor) } ?? false
    }
    guard models.count == 1, let key = models.first else { return nil }
    return tensors.contains { !$0.path.hasPrefix(key + ".") } ? key : nil
  }

  private mutating func walk() throws {
    var names: Set<String> = []
    var nameByteCount = 0
    var visitCount = 0
    try enter(root, key: nil)
    while var level = levels.popLast() {
      let container = heap.containers[level.container]
      guard level.next < container.values.count else {
        isOnPath[level.container] = false
        continue
      }
      let position = level.next
      level.next += 1
      levels.append(level)
      visitCount += 1
      guard visitCount <= PickleLimits.visitCount else {
        throw refuse("pickle-too-large", "has values that repeat beyond \(PickleLimits.visitCount)")
      }
      let key = container.isDictionary ? container.keys[position] : String(position)
      switch container.values[position] {
      case .container(let index): try enter(index, key: key)
      case .tensor(let index):
        guard container.kind != .set else {
          throw refuse("pickle-key", "has a tensor in a set, where it has no name")
        }
        let name = try path(to: key)
        nameByteCount += name.utf8.count
        guard nameByteCount <= PickleLimits.totalNameByteCount,
          tensors.count < PickleLimits.tensorCount
        else { throw refuse("pickle-too-large", "has too many tensors, or too long names") }
        guard names.insert(name).inserted else {
          throw refuse("pickle-key", "has two tensors under the path '\(name)'")
        }
        tensors.append((name, index))
      default:
        if otherPaths.count < 16 { otherPaths.append(try path(to: key)) }
      }
    }
  }

  private mutating func enter(_ container: Int, key: String?) throws {
    guard !isOnPath[container] else {
      throw refuse("pickle-cycle", "has a container that contains itself")
    }
    guard levels.count < PickleLimits.nestingDepth else {
      throw refuse("pickle-nesting", "nests containers deeper than \(PickleLimits.nestingDepth)")
    }
    isOnPath[container] = true
    let before = levels.last?.pathByteCount ?? 0
    levels.append(
      Level(
        container: container, key: key, pathByteCount: before + (key.map { $0.utf8.count + 1 } ?? 0)
      ))
  }

  private func path(to key: String) throws -> String {
    let byteCount = (levels.last?.pathByteCount ?? 0) + key.utf8.count
    guard byteCount <= PickleLimits.nameByteCount else {
      throw refuse("pickle-key", "has a path longer than \(PickleLimits.nameByteCount) bytes")
    }
    let name = (levels.compactMap(\.key) + [key]).joined(separator: ".")
    let hasControl = name.unicodeScalars.contains(where: PrintableName.isControl)
    guard !name.isEmpty, !hasControl else {
      throw refuse("pickle-key", "has an empty key, or one with control characters")
    }
    return name
  }

  private func refuse(_ rule: String, _ message: String) -> Refusal {
    Refusal(rule, message, file: file)
  }
}
