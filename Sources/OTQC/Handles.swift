import OTFoundation

/// The objects that callers in C hold, by handles that are numbers and no addresses.
///
/// A number is never given twice, so that a handle that is closed, or none, is found out wherever it is used. An
/// object lives until it is closed and no call uses it any more.
struct Handles: ~Copyable {
  static let shared = Handles()

  private struct Table {
    // Aligned as an address would be, and small enough to be none.
    var last: UInt = 0
    var objects: [UInt: any AnyObject & Sendable] = [:]
  }

  private let table = Lock(Table())

  private init() {}

  /// A handle for an object.
  func add(_ object: any AnyObject & Sendable) -> OpaquePointer? {
    let number = table.withLock { table in
      table.last += 16
      table.objects[table.last] = object
      return table.last
    }
    return OpaquePointer(bitPattern: number)
  }

  /// The object of a handle; nil for one that is closed, none or of another kind.
  func find<Object: AnyObject & Sendable>(_ handle: OpaquePointer?, as kind: Object.Type) -> Object? {
    table.withLock { $0.objects[UInt(bitPattern: handle)] as? Object }
  }

  /// Forgets an object; does nothing for a handle that is not of its kind.
  func remove<Object: AnyObject & Sendable>(_ handle: OpaquePointer?, as kind: Object.Type) {
    let number = UInt(bitPattern: handle)
    // It ends outside the lock: that may take a while.
    let object = table.withLock { table in
      table.objects[number] is Object ? table.objects.removeValue(forKey: number) : nil
    }
    _ = consume object
  }
}
