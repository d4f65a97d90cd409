import Foundation
import OTFoundation
import Testing

@Suite struct MachineTests {
  private static let status = "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t%\nMems_allowed:\t1\n"

  /// The files that Linux shows a process, in several places.
  static let cases: [(processors: Int?, bytes: Int?, files: [String: String])] = [
    (nil, nil, [:]),
    (1, nil, ["/proc/self/status": status.replacingOccurrences(of: "%", with: "0")]),
    (6, nil, ["/proc/self/status": status.replacingOccurrences(of: "%", with: "0-3,8,10")]),
    (nil, nil, ["/proc/self/status": status.replacingOccurrences(of: "%", with: "3-1")]),
    // Version 2: a limit of the group above, and no limit in the group itself.
    (
      2, 350_000_000,
      [
        "/proc/self/cgroup": "0::/user.slice/job\n", "/sys/fs/cgroup/user.slice/job/cpu.max": "max 100000\n",
        "/sys/fs/cgroup/user.slice/job/memory.max": "max\n", "/sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n",
        "/sys/fs/cgroup/user.slice/memory.max": "350000000\n",
      ]
    ),
    // A container that sees its own group as the root.
    (
      1, 1 << 30,
      [
        "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "50000 100000\n",
        "/sys/fs/cgroup/memory.max": "1073741824\n",
      ]
    ),
    // Version 1, with the path of the host, of which the container has nothing.
    (
      3, 400_000_000,
      [
        "/proc/self/cgroup": "7:memory:/docker/ab:c\n4:cpu,cpuacct:/docker/ab:c\n3:cpuset:/\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "400000000\n",
        "/sys/fs/cgroup/memory/docker/ab:c/memory.limit_in_bytes": "9223372036854771712\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
      ]
    ),
    (
      nil, nil,
      [
        "/proc/self/cgroup": "4:cpu:/\nnonsense\n", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
      ]
    ),
  ]

  @Test(arguments: cases.indices) func limits(_ index: Int) {
    let expected = Self.cases[index]
    let limits = MachineLimits { expected.files[$0] }
    #expect(limits.processorCount == expected.processors && limits.memoryByteCount == expected.bytes)
  }

  /// The program follows the processors that it may run on, as another program counts them.
  @Test func thisProcess() throws {
    #expect(Machine.processorCount >= 1 && Machine.memoryByteCount > 1 << 20)
    #if os(Linux)
      let nproc = Process()
      nproc.executableURL = URL(fileURLWithPath: "/usr/bin/nproc")
      nproc.environment = [:]
      let pipe = Pipe()
      nproc.standardOutput = pipe
      try nproc.run()
      let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      #expect(try Machine.processorCount <= #require(Int(text.filter { !$0.isWhitespace })))
    #endif
  }
}
