"""Medians and ratios as Markdown."""
from statistics import median


def markdown(report):
    """Prints the tables of a report."""
    print(f"{report['processor']} ({', '.join(report['instructions'])}), {report['threads']} threads, "
          f"medians of {report['rounds']} rounds")
    for name, model in report["models"].items():
        print(f"\n**{name}**: prompt of {model['prompt']}, decoding {model['decode']}, tokens per second\n")
        print("| file | MB | prompt | decoding |\n| --- | ---: | ---: | ---: |")
        for label, file in model["files"].items():
            print(f"| {label} | {file['byteCount'] / 1e6:.0f} | {median(file['prompt']):.0f} "
                  f"| {median(file['decode']):.1f} |")
        print("\n| ratio | prompt | decoding |\n| --- | ---: | ---: |")
        for mine in ("otq W8A8", "otq W6A8"):
            for theirs in [label for label in model["files"] if not label.startswith("otq") and "F16" not in label]:
                ours, other = model["files"][mine], model["files"][theirs]
                prompt, decode = (median(ours[test]) / median(other[test]) for test in ("prompt", "decode"))
                print(f"| {mine} ÷ {theirs} | {prompt:.2f} | {decode:.2f} |")
        for engine, check in model["checks"].items():
            print(f"\n{engine}: {100 * check:.1f} % of the likeliest tokens are those of PyTorch in float32")
        if model["accuracy"]:
            print("\n| logits | MB | perplexity | mean KL divergence | same likeliest token |")
            print("| --- | ---: | ---: | ---: | ---: |")
            for label, row in model["accuracy"].items():
                print(f"| {label} | {row['byteCount'] / 1e6:.0f} | {row['perplexity']:.3f} | {row['divergence']:.5f} "
                      f"| {100 * row['agreement']:.1f} % |")
        print("\n| converting float16 | seconds | MB/s of source |\n| --- | ---: | ---: |")
        for label, seconds in model["converting"].items():
            rate = model["sourceByteCount"] / 1e6 / median(seconds)
            print(f"| {label} | {median(seconds):.2f} | {rate:.0f} |")
    if "embeddings" in report:
        embedding_table(report["embeddings"])
    print(NOT_COMPARABLE)


def embedding_table(report):
    """Sentences per second of every engine."""
    tasks = list(report["rates"]["otq W8A8"])
    print("\n| MiniLM, sentences per second | " + " | ".join(tasks) + " | mean cosine to float32 |")
    print("| --- |" + " ---: |" * (len(tasks) + 1))
    middles = {label: [median(rates[task]) for task in tasks] for label, rates in report["rates"].items()}
    for label, values in middles.items():
        check = report["checks"].get(label)
        print(f"| {label} | " + " | ".join(f"{value:.0f}" for value in values)
              + f" | {f'{check:.5f}' if check else '–'} |")
    peers = [values for label, values in middles.items() if not label.startswith("otq")]
    if peers:
        best = [max(values) for values in zip(*peers)]
        ratios = " | ".join(f"{ours / peer:.2f}" for ours, peer in zip(middles["otq W8A8"], best))
        print(f"| otq W8A8 ÷ the fastest of the others | {ratios} | |")


def equal_sizes(rows):
    """The table of `compare_sizes` as Markdown."""
    lines = ["| logits | bits/weight of the blocks | MB | perplexity | mean KL divergence | same likeliest token |",
             "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for label, row in rows.items():
        bits = row["bitsPerWeight"]
        lines.append(f"| {label} | {f'{bits:.2f}' if bits else '–'} | {row['byteCount'] / 1e6:.0f} "
                     f"| {row['perplexity']:.3f} | {row['divergence']:.5f} | {100 * row['agreement']:.1f} % |")
    return "\n".join(lines)


NOT_COMPARABLE = """
Not comparable: llama.cpp's Q8_0 and Q6_K have scales for 32 and for 16 weights, ours one for a row; both quantize
activations to 8 bits while running, llama.cpp per 32 or 256 values, ours per token. Q6_K needs rows of a multiple of
256: of SmolLM2, whose rows are 576, llama-quantize makes most of "Q6_K" Q8_0. Token ids are random; llama-bench leaves
out loading, and so do we. otconvert writes SHA-256 of its source and syncs the disk, llama-quantize does not."""
