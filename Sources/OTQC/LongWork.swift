// Names and documentation of the functions are those of otq.h.
// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation

import COTQ
import OTFoundation
import OTJSON
import OTQ
import Synchronization

/// The version of the library, for as long as the process lives.
private let versionText = CText(programVersion)

@c @implementation
public func otq_version() -> UnsafePointer<CChar>? { versionText.address }

@c @implementation
public func otq_abi_version() -> Int32 { Int32(OTQ_ABI_VERSION) }

// MARK: Cancellation and progress

/// A request to end calls.
final class CancellationBox: Sendable {
  let isSet = Atomic(false)
}

@c @implementation
public func otq_cancellation_create() -> OpaquePointer? { Handles.shared.add(CancellationBox()) }

@c @implementation
public func otq_cancellation_cancel(_ cancellation: OpaquePointer?) {
  Handles.shared.find(cancellation, as: CancellationBox.self)?.isSet.store(true, ordering: .relaxed)
}

@c @implementation
public func otq_cancellation_free(_ cancellation: OpaquePointer?) {
  Handles.shared.remove(cancellation, as: CancellationBox.self)
}

/// Tells a caller in C how far a work is, on the thread of the call.
private final class CallersObserver {
  /// The most often that a caller is told of a stage.
  private static let pause = Duration.milliseconds(100)

  private let callback: otq_progress_callback?
  private let context: UnsafeMutableRawPointer?
  private let cancellation: CancellationBox?

  /// - Throws: `Refusal` with rule `argument-handle`.
  init(_ observer: UnsafePointer<otq_observer>?) throws(Refusal) {
    callback = observer?.pointee.progress
    context = observer?.pointee.context
    let handle = observer?.pointee.cancellation
    cancellation = handle == nil ? nil : try Argument.object(handle, "cancellation", as: CancellationBox.self)
  }

  /// The observer to give to the work.
  ///
  /// - Throws: `Refusal.cancelled` where the caller has ended it already.
  func begin() throws(Refusal) -> WorkObserver {
    try check()
    return WorkObserver(begin: progress, warn: { _ in }, note: { _ in })
  }

  private func check() throws(Refusal) {
    if cancellation?.isSet.load(ordering: .relaxed) ?? false { throw .cancelled }
  }

  private func progress(_ stage: WorkStage) -> WorkObserver.Progress {
    let (name, unit) = (CText(stage.rawValue), CText(stage.unit))
    var last: (time: ContinuousClock.Instant, done: Int)?
    return { [self] done, total in
      try check()
      guard let callback else { return }
      let now = ContinuousClock.now
      // Of the end once: after it there may be something to wait for.
      if let last, done == total ? last.done == total : now - last.time < Self.pause { return }
      last = (now, done)
      if callback(name.address, unit.address, Int64(done), Int64(total), context) != 0 { throw Refusal.cancelled }
    }
  }
}

// MARK: Work

@c @implementation
public func otq_convert(
  _ input: UnsafePointer<CChar>?, _ output: UnsafePointer<CChar>?, _ options: UnsafePointer<CChar>?,
  _ observer: UnsafePointer<otq_observer>?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  json?.pointee = nil
  return answer(error) {
    let work = try Misuse.unless { () throws(Refusal) in
      try ConvertWork(
        Argument.text(input, "input"), to: Argument.text(output, "output"),
        ConvertOptions(named: Argument.options(options)))
    }
    // Its figures go nowhere else.
    let result = try work.result(CallersObserver(observer).begin(), comparesHeldOut: json != nil)
    json?.pointee = try CallersMemory.copy(result.json)
  }
}

@c @implementation
public func otq_verify(
  _ path: UnsafePointer<CChar>?, _ options: UnsafePointer<CChar>?, _ observer: UnsafePointer<otq_observer>?,
  _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  json?.pointee = nil
  return answer(error) {
    let work = try Misuse.unless { () throws(Refusal) in
      var options = NamedOptions(try Argument.options(options))
      let reference = try options.text("reference")
      let settings = try VerifyOptions(taking: &options)
      try options.finish()
      return try VerifyWork(Argument.text(path, "path"), reference: reference, settings)
    }
    let result = try work.result(CallersObserver(observer).begin())
    json?.pointee = try CallersMemory.copy(result.json)
    if let refusal = result.refusal { throw refusal }
  }
}

@c @implementation
public func otq_export(
  _ input: UnsafePointer<CChar>?, _ output: UnsafePointer<CChar>?, _ format: UnsafePointer<CChar>?,
  _ options: UnsafePointer<CChar>?, _ observer: UnsafePointer<otq_observer>?,
  _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  json?.pointee = nil
  return answer(error) {
    let work = try Misuse.unless { () throws(Refusal) in
      try ExportWork(
        Argument.text(input, "input"), to: Argument.text(output, "output"), format: Argument.text(format, "format"),
        ExportOptions(named: Argument.options(options)))
    }
    let result = try work.result(CallersObserver(observer).begin())
    json?.pointee = try CallersMemory.copy(result.json)
  }
}

@c @implementation
public func otq_eval(
  _ model: OpaquePointer?, _ against: OpaquePointer?, _ options: UnsafePointer<CChar>?,
  _ observer: UnsafePointer<otq_observer>?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(json, "json", empty: nil, error) {
    let options = try EvaluationOptions(named: Argument.options(options))
    let model = try ModelBox.find(model)
    let reference = against == nil ? nil : try ModelBox.find(against, "against")
    let observer = try CallersObserver(observer).begin()
    return try CallersMemory.copy(options.result(of: model, against: reference, observer).text(pretty: true))
  }
}
