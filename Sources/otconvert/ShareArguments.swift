import ArgumentParser
import OTFoundation
import OTQ

/// The share of a work that several machines do, which commands take that have no plan.
struct ShareArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp("The part, from 1. [default: the task of an array job of Slurm]", valueName: "N"))
  var part: Int?
  @Option(help: ArgumentHelp("Share the work among so many.", valueName: "N"))
  var of: Int?

  /// True when the work is shared.
  var isGiven: Bool { of != nil || part != nil }

  mutating func validate() throws {
    guard part == nil || of != nil else { throw ValidationError("--part needs --of.") }
    guard let of else { return }
    guard (1...100_000).contains(of) else { throw ValidationError("--of must be 1 to 100000.") }
    guard (1...of).contains(part ?? 1) else { throw ValidationError("--part must be 1 to \(of).") }
  }

  /// The share; nil: the work is not shared.
  ///
  /// - Throws: `Refusal` with rule `option-value` where neither `--part` nor Slurm says which it is.
  func share() throws -> WorkShare? {
    guard let of else { return nil }
    return try WorkShare(part ?? SlurmTask.current(of: of), of: of)
  }
}
