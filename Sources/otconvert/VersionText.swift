import COTBuild
import OTContainer
import OTFoundation
import OTKernels

/// What `--version` prints: the program and its build, the format that it writes, and whose kernels run here.
enum VersionText {
  static var lines: String {
    let build = String(cString: ot_build())
    return """
      otconvert \(programVersion)\(build.isEmpty ? "" : " (build \(build))")
      .otq format \(ContainerFormat.majorVersion).\(ContainerFormat.minorVersion)
      instruction set \(InstructionSet.current.rawValue)
      """
  }
}
