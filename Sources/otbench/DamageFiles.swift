import ArgumentParser
import Foundation
import OTContainer
import OTFoundation
import OTJSON

/// Whether damage to `.otq` files is noticed: `scripts/check-damage`.
struct DamageFiles: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "damage",
    abstract: "Flip the bits of .otq files, one at a time, and cut them, and tell what notices it.",
    discussion: """
      A flipped bit is noticed by opening the file, or else by checking the data in which it is, as 'otconvert verify'
      does. Files are copied first. Prints a line of JSON for each file; ends with 1 where damage goes unnoticed.
      """)

  @Argument(help: "Packed files.", completion: .file(extensions: ["otq"])) var files: [String]
  @Option(help: "Flip so many bits at random, not every one, and cut at each MiB, not everywhere.") var random: Int?
  @Option(help: "Seed of the random bits.") var seed: UInt64 = 1
  @Option(help: "Folder for the copies.") var folder = NSTemporaryDirectory()

  private struct Counts {
    var opening = 0
    var verification = 0
    /// The first places whose damage nothing notices.
    var unnoticed: [Int] = []
    var unnoticedCount = 0
    var cuts = 0
    var unnoticedCuts = 0
  }

  func run() throws {
    var isSound = true
    for path in files {
      let counts = try withWorkFolder(in: folder) { try damage(path, copy: "\($0)/damaged.otq") }
      isSound = isSound && counts.unnoticedCount == 0 && counts.unnoticedCuts == 0
      let line: JSONObject = [
        "file": .string(path), "opening": .integer(counts.opening), "verification": .integer(counts.verification),
        "unnoticed": .integer(counts.unnoticedCount), "places": .array(counts.unnoticed.map { .integer($0) }),
        "cuts": .integer(counts.cuts), "unnoticedCuts": .integer(counts.unnoticedCuts),
      ]
      print(JSONValue.object(line).text())
    }
    if !isSound { throw ExitCode(1) }
  }

  private func damage(_ path: String, copy: String) throws -> Counts {
    try FileManager.default.copyItem(atPath: path, toPath: copy)
    let byteCount = try MappedFile(path: copy).byteCount
    // The mapping shows what is written to the file, as that of any open file does.
    let whole = try Container(path: copy)
    try whole.verify(threadCount: 2)
    let handle = try FileHandle(forUpdating: URL(fileURLWithPath: copy))
    defer { try? handle.close() }
    func write(_ byte: UInt8, at offset: Int) {
      withUnsafePointer(to: byte) { _ = pwrite(handle.fileDescriptor, $0, 1, off_t(offset)) }
    }
    var counts = Counts()
    func flip(_ bit: Int) {
      let offset = bit / 8
      let byte = whole.file.bytes[offset]
      write(byte ^ 1 << (bit % 8), at: offset)
      defer { write(byte, at: offset) }
      do {
        // Opening reads no data, and what it reads is no data.
        if try whole.verify(byteAt: offset) == false {
          do {
            try Container(path: copy).verify(threadCount: 2)
          } catch is Refusal {
            counts.opening += 1
            return
          }
        }
        counts.unnoticedCount += 1
        if counts.unnoticed.count < 16 { counts.unnoticed.append(bit) }
      } catch {
        counts.verification += 1
      }
    }
    if let random {
      var generator = SplitMix64(seed: seed)
      for _ in 0..<random { flip(Int.random(in: 0..<byteCount * 8, using: &generator)) }
    } else {
      for bit in 0..<byteCount * 8 { flip(bit) }
    }
    try whole.verify(threadCount: 2)
    for length in stride(from: byteCount - 1, through: 0, by: random == nil ? -1 : -(1 << 20)) {
      try handle.truncate(atOffset: UInt64(length))
      counts.cuts += 1
      do {
        try Container(path: copy).verify(threadCount: 2)
        counts.unnoticedCuts += 1
      } catch is Refusal {}
    }
    return counts
  }
}
