import CZlib
import Foundation
import Testing

/// A headless Chromium, where one is installed.
struct Browser {
  let path: String

  /// Nil where there is none, or where `OTQ_BROWSER` is empty.
  init?() {
    if let given = ProcessInfo.processInfo.environment["OTQ_BROWSER"] {
      guard !given.isEmpty else { return nil }
      path = given
      return
    }
    let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    let paths = names.flatMap { name in folders.map { "\($0)/\(name)" } }
    guard let found = paths.first(where: FileManager.default.isExecutableFile) else { return nil }
    path = found
  }

  private func run(_ arguments: [String], output: String) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments =
      [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1",
        "--allow-file-access-from-files", "--user-data-dir=\(output).profile",
      ] + arguments
    try Data().write(to: URL(fileURLWithPath: output))
    process.standardOutput = FileHandle(forWritingAtPath: output)
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
  }

  /// A picture of a page as its system's colours have it.
  func screenshot(of page: String, width: Int, height: Int, isDark: Bool, in folder: String) throws -> Picture {
    let file = "\(folder)/\(isDark ? "dark" : "light").png"
    // 0 is dark: the page is asked for its own dark colours, not darkened.
    let colours = isDark ? ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] : []
    try run(
      colours + ["--window-size=\(width),\(height)", "--screenshot=\(file)", "file://\(page)"],
      output: folder + "/log")
    return try #require(Picture(png: try Data(contentsOf: URL(fileURLWithPath: file))), "the screenshot is no PNG")
  }

  /// The width of the page's layout in a window of `width`.
  func layoutWidth(of page: String, in width: Int, folder: String) throws -> Int {
    try measure("d.scrollingElement.scrollWidth", of: page, in: width, folder: folder)
  }

  /// The value of an expression about the page's document `d` in a window of
  /// `width`, rounded up, by a page of the tests' own around it.
  func measure(_ expression: String, of page: String, in width: Int, folder: String) throws -> Int {
    let frame = folder + "/frame.html"
    let text = """
      <!DOCTYPE html><body style="margin:0"><iframe src="file://\(page)" style="width:\(width)px;height:800px;border:0"></iframe>
      <script>onload = () => { const d = document.querySelector("iframe").contentDocument
        document.title = "width " + Math.ceil(\(expression)) + " end" }</script>
      """
    try text.write(toFile: frame, atomically: true, encoding: .utf8)
    let output = folder + "/dom"
    try run(["--window-size=1600,900", "--dump-dom", "file://\(frame)"], output: output)
    let dom = try String(contentsOfFile: output, encoding: .utf8)
    let words = dom.split(whereSeparator: { " <>".contains($0) })
    let place = try #require(words.firstIndex(of: "width"), "the page has not been laid out")
    return try #require(Int(words[place + 1]))
  }
}

/// An image, 8 bits a channel.
struct Picture {
  let width: Int
  let height: Int
  /// Count of each colour, 0xRRGGBB.
  let counts: [UInt32: Int]

  /// Decodes what Chromium writes: PNG, RGB or RGBA of 8 bits, not interlaced.
  init?(png: Data) {
    let bytes = [UInt8](png)
    func number(_ offset: Int) -> Int { bytes[offset..<offset + 4].reduce(0) { $0 << 8 | Int($1) } }
    guard bytes.count > 33, bytes.starts(with: [0x89, 0x50, 0x4E, 0x47]), bytes[24] == 8, bytes[28] == 0,
      bytes[25] == 2 || bytes[25] == 6
    else { return nil }
    let (width, height, size) = (number(16), number(20), bytes[25] == 2 ? 3 : 4)
    var packed: [UInt8] = []
    var offset = 8
    while offset + 12 <= bytes.count {
      let count = number(offset)
      guard offset + 12 + count <= bytes.count else { return nil }
      if bytes[offset + 4..<offset + 8].elementsEqual("IDAT".utf8) { packed += bytes[offset + 8..<offset + 8 + count] }
      offset += 12 + count
    }
    let stride = width * size
    var lines = [UInt8](repeating: 0, count: (stride + 1) * height)
    var lineCount = uLongf(lines.count)
    guard uncompress(&lines, &lineCount, packed, uLong(packed.count)) == Z_OK, lineCount == lines.count else {
      return nil
    }
    var above = [UInt8](repeating: 0, count: stride)
    var counts: [UInt32: Int] = [:]
    for row in 0..<height {
      let start = row * (stride + 1)
      var line = Array(lines[start + 1..<start + 1 + stride])
      for index in line.indices {
        let left = index < size ? 0 : Int(line[index - size])
        let up = Int(above[index])
        let corner = index < size ? 0 : Int(above[index - size])
        let predicted: Int
        switch lines[start] {
        case 1: predicted = left
        case 2: predicted = up
        case 3: predicted = (left + up) / 2
        case 4:
          let (a, b, c) = (abs(up - corner), abs(left - corner), abs(left + up - 2 * corner))
          predicted = a <= b && a <= c ? left : b <= c ? up : corner
        default: predicted = 0
        }
        line[index] = line[index] &+ UInt8(truncatingIfNeeded: predicted)
      }
      for pixel in Swift.stride(from: 0, to: stride, by: size) {
        let colour = UInt32(line[pixel]) << 16 | UInt32(line[pixel + 1]) << 8 | UInt32(line[pixel + 2])
        counts[colour, default: 0] += 1
      }
      above = line
    }
    (self.width, self.height, self.counts) = (width, height, counts)
  }
}
