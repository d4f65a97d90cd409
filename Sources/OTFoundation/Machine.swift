import OTPlatform

/// The part of the machine that this process may use.
package enum Machine {
  private static let limits = MachineLimits(read: FileSystem.text)

  /// Processors that work for it at a time: those it may run on, and no more than its control groups
  /// give it the time of.
  package static let processorCount = max(
    1, min(Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))), limits.processorCount ?? .max))

  /// Bytes of memory that it may have: the machine's, or the least limit of its control groups and
  /// of its address space.
  package static let memoryByteCount: Int = {
    let (pageCount, pageSize) = (Int(sysconf(Int32(_SC_PHYS_PAGES))), Int(sysconf(Int32(_SC_PAGESIZE))))
    // -1 where the system does not say.
    let physical = pageCount > 0 && pageSize > 0 ? pageCount.multipliedChecked(by: pageSize) ?? .max : .max
    var byteCount = min(physical, limits.memoryByteCount ?? .max)
    var limit = rlimit()
    #if os(Linux)
      if getrlimit(__rlimit_resource_t(UInt32(RLIMIT_AS.rawValue)), &limit) == 0 {
        byteCount = min(byteCount, Int(clamping: limit.rlim_cur))
      }
    #endif
    return byteCount
  }()
}

/// The limits that Linux sets a process: affinity, and the control groups of both versions.
package struct MachineLimits: Sendable, Equatable {
  /// Processors; nil: no limit.
  package let processorCount: Int?
  /// Bytes of memory; nil: no limit.
  package let memoryByteCount: Int?

  /// Reads the limits of the process itself.
  ///
  /// - Parameter read: gives the text of a file; nil where there is none.
  package init(read: (String) -> String?) {
    var processorCounts = [MachineLimits.affinity(read("/proc/self/status") ?? "")].compactMap { $0 }
    var byteCounts: [Int] = []
    func number(_ text: String?) -> Int? { text.flatMap { Int($0.filter { !$0.isWhitespace }) } }
    func add(quota: Int?, period: Int?) {
      guard let quota, let period, quota > 0, period > 0 else { return }
      processorCounts.append(max(1, quota / period + (quota % period > 0 ? 1 : 0)))
    }
    for group in MachineLimits.groups(read("/proc/self/cgroup") ?? "") {
      // Within a container the path may be that of the host: then the root is the container's.
      for path in MachineLimits.pathAndAbove(group.path) {
        if group.controllers.isEmpty {
          let folder = "/sys/fs/cgroup" + path
          let parts = (read(folder + "/cpu.max") ?? "").split(whereSeparator: \.isWhitespace)
          if parts.count == 2 { add(quota: Int(parts[0]), period: Int(parts[1])) }
          if let limit = number(read(folder + "/memory.max")) { byteCounts.append(limit) }
        }
        if group.controllers.contains("memory"),
          let limit = number(read("/sys/fs/cgroup/memory\(path)/memory.limit_in_bytes"))
        {
          byteCounts.append(limit)
        }
        if group.controllers.contains("cpu") {
          let folder = "/sys/fs/cgroup/cpu" + path
          add(quota: number(read(folder + "/cpu.cfs_quota_us")), period: number(read(folder + "/cpu.cfs_period_us")))
        }
      }
    }
    processorCount = processorCounts.min()
    memoryByteCount = byteCounts.filter { $0 > 0 }.min()
  }

  /// The number of processors in `Cpus_allowed_list:	0-3,8`.
  private static func affinity(_ status: String) -> Int? {
    let mark = "Cpus_allowed_list:"
    guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix(mark) }) else { return nil }
    var count = 0
    for range in line.dropFirst(mark.count).split(separator: ",") {
      let ends = range.split(separator: "-").map { Int($0.filter { !$0.isWhitespace }) }
      guard let first = ends.first ?? nil, let last = ends.last ?? nil, first >= 0, last >= first, last < 1 << 20 else {
        return nil
      }
      count += last - first + 1
    }
    return count > 0 ? count : nil
  }

  /// The lines `number:controllers:path`; version 2 has no controllers.
  private static func groups(_ text: String) -> [(controllers: [Substring], path: Substring)] {
    text.split(separator: "\n").compactMap { line in
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      return parts.count == 3 ? (parts[1].split(separator: ","), parts[2]) : nil
    }
  }

  /// `/a/b`, `/a` and the root, each without a slash at its end.
  private static func pathAndAbove(_ path: Substring) -> [String] {
    var parts = path.split(separator: "/")
    var result: [String] = []
    while !parts.isEmpty {
      result.append("/" + parts.joined(separator: "/"))
      parts.removeLast()
    }
    return result + [""]
  }
}
