public struct HTMLReport {
  let report: VerificationReport; public init(_ r: VerificationReport) { report = r }; public var text: String { "" }
}
