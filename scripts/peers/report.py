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
            for theirs in ("llama.cpp Q8_0", "llama.cpp Q6_K"):
                ours, other = model["files"][mine], model["files"][theirs]
                prompt, decode = (median(ours[test]) / median(other[test]) for test in ("prompt", "decode"))
                print(f"| {mine} ÷ {theirs} | {prompt:.2f} | {decode:.2f} |")
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
        rates = {label: median(values) for label, values in report["embeddings"].items()}
        print("\n| MiniLM, 32 sentences of 64 tokens | sentences per second |\n| --- | ---: |")
        for label, rate in rates.items():
            print(f"| {label} | {rate:.0f} |")
        print(f"| ratio | {rates['otq W8A8'] / rates['otq float32']:.2f} |")
    print(NOT_COMPARABLE)


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
