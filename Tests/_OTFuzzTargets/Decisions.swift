import OTConversion
import OTObservation
import OTQuantization

extension FuzzTarget {
  /// Readers of what earlier commands wrote, and of other tools' statistics.
  static let decisions = [
    FuzzTarget("statistics", file: "\(folder)/a.otqstats", maximumByteCount: 2048) { file in
      _ = try ModelObservations(file)
    },
    FuzzTarget("foreign-statistics", file: "\(folder)/a.pt", maximumByteCount: 2048) { file in
      for kind in [ForeignStatistics.Kind.absoluteMaximum, .midpointSum] {
        _ = try ForeignStatistics.vectors(file, kind: kind)
      }
    },
    FuzzTarget("recipe", file: "\(folder)/a.otqrecipe", maximumByteCount: 4096) { _ = try KeptRecipe($0) },
    FuzzTarget("plan", file: "\(folder)/plan.json", maximumByteCount: 6144) { _ = try PartedPlan($0) },
  ]
}
