/// A stage of a long work on files.
public enum WorkStage: String, Sendable, Hashable, CaseIterable {
  /// The model runs on text, and its activations are observed.
  case calibrating
  /// Quantized models are compared on text.
  case comparing
  /// The cost of fewer bits is measured, site by site.
  case measuring
  /// Weights are rounded by what the network gives on text.
  case rounding
  /// Tensors are quantized and written to an `.otq` file.
  case converting
  /// Tensors are written in a format of other tools.
  case exporting
  /// Weights are compared with their source.
  case verifying
  /// Two models run on the same text.
  case running
  /// A model runs on windows of text.
  case evaluating
  /// A model does a task.
  case answering

  /// The unit of a stage's counts: `bytes`, `tokens`, `sites`, `models` `windows` or `items`.
  public var unit: String {
    switch self {
    case .calibrating, .running: "tokens"
    case .comparing: "models"
    case .measuring, .rounding: "sites"
    case .converting, .exporting, .verifying: "bytes"
    case .evaluating: "windows"
    case .answering: "items"
    }
  }
}

/// How far a long work is.
public struct WorkProgress: Sendable, Hashable {
  /// The stage that is under way.
  public let stage: WorkStage
  /// Of the stage, in its unit; at most ``totalCount``.
  public let doneCount: Int
  /// Of the whole stage, in its unit.
  public let totalCount: Int

  /// The part of the stage that is done, 0 … 1.
  public var fraction: Double { totalCount > 0 ? Double(doneCount) / Double(totalCount) : 1 }
}

/// What a long work tells while it goes on, on the thread that it was called on.
package struct WorkObserver {
  /// Called with counts of a stage; what it throws ends the work.
  package typealias Progress = (_ doneCount: Int, _ totalCount: Int) throws -> Void

  /// Called when a stage begins; gives what is called with its counts.
  package var begin: (WorkStage) -> Progress
  /// A line of warning.
  package var warn: (String) -> Void
  /// A line that tells what is done.
  package var note: (String) -> Void

  /// An observer.
  package init(
    begin: @escaping (WorkStage) -> Progress, warn: @escaping (String) -> Void, note: @escaping (String) -> Void
  ) {
    (self.begin, self.warn, self.note) = (begin, warn, note)
  }
}

/// Keeps the warnings of a work, and hands everything on; for one thread.
final class GatheringObserver {
  /// The warnings so far.
  private(set) var warnings: [String] = []
  private let next: WorkObserver

  init(_ next: WorkObserver) { self.next = next }

  /// The observer to give to the work.
  var observer: WorkObserver {
    WorkObserver(
      begin: next.begin,
      warn: { line in
        self.warnings.append(line)
        self.next.warn(line)
      }, note: next.note)
  }
}
