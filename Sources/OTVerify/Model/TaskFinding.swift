/// What a packed model and its source make of the same task.
package struct TaskFinding: Sendable, Hashable {
  /// A figure of both.
  package struct Figure: Sendable, Hashable {
    /// Its name: `acc`.
    package let name: String
    /// The packed model's.
    package let packed: Double
    /// The source's.
    package let source: Double
    /// The standard error of the packed model's, where it has one.
    package let standardError: Double?

    /// A figure.
    package init(name: String, packed: Double, source: Double, standardError: Double?) {
      (self.name, self.packed, self.source, self.standardError) = (name, packed, source, standardError)
    }
  }

  /// Answers that are right in one model and wrong in the other.
  package struct Flips: Sendable, Hashable {
    /// The packed model has them right.
    package let gained: Int
    /// The source has them right.
    package let lost: Int
    /// Items of which the models choose different answers, right or wrong.
    package let changed: Int
    /// The probability that chance alone makes such a difference, by McNemar's exact test.
    package let p: Double

    /// Flips.
    package init(gained: Int, lost: Int, changed: Int, p: Double) {
      (self.gained, self.lost, self.changed, self.p) = (gained, lost, changed, p)
    }
  }

  /// The task's name.
  package let task: String
  /// The name of the file of its data.
  package let data: String
  /// Items.
  package let itemCount: Int
  /// The first is the one that the field compares.
  package let figures: [Figure]
  /// nil where nothing is right or wrong.
  package let flips: Flips?

  /// Puts the figures together.
  package init(task: String, data: String, itemCount: Int, figures: [Figure], flips: Flips?) {
    (self.task, self.data, self.itemCount) = (task, data, itemCount)
    (self.figures, self.flips) = (figures, flips)
  }
}
