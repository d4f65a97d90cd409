import Foundation
import _OTFuzzTargets

/// Runs one target under libFuzzer, whose options follow the target's name.
///
/// Built by `scripts/fuzz` alone, which links libFuzzer.
@main
enum OTFuzz {
  /// The variable of the environment with the target's name.
  private static let variable = "OTQ_FUZZ_TARGET"

  nonisolated(unsafe) private static var target = FuzzTarget.all[0]

  static func main() {
    var arguments = CommandLine.arguments
    // libFuzzer starts the program anew with its own options alone, when it merges.
    if arguments.count > 1, !arguments[1].hasPrefix("-") { setenv(variable, arguments.remove(at: 1), 1) }
    let name = ProcessInfo.processInfo.environment[variable]
    guard let named = FuzzTarget.all.first(where: { $0.name == name }) else {
      for target in FuzzTarget.all { print(target.name) }
      exit(name == nil ? 0 : 64)
    }
    target = named
    let options = [arguments[0], "-max_len=\(named.maximumByteCount)"] + arguments.dropFirst()
    var count = Int32(options.count)
    var values: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = .allocate(capacity: options.count + 1)
    for (index, option) in options.enumerated() { values?[index] = strdup(option) }
    values?[options.count] = nil
    exit(runFuzzer(&count, &values, read))
  }

  private static let read: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32 = { start, count in
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    do {
      _ = try target.run(bytes)
    } catch {
      fatalError("\(target.name) throws what is no refusal: \(error)")
    }
    return 0
  }
}

/// libFuzzer, for programs that have their own `main`.
@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
  _ count: UnsafeMutablePointer<Int32>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
  _ read: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32
