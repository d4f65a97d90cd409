import CDNNL

/// oneDNN as it is installed: it is looked for at run time, and nobody needs it to build.
struct OneDNN: Sendable {
  /// Nil where it is not installed.
  static let installed: OneDNN? = {
    var library = ot_dnnl_library()
    return ot_dnnl_open(&library) != 0 ? OneDNN(library: library) : nil
  }()

  /// Its functions; it is never closed.
  let library: ot_dnnl_library

  var version: String { "\(library.major).\(library.minor)" }

  /// Lets it use so many threads: those of OpenMP, whose library comes with it.
  func setThreadCount(_ count: Int) { library.set_thread_count?(Int32(count)) }
}
