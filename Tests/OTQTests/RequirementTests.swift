import OTFoundation
import OTQ
import Testing

@Suite struct RequirementTests {
  @Test func limitsAreRead() throws {
    let divergence = try Requirement("kl<=0.02")
    #expect(divergence.figure == .divergence && divergence.bound == 0.02 && divergence.text == "kl<=0.02")
    #expect(divergence.holds(0.02) && !divergence.holds(0.0200001) && !divergence.holds(.nan))
    let agreement = try Requirement(" agreement >= 0.95 ")
    #expect(agreement.figure == .agreement && agreement.text == "agreement>=0.95")
    #expect(agreement.holds(0.95) && !agreement.holds(0.9499) && !agreement.holds(.nan))
    #expect(try Requirement("perplexity-ratio<=1e0").bound == 1)
  }

  @Test func tasksHaveFilesWithAnyName() throws {
    let drop = try Requirement("accuracy-drop(data/my <=best>= set.jsonl) <= 0.5")
    #expect(drop.figure == .accuracyDrop(QuestionFile("data/my <=best>= set.jsonl")) && drop.bound == 0.5)
    #expect(drop.text == "accuracy-drop(data/my <=best>= set.jsonl)<=0.5")
    #expect(drop.data?.path == "data/my <=best>= set.jsonl")
    #expect(try Requirement("accuracy(a)>=0.7").figure == .accuracy(QuestionFile("a")))
  }

  /// The task is that of the name before `=`, that which the file is called after, or the general form.
  @Test(arguments: [
    ("piqa.jsonl", "piqa", "piqa.jsonl"), ("x/arc_easy.test.jsonl", "arc_easy", "x/arc_easy.test.jsonl"),
    ("piqa=mine.jsonl", "piqa", "mine.jsonl"), ("mine.jsonl", "multiple_choice", "mine.jsonl"),
    ("a=b.jsonl", "multiple_choice", "a=b.jsonl"), ("/", "multiple_choice", "/"),
  ])
  func tasksOfFiles(_ text: String, _ task: String, _ path: String) {
    let data = QuestionFile(text)
    #expect(data.task == task && data.path == path)
  }

  @Test(arguments: [
    "", "kl", "kl<0.1", "kl=0.1", "kl<=", "kl<=x", "kl<=nan", "kl<=inf", "<=1", "kl>=0.1", "agreement<=0.9",
    "accuracy()>=1", "accuracy(a>=1", "speed>=3", "accuracy-drop(a)>=1", "accuracy(a)<=1", "(a)<=1",
  ])
  func othersAreRefused(_ text: String) {
    #expect(throws: Refusal.self) { try Requirement(text) }
    do throws(Refusal) {
      _ = try Requirement(text)
    } catch {
      #expect(error.rule == "require-form" && error.remedy != nil)
    }
  }

  @Test func theLadderRisesInBits() {
    let ladder = WeightSettings.ladder
    // By the bits that a weight takes with a float32 for each scale, rows taken as long.
    let sizes = ladder.map { Double($0.bits) + ($0.groupSize.map { 32 / Double($0) } ?? 0) }
    #expect(sizes == sizes.sorted() && Set(ladder).count == ladder.count)
    #expect(ladder.first?.description == "--bits 4" && ladder.last?.description == "--bits 8")
  }
}
