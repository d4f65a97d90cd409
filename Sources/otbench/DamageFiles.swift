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
      does. Files are copied first, for each thread. Prints a line of JSON for each file; ends with 1 where damage goes unnoticed.
      """)

  @Argument(help: "Packed files.", completion: .file(extensions: ["otq"])) var files: [String]
  @Option(help: "Flip so many bits at random, not every one, and cut at each MiB, not everywhere.") var random: Int?
  @Option(help: "Seed of the random bits.") var seed: UInt64 = 1
  @Option(help: "Folder for the copies, of which each thread has one.") var folder = NSTemporaryDirectory()
  @Option(help: "Number of threads.") var threads = Machine.processorCount

  func run() throws {
    guard threads > 0 else { throw ValidationError("--threads is at least 1") }
    var isSound = true
    for path in files {
      let counts = try withWorkFolder(in: folder) { try damage(path, in: $0) }
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

  private func damage(_ path: String, in folder: String) throws -> DamageCounts {
    let byteCount = try MappedFile(path: path).byteCount
    let bits = random.map { count in
      var generator = SplitMix64(seed: seed)
      return (0..<count).map { _ in Int.random(in: 0..<byteCount * 8, using: &generator) }
    }
    let lengths = Array(stride(from: byteCount - 1, through: 0, by: random == nil ? -1 : -(1 << 20)))
    let counts = try mapBlocks(threads, threadCount: threads) { worker in
      let copy = try DamagedCopy(of: path, at: "\(folder)/\(worker).otq")
      for index in stride(from: worker, to: bits?.count ?? byteCount * 8, by: threads) {
        copy.flip(bits?[index] ?? index)
      }
      // All is as it was.
      try copy.whole.verify(threadCount: 1)
      for index in stride(from: worker, to: lengths.count, by: threads) { try copy.cut(to: lengths[index]) }
      return copy.counts
    }
    return counts.reduce(into: DamageCounts()) { $0.add($1) }
  }
}

private struct DamageCounts: Sendable {
  var opening = 0
  var verification = 0
  /// The first places whose damage nothing notices.
  var unnoticed: [Int] = []
  var unnoticedCount = 0
  var cuts = 0
  var unnoticedCuts = 0

  mutating func add(_ other: DamageCounts) {
    opening += other.opening
    verification += other.verification
    unnoticed = Array((unnoticed + other.unnoticed).sorted().prefix(16))
    unnoticedCount += other.unnoticedCount
    cuts += other.cuts
    unnoticedCuts += other.unnoticedCuts
  }
}

/// A copy of a file that is damaged and mended again.
private final class DamagedCopy {
  /// The mapping shows what is written to the file, as that of any open file does.
  let whole: Container
  private(set) var counts = DamageCounts()
  private let path: String
  private let handle: FileHandle

  init(of original: String, at path: String) throws {
    try FileManager.default.copyItem(atPath: original, toPath: path)
    self.path = path
    whole = try Container(path: path)
    try whole.verify(threadCount: 1)
    handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
  }

  deinit { try? handle.close() }

  /// Flips a bit, looks whether it is noticed, and flips it back.
  ///
  /// Of data the extent alone that holds the bit is checked. That is what `otconvert verify` says of the whole file:
  /// `verify` checks each extent by its own bytes and by what the metadata say of it, so that of the others it finds
  /// what it found when the copy was made, and opening reads no extent's bytes. Any other bit is of what opening
  /// reads: then all that opening checks is checked anew, in the mapping that there is, and all data.
  func flip(_ bit: Int) {
    let offset = bit / 8
    let byte = whole.file.bytes[offset]
    write(byte ^ 1 << (bit % 8), at: offset)
    defer { write(byte, at: offset) }
    do {
      if try whole.verify(byteAt: offset) == false {
        do {
          try Container(whole.file).verify(threadCount: 1)
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

  /// Cuts the file, which was longer.
  func cut(to length: Int) throws {
    try handle.truncate(atOffset: UInt64(length))
    counts.cuts += 1
    do {
      try Container(path: path).verify(threadCount: 1)
      counts.unnoticedCuts += 1
    } catch is Refusal {}
  }

  private func write(_ byte: UInt8, at offset: Int) {
    withUnsafePointer(to: byte) { _ = pwrite(handle.fileDescriptor, $0, 1, off_t(offset)) }
  }
}
