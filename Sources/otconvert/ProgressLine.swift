import Foundation
import OTFoundation
import OTQ

/// Progress on standard error: a bar on a terminal; elsewhere a line for every
/// tenth of what takes longer than a second.
final class ProgressLine {
  private let verb: String
  private let unit: String
  private let isQuiet: Bool
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private let start = Date()
  private var lastDrawn = Date.distantPast
  private var lastTenth = 0

  init(_ verb: String, unit: String, isQuiet: Bool) {
    self.verb = verb
    self.unit = unit
    self.isQuiet = isQuiet
  }

  /// Shows that `done` of `total` bytes, tokens or the like are done.
  func update(_ done: Int, _ total: Int) {
    guard !isQuiet, total > 0 else { return }
    let fraction = Double(done) / Double(total)
    let elapsed = Date().timeIntervalSince(start)
    if isTerminal {
      guard Date().timeIntervalSince(lastDrawn) > 0.1 || done == total else { return }
      lastDrawn = Date()
      let width = 30
      let filled = Int(fraction * Double(width))
      let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
      StandardError.write("\r\u{1B}[K\(verb) \(bar) \(Int(fraction * 100)) %\(rate(done, elapsed, fraction))")
      if done == total { StandardError.write("\r\u{1B}[K") }
    } else if elapsed > 1, Int(fraction * 10) > lastTenth {
      lastTenth = Int(fraction * 10)
      StandardError.write("\(verb) \(lastTenth * 10) %\(rate(done, elapsed, fraction))\n")
    }
  }

  private func rate(_ done: Int, _ elapsed: TimeInterval, _ fraction: Double) -> String {
    guard elapsed > 0.5, fraction > 0 else { return "" }
    let left = elapsed / fraction - elapsed
    return ", \(count(Int(Double(done) / elapsed)))/s, \(Int(left.rounded())) s left"
  }

  private func count(_ count: Int) -> String {
    unit == WorkStage.converting.unit ? byteText(count) : "\(count) \(unit)"
  }

}
