import OTContainer
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTTensor

/// The result of recomputing every weight of a packed file from its source, and
/// of comparing its graph with the one that the source's family gives.
package struct WeightVerification: Sendable {
  /// A finding for every node whose operation differs, then one for every tensor
  /// of the source, and of the file.
  package private(set) var findings: [TensorFinding]
  /// Oddities that are no faults.
  package let notes: [String]

  /// Findings with faults.
  package var offenders: [TensorFinding] { findings.filter { !$0.faults.isEmpty } }
  /// True when no finding has a fault.
  package var hasPassed: Bool { offenders.isEmpty }

  /// Puts the figures together.
  package init(findings: [TensorFinding], notes: [String]) {
    (self.findings, self.notes) = (findings, notes)
  }

  /// Adds to weights what they lose of their linears' outputs, and judges them by it.
  ///
  /// - Parameter errors: by the tensor's name in the file.
  package mutating func add(outputErrors errors: [String: OutputComparison.Errors], tolerance: Tolerance) {
    for index in findings.indices {
      guard let found = errors[findings[index].storedName] else { continue }
      findings[index].outputErrors = found
      let limit = tolerance.maximumOutputErrorRatio
      guard !(found.ratio <= limit) else { continue }
      findings[index].faults.append(
        "on this text its linear's outputs are \(found.ratio.rounded(toPlaces: 3)) times as wrong as with each weight "
          + "rounded to nearest, \(limit) is allowed")
    }
  }

  /// Compares `file` with the checkpoint it was made from.
  ///
  /// Every tensor of the source must be in the file and every tensor of the
  /// file with a source must be in the source; every weight must be within
  /// half a step of the transformed source or at the end of its range; every
  /// node of the graph must be the source's, but for what migration does.
  ///
  /// - Parameter share: the part that is compared, whose findings follow those of the parts before it; nil: all.
  /// - Throws: `Refusal` when the file is damaged or the source cannot be read.
  package init(
    of file: PackedModel, reference: SourceModel, tolerance: Tolerance = Tolerance(), threadCount: Int = 1,
    share: WorkShare? = nil, progress: ((Int, Int) throws -> Void)? = nil
  ) throws {
    try file.container.verify(threadCount: threadCount, share: share)
    var (findings, notes): ([TensorFinding], [String]) = ([], [])
    if share?.isFirst ?? true { (findings, notes) = WeightVerification.graphFindings(file, reference) }
    var stored: [String: [StoredTensor]] = [:]
    for tensor in file.container.tensors {
      if let source = tensor.source { stored[source.name, default: []].append(tensor) }
    }
    let comparison = TensorComparison(
      file: file, reference: reference.checkpoint, parameters: reference.parameters,
      tolerance: tolerance, threadCount: threadCount)
    let views = reference.checkpoint.tensors
    let range = share?.range(of: views.map(\.byteCount)) ?? views.indices
    let totalByteCount = views[range].reduce(0) { $0 + $1.byteCount }
    var doneByteCount = 0
    for view in views[range] {
      guard let parts = stored.removeValue(forKey: view.name) else {
        findings.append(
          TensorFinding(name: view.name, storage: "missing", faults: ["is in the source and not in the file"]))
        continue
      }
      if let fault = WeightVerification.fault(ofParts: parts, of: view, in: file) {
        findings.append(TensorFinding(name: view.name, storage: "parts", faults: [fault]))
      }
      for tensor in parts { findings.append(try comparison.finding(tensor, view)) }
      doneByteCount += view.byteCount
      try progress?(doneByteCount, totalByteCount)
    }
    for view in views { stored[view.name] = nil }
    let isLast = share?.isLast ?? true
    for name in isLast ? stored.keys.sorted() : [] {
      findings.append(
        TensorFinding(name: name, storage: "foreign", faults: ["is in the file and not in the source"]))
    }
    for tensor in file.container.tensors where isLast && tensor.source == nil {
      if let finding = try comparison.gained(tensor) { findings.append(finding) }
    }
    self.findings = findings
    self.notes = notes + (share?.isFirst ?? true ? WeightVerification.notes(file, reference) : [])
  }

  /// The fault of the tensors that stand for one of the source: together they must be all of it, each
  /// element once.
  private static func fault(ofParts parts: [StoredTensor], of view: TensorView, in file: PackedModel) -> String? {
    let places = parts.map { part in
      (file.uses[part.name]?.tensor ?? .named(view.name)).place(in: part.source?.shape ?? part.shape)
    }
    let names = parts.map { "'\($0.name)'" }.joined(separator: " and ")
    guard let shape = parts.first.map({ $0.source?.shape ?? $0.shape }), shape == view.shape, !places.contains(nil)
    else { return parts.count > 1 ? "\(names) cannot be parts of shape \(view.shape)" : nil }
    let whole = places.compactMap { $0 }.filter { $0.isWhole(of: shape) }
    if whole.count > 1 { return "\(names) both stand for it" }
    return SourcePlace.cover(places.compactMap { $0 }, shape) ? nil : "\(names) do not make it up, each element once"
  }

  /// The differences between the file's graph and the source's.
  private static func graphFindings(
    _ file: PackedModel, _ reference: SourceModel
  ) -> (findings: [TensorFinding], notes: [String]) {
    // A file without a graph has no function that could differ.
    guard let graph = file.graph else { return ([], []) }
    func finding(_ name: String, _ fault: String) -> TensorFinding {
      TensorFinding(name: name, storage: "graph", faults: [fault])
    }
    do {
      let source = try reference.graph()
      guard graph.missing == source.missing else {
        let missing = Set(graph.missing).symmetricDifference(source.missing).sorted().joined(separator: ", ")
        return ([], ["the graphs were not compared, since one of them lacks \(missing)"])
      }
      return (graph.differences(from: source).map { finding($0.name, $0.message) }, [])
    } catch var refusal as Refusal {
      // What helps a conversion does not help who verifies.
      refusal.remedy = "verify against the checkpoint that was converted"
      return ([finding("graph", "cannot be had from the source: \(refusal)")], [])
    } catch {
      return ([finding("graph", "cannot be had from the source: \(error)")], [])
    }
  }

  /// Notes on source files that the packed file has not recorded, or has recorded with another size.
  private static func notes(_ file: PackedModel, _ reference: SourceModel) -> [String] {
    let recorded = file.container.metadata["sources"]?.array ?? []
    return reference.checkpoint.files.compactMap { source in
      let entry = recorded.first { $0["name"]?.string == source.name }
      guard let entry else { return "the file was not made from a source named \(source.name)" }
      guard entry["byteCount"]?.integer == source.mapped.byteCount else {
        return "\(source.name) has another size than the source that was converted"
      }
      return nil
    }
  }
}
