import COTKernels
import OTFoundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A set of instructions for which there are kernels; all give the same results.
package enum InstructionSet: String, Sendable, CaseIterable {
  case scalar
  case avx2
  case avxvnni
  case avx512vnni
  /// AVX-512 VNNI, and for products of more than a few rows AMX.
  case amx
  /// NEON with dot products; i8mm is used where it is there.
  case neon

  /// Environment variable whose value, a raw value of this type, forces a set.
  package static let environmentVariable = "OTQ_ISA"

  /// The sets that this processor and system offer, the slowest first.
  package static var available: [InstructionSet] {
    allCases.filter { Kernels($0) != nil }
  }

  /// The set in use: the forced one where it is available, else the fastest.
  package static var current: InstructionSet { Kernels.current.instructionSet }

  /// Checks what a run depends on, to be called once at the start of a command.
  ///
  /// - Throws: `Refusal` with rule `instruction-set-unknown` or
  ///   `instruction-set-unavailable` when the environment forces a set that
  ///   cannot be had, `float-environment` when this thread's float arithmetic
  ///   does not round to nearest or drops subnormals.
  package static func checkEnvironment() throws {
    if let value = getenv(environmentVariable) { try check(forced: String(cString: value)) }
    guard ot_float_environment_is_standard() != 0 else {
      throw Refusal(
        "float-environment", "float arithmetic does not follow IEEE 754 in this process",
        remedy: "run without preloaded libraries that were built with -ffast-math")
    }
  }

  /// - Throws: as `checkEnvironment()`, for the set named `name`.
  package static func check(forced name: String) throws {
    guard let set = InstructionSet(rawValue: name) else {
      throw Refusal(
        "instruction-set-unknown",
        "\(environmentVariable) is '\(name)', which is not an instruction set",
        remedy: "use one of \(available.map(\.rawValue).joined(separator: ", "))")
    }
    guard Kernels(set) != nil else {
      throw Refusal(
        "instruction-set-unavailable",
        "\(environmentVariable) is '\(name)', which this machine lacks",
        remedy: "use one of \(available.map(\.rawValue).joined(separator: ", "))")
    }
  }
}
