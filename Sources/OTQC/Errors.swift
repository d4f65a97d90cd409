// Names and documentation of the functions are those of otq.h.
// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation

import COTQ
import OTFoundation
import OTQ

/// A refusal as callers in C read it.
final class ErrorBox: Sendable {
  let rule: CText
  let message: CText
  let file: CText?
  let tensor: CText?
  let byteOffset: Int64
  let remedy: CText?
  let description: CText

  init(_ refusal: Refusal) {
    rule = CText(refusal.rule)
    message = CText(refusal.message)
    file = refusal.file.map(CText.init)
    tensor = refusal.tensor.map(CText.init)
    byteOffset = refusal.byteOffset.map(Int64.init) ?? -1
    remedy = refusal.remedy.map(CText.init)
    description = CText(refusal.description)
  }
}

/// Calls `body` and tells the caller how it ended: no error leaves as anything but a value.
func answer(
  _ error: UnsafeMutablePointer<OpaquePointer?>?, _ body: () throws -> Void
) -> otq_status {
  error?.pointee = nil
  do {
    try body()
    return otq_status(OTQ_OK)
  } catch let misuse as Misuse {
    error?.pointee = Handles.shared.add(ErrorBox(misuse.refusal))
    return otq_status(OTQ_MISUSE)
  } catch let thrown {
    let refusal = thrown as? Refusal ?? Refusal("system", "\(thrown)")
    error?.pointee = Handles.shared.add(ErrorBox(refusal))
    return status(of: refusal)
  }
}

/// The same for what is given back in `target`, which is `empty` unless all goes well.
func answer<Value>(
  _ target: UnsafeMutablePointer<Value>?, _ name: String, empty: Value,
  _ error: UnsafeMutablePointer<OpaquePointer?>?, _ body: () throws -> Value
) -> otq_status {
  target?.pointee = empty
  return answer(error) {
    let target = try Argument.present(target, name)
    target.pointee = try body()
  }
}

/// A call that asks for what there is not, whatever the rule says.
struct Misuse: Error {
  let refusal: Refusal

  /// What a call asks for: nothing has been read for it yet, so that its refusals are wrong calls.
  static func unless<Value>(_ asked: () throws(Refusal) -> Value) throws -> Value {
    do {
      return try asked()
    } catch {
      throw Misuse(refusal: error)
    }
  }
}

private func status(of refusal: Refusal) -> otq_status {
  if refusal.rule == Refusal.cancelled.rule { return otq_status(OTQ_CANCELLED) }
  let isMisuse = refusal.rule.hasPrefix("argument-") || refusal.rule.hasPrefix("option-")
  return otq_status(isMisuse ? OTQ_MISUSE : OTQ_REFUSED)
}

// MARK: Accessors

private func box(_ error: OpaquePointer?) -> ErrorBox? { Handles.shared.find(error, as: ErrorBox.self) }

@c @implementation
public func otq_error_rule(_ error: OpaquePointer?) -> UnsafePointer<CChar>? { box(error)?.rule.address }

@c @implementation
public func otq_error_message(_ error: OpaquePointer?) -> UnsafePointer<CChar>? { box(error)?.message.address }

@c @implementation
public func otq_error_file(_ error: OpaquePointer?) -> UnsafePointer<CChar>? { box(error)?.file?.address }

@c @implementation
public func otq_error_tensor(_ error: OpaquePointer?) -> UnsafePointer<CChar>? { box(error)?.tensor?.address }

@c @implementation
public func otq_error_byte_offset(_ error: OpaquePointer?) -> Int64 { box(error)?.byteOffset ?? -1 }

@c @implementation
public func otq_error_remedy(_ error: OpaquePointer?) -> UnsafePointer<CChar>? { box(error)?.remedy?.address }

@c @implementation
public func otq_error_description(_ error: OpaquePointer?) -> UnsafePointer<CChar>? {
  box(error)?.description.address
}

@c @implementation
public func otq_error_free(_ error: OpaquePointer?) { Handles.shared.remove(error, as: ErrorBox.self) }
