import ArgumentParser
import Foundation
import OTFoundation

struct MakeCheckpoint: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "make-checkpoint",
    abstract: "Write a LLaMA of random float16 weights, 2048 wide, in the layout of Hugging Face.",
    discussion: "22 layers are 1.1 billion weights, 2.2 GB; a layer is 45 million.")

  @Argument(help: "The folder to make.", completion: .directory) var folder: String
  @Option(help: "Layers.") var layers = 22

  func validate() throws {
    guard (1...1000).contains(layers) else { throw ValidationError("--layers must be 1 to 1000.") }
  }

  func run() throws {
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    } catch {
      throw Refusal("output-exists", "cannot be made: \(error.localizedDescription)", file: folder)
    }
    try RandomCheckpoint(
      hiddenSize: RandomCheckpoint.large.hiddenSize, intermediateSize: RandomCheckpoint.large.intermediateSize,
      layerCount: layers, vocabularySize: RandomCheckpoint.large.vocabularySize
    ).write(to: folder)
  }
}
